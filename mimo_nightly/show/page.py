"""The history as one HTML page: no script, no request.

The page is page.html.j2 within runtime_check's base.html.j2.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from mimo_nightly.history import History, Run, TargetResult
from runtime_check.gate import LAYER
from runtime_check.report.page.page import environment
from runtime_check.report.safe_text import safe

from .changes import changes, short
from .figures import (
    NEVER_RUN,
    RUNS,
    Figure,
    Series,
    Since,
    counted,
    duration,
    known_before,
    moment,
    over_runs,
    overall,
    series_of,
    since,
    state_word,
    worst_figures,
)
from .not_sent import not_sent
from .sparklines import line, strip

REASONS = 20  # of one target, that are shown at once
FIRST_REASONS = 3  # of them in the banner


def as_html(history: History, names: Sequence[str], is_there: Callable[[str], bool] = bool) -> str:
    """The page for the targets of these names, in order, deterministic.

    Links to reports, as far as they are still there, are relative to the pages' folder. Other targets of the history
    are listed at the end.
    """
    runs = history.runs()
    views = [TargetView(f"target-{number}", name, runs[-RUNS:], history) for number, name in enumerate(names, 1)]
    words = [view.word for view in views]
    finished = [run for run in runs if run.finished]
    return template().render(
        verdict=overall(words),
        told=counted(words),
        views=views,
        troubled=[view for view in views if view.problems],
        retired=[RetiredView(name, since(history, name)) for name in history.targets() if name not in names],
        last=finished[-1] if finished else None,
        unfinished=runs[-1] if runs and not runs[-1].finished else None,
        is_there=is_there,
        not_sent=safe(not_sent(history)),
        done=len(history.of_run(runs[-1].run)) if runs else 0,
        n_runs=len(runs),
        RUNS=min(RUNS, len(runs)),
        REASONS=REASONS,
        FIRST_REASONS=FIRST_REASONS,
    )


@cache
def template() -> jinja2.Template:
    found = environment(Path(__file__).parent)
    found.filters |= {
        "address": quote, "agreement": agreement_of, "duration": duration, "log": log_of, "moment": moment,
        "safe_text": safe, "short": short,
    }  # fmt: skip
    return found.get_template("page.html.j2")


def log_of(report: str) -> str:
    """The path of a target's log, beside its report."""
    return str(PurePosixPath(report).with_suffix(".log"))


def agreement_of(report: str) -> str:
    """The path of a target's page of agreement, beside its report."""
    return str(PurePosixPath(report).with_suffix(".agreement.html"))


class RetiredView(NamedTuple):
    """A target that the config no longer has."""

    name: str
    since: Since | None


class Change(NamedTuple):
    """Changes since another run; none if `what` is empty."""

    since: str
    run: TargetResult
    what: Sequence[str]


@dataclass(frozen=True)
class TargetView:
    """A target over the last `runs`."""

    anchor: str
    target: str
    runs: Sequence[Run]
    history: History

    @property
    def name(self) -> str:
        return str(safe(self.target))

    @cached_property
    def results(self) -> list[TargetResult]:
        """The last results, oldest first; one more than is drawn, for comparison."""
        return self.history.results_of_target(self.target, RUNS + 1)

    @property
    def last(self) -> TargetResult | None:
        return self.results[-1] if self.results else None

    @cached_property
    def since(self) -> Since | None:
        return since(self.history, self.target)

    @property
    def word(self) -> str:
        return self.since.word if self.since else NEVER_RUN

    @property
    def problems(self) -> list[str]:
        return [safe(problem.text) for problem in self.last.problems] if self.last else []

    @cached_property
    def good(self) -> TargetResult | None:
        """The last good run; None if it is the last run."""
        found = self.history.last_good(self.target)
        return found if found and self.last and found.run != self.last.run else None

    @property
    def pending(self) -> bool:
        """Whether the newest run has no result of this target yet."""
        return bool(self.last and self.runs and self.last.run != self.runs[-1].run)

    @cached_property
    def changed(self) -> list[Change]:
        """Changes since the run before, and since the last good one."""
        if not self.last or not self.last.files:
            return []
        before = known_before(self.results, self.last.run)
        found = [Change("the run before", before, changes(before, self.last))] if before else []
        if self.good and before and self.good.run != before.run:
            found.append(Change("the last good run", self.good, changes(self.good, self.last)))
        return [one._replace(what=safe(one.what)) for one in found]

    @property
    def figures(self) -> list[Figure]:
        return worst_figures(self.last) if self.last else []

    @property
    def figure_of(self) -> dict[str, Figure]:
        return {figure.metric.field: figure for figure in self.figures}

    # ── over the runs ────────────────────────────────────────────────────────────────────────────────────────────

    @cached_property
    def drawn(self) -> list[TargetResult | None]:
        return over_runs(self.runs, self.results)

    @cached_property
    def changes_at(self) -> dict[int, list[str]]:
        """Index of a run → what changed since the run before."""
        found = {}
        for place, result in enumerate(self.drawn):
            before = known_before(self.results, result.run) if result else None
            if result and before and (what := changes(before, result)):
                found[place] = safe(what)
        return found

    @property
    def strip(self) -> Markup:
        words = [state_word(one.state, one.scope) if one else None for one in self.drawn]
        notes = ["; ".join([f"run {run.run}, {moment(run.started)}: {word}", *self.changes_at.get(place, [])])
                 for place, (run, word) in enumerate(zip(self.runs, words, strict=True))]  # fmt: skip
        return strip(f"The last runs of {self.name}", words, notes, self.changes_at)

    @property
    def rows(self) -> list["RunRow"]:
        """The drawn runs, newest first."""
        found = [RunRow(result, state_word(result.state, result.scope), self.changes_at.get(place, []))
                 for place, result in enumerate(self.drawn) if result]  # fmt: skip
        return found[::-1]

    @cached_property
    def clips(self) -> list["ClipView"]:
        series = series_of(self.drawn)
        by_clip = {one.clip: [other for other in series if other.clip == one.clip] for one in series}
        newest = max((place for one in series for place in one.known), default=0)
        return [ClipView(safe(clip), of_clip, newest, self) for clip, of_clip in by_clip.items()]


class RunRow(NamedTuple):
    """A run in a target's list."""

    result: TargetResult
    word: str
    changed: Sequence[str]


@dataclass(frozen=True)
class ClipView:
    """The series of a target on one clip; `newest` is the index of the last run with measurements."""

    name: str
    series: Sequence[Series]
    newest: int
    target: TargetView

    @property
    def failed(self) -> int:
        """The number of stages that failed when last measured."""
        return len({(one.file, one.stage) for one in self.series if self.newest in one.failed})

    @property
    def as_of(self) -> int | None:
        """The run of the newest figures, if the target's last run has none."""
        run = self.target.runs[self.newest].run
        return run if self.target.last and run != self.target.last.run else None

    @property
    def files(self) -> Iterator[tuple[str, list["SeriesView"]]]:
        """Rows by file: its stages, and the worst of its layers."""
        for file, series in groupby(self.series, key=lambda one: one.file):
            yield safe(file), list(self._rows(list(series)))

    def _rows(self, series: Sequence[Series]) -> Iterator["SeriesView"]:
        layers = [one for one in series if one.kind == LAYER]
        told = False
        for one in series:
            if one not in layers:
                yield self._view(one)
            elif not told:
                told = True
                failed = sum(self.newest in layer.failed for layer in layers)
                note = f"worst of {len(layers)} layers" + (f", {failed} failed" if failed else "")
                yield self._view(worst_of(layers), note)

    @property
    def layers(self) -> list["SeriesView"]:
        return [self._view(one) for one in self.series if one.kind == LAYER]

    def _view(self, series: Series, note: str = "") -> "SeriesView":
        return SeriesView(series, note, self.target, self.newest)


def worst_of(layers: Sequence[Series]) -> Series:
    """The layer with the largest error when last measured."""
    return max(layers, key=lambda one: one.error(one.known[-1]))


@dataclass(frozen=True)
class SeriesView:
    """A series as a line, with its figures as text."""

    series: Series
    note: str
    target: TargetView
    newest: int

    @property
    def name(self) -> str:
        return str(safe(self.series.name))

    @property
    def failed(self) -> bool:
        """Whether the stage failed when last measured."""
        return self.newest in self.series.failed

    @property
    def first(self) -> str:
        return self.series.text(self.series.known[0])

    @property
    def now(self) -> str:
        """The newest value; a dash if it was not measured then."""
        return self.series.text(self.newest)

    @property
    def lowest(self) -> str:
        """The newest minimum, of a cosine."""
        value = self.series.lowest[self.newest] if self.series.metric.field == "cos_mean" else None
        return self.series.metric.write(value)

    @property
    def worst(self) -> str:
        return self.series.text(self.series.worst)

    @property
    def worst_run(self) -> str:
        """The run of the worst value; empty if all are about equal."""
        return f"run {self.target.runs[self.series.worst].run}" if self.worst != self.now else ""

    @property
    def line(self) -> Markup:
        description = f"{self.first} at first, {self.now} now, {self.worst} at worst"
        return line(self.series, description, self.target.changes_at)
