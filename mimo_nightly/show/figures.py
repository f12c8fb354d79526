"""Figures of the history: states, series of metrics over runs, worst values."""

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from mimo_convert.numbers_text import cosine, percent, rate, small
from mimo_nightly.history import FAILED, HEADER, PASSED, UNCHECKED, History, Run, StageRow, TargetResult

RUNS = 30  # the last, that are drawn
FALL = 1.25  # times the error before; less is not worth a word

PASS, FAIL, NOT_CHECKED, HEADER_ONLY, NEVER_RUN = "PASS", "FAIL", "NOT CHECKED", "HEADER ONLY", "NEVER RUN"
SIGNS = {PASS: "✓", FAIL: "✗", NOT_CHECKED: "?", HEADER_ONLY: "✓", NEVER_RUN: "–"}
WORDS = {PASSED: PASS, FAILED: FAIL, UNCHECKED: NOT_CHECKED}


def state_word(state: str, scope: str) -> str:
    """A target's state: PASS, FAIL, NOT CHECKED, or HEADER ONLY."""
    word = WORDS[state]
    return HEADER_ONLY if word == PASS and scope == HEADER else word


class Since(NamedTuple):
    """A state, the number of consecutive runs in it, and when the first began."""

    word: str
    runs: int
    started: str


def since(history: History, target: str) -> Since | None:
    """The present state of a target and since when; None if it never ran."""
    found = history.states(target)
    if not found:
        return None
    word, runs = state_word(found[-1].state, found[-1].scope), 0
    for one in reversed(found):
        if state_word(one.state, one.scope) != word:
            break
        runs += 1
    return Since(word, runs, found[-runs].started)


def overall(words: Collection[str]) -> str:
    """The overall state of all targets."""
    if FAIL in words:
        return FAIL
    return NOT_CHECKED if not words or {NOT_CHECKED, NEVER_RUN} & set(words) else PASS


def counted(words: Sequence[str]) -> str:
    """A summary of all states: `1 of 4 targets failed, 1 could not be checked`."""
    n = len(words)
    targets = f"{n} target{'s' * (n != 1)}"
    told = (
        (FAIL, "failed"),
        (NOT_CHECKED, "could not be checked"),
        (NEVER_RUN, "never ran"),
        (HEADER_ONLY, "passed by the header alone"),
    )
    parts = [(words.count(word), what) for word, what in told if word in words]
    if not parts:
        return "the only target passed" if n == 1 else f"all {targets} passed" if n else "there are no targets"
    (first, what), *others = parts
    return ", ".join([f"{first} of {targets} {what}", *(f"{count} {other}" for count, other in others)])


# ── figures of one run ───────────────────────────────────────────────────────────────────────────────────────────


class Metric(NamedTuple):
    """A metric of stages. `field` is StageRow's; `error` maps a value to its distance from the best, `least` being the
    smallest shown."""

    field: str
    name: str
    write: Callable[[float | None], str]
    error: Callable[[float], float]
    least: float

    def of(self, row: StageRow) -> float | None:
        """The value at a stage; None if missing or not finite."""
        value = getattr(row, self.field)
        return value if value is not None and math.isfinite(value) else None


COSINE = Metric("cos_mean", "cosine", cosine, lambda value: 1 - value, 1e-7)
LOWEST_COSINE = COSINE._replace(field="cos_min", name="lowest cosine")
AGREEMENT = Metric("agreement", "agreement", percent, lambda value: 1 - value, 1e-3)
KL = Metric("kl_mean", "KL divergence", small, lambda value: value, 1e-6)
ERROR_RATE = Metric("error_rate", "word error rate", rate, lambda value: value, 1e-3)
RMSE = Metric("rel_rmse", "relative RMSE", small, lambda value: value, 1e-7)
DRAWN = (COSINE, AGREEMENT, KL, ERROR_RATE, RMSE)  # RMSE where a stage has nothing else
TOLD = (ERROR_RATE, LOWEST_COSINE, KL)  # of a target as a whole


class Figure(NamedTuple):
    """The worst value of a metric in a run, and its stage."""

    metric: Metric
    value: float
    stage: str

    @property
    def text(self) -> str:
        return self.metric.write(self.value)


def worst(metric: Metric, rows: Iterable[StageRow]) -> Figure | None:
    """The worst value of a metric over stages, files and clips."""
    found = [Figure(metric, value, row.stage) for row in rows if (value := metric.of(row)) is not None]
    return max(found, key=lambda one: metric.error(one.value), default=None)


def worst_figures(result: TargetResult) -> list[Figure]:
    """The key numbers of a target, as far as they were measured."""
    return [figure for metric in TOLD if (figure := worst(metric, result.stages)) is not None]


# ── figures over the runs ────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Series:
    """A metric at one stage of one file on one clip: a value per run, None if missing.

    `failed` are the indices of runs in which the stage failed; `lowest` the minimum cosines.
    """

    file: str
    clip: str
    stage: str
    kind: str
    metric: Metric
    values: Sequence[float | None]
    failed: Collection[int] = ()
    lowest: Sequence[float | None] = ()

    @property
    def name(self) -> str:
        """The stage, with the metric unless it is obvious."""
        return self.stage if self.metric is COSINE or self.metric is ERROR_RATE else f"{self.stage}, {self.metric.name}"

    @property
    def known(self) -> list[int]:
        """Indices with a value."""
        return [place for place, value in enumerate(self.values) if value is not None]

    @property
    def worst(self) -> int:
        """The index of the worst value, the last of equals."""
        return max(self.known, key=lambda place: (self.error(place), place))

    def error(self, place: int) -> float:
        """The distance of a value from the best."""
        value = self.values[place]
        return math.inf if value is None else max(self.metric.error(value), self.metric.least)

    def text(self, place: int) -> str:
        """A value as text."""
        return self.metric.write(self.values[place])

    @property
    def fell(self) -> int | None:
        """The index at which the error grew most from one value to the next; None unless by a quarter."""
        known = self.known
        grown = [(self.error(b) / self.error(a), b) for a, b in pairwise(known)]
        most, place = max(grown, default=(1.0, 0))
        return place if most > FALL else None

    def heights(self) -> list[float | None]:
        """Heights from 0 to 1 (best) in a drawing, on a logarithmic scale of the error.

        A range of less than a factor of two does not fill the drawing, so that rounding does not look like a drop.
        """
        logs = [None if value is None else math.log(self.error(i)) for i, value in enumerate(self.values)]
        there = [value for value in logs if value is not None] or [0.0]
        span = max(max(there) - min(there), math.log(2))
        return [None if value is None else 1 - (value - min(there)) / span for value in logs]


def series_of(results: Sequence[TargetResult | None]) -> list[Series]:
    """Every series measured in these runs, in the order of the newest run."""
    rows = [{(row.file, row.clip, row.stage): row for row in result.stages} if result else {} for result in results]
    every = list(dict.fromkeys(key for one in reversed(rows) for key in one))
    found = []
    for file, clip, stage in every:
        at = [one.get((file, clip, stage)) for one in rows]
        failed = {place for place, row in enumerate(at) if row and not row.passed}
        lowest = [LOWEST_COSINE.of(row) if row else None for row in at]
        drawn = {metric: [metric.of(row) if row else None for row in at] for metric in DRAWN}
        there = [metric for metric, values in drawn.items() if any(value is not None for value in values)]
        kind = next(row.kind for row in reversed(at) if row)
        found += [Series(file, clip, stage, kind, metric, drawn[metric], failed, lowest)
                  for metric in there if metric is not RMSE or there == [RMSE]]  # fmt: skip
    return found


def over_runs(runs: Sequence[Run], results: Sequence[TargetResult]) -> list[TargetResult | None]:
    """Each run's result, None if it has none."""
    by_run = {result.run: result for result in results}
    return [by_run.get(run.run) for run in runs]


def known_before(results: Sequence[TargetResult], run: int) -> TargetResult | None:
    """The last result before a run whose files are known, for comparison."""
    return next((result for result in reversed(results) if result.run < run and result.files), None)


# ── words and times ──────────────────────────────────────────────────────────────────────────────────────────────


def moment(iso: str) -> str:
    """A time in ISO 8601, to the minute."""
    return iso[:16].replace("T", " ")


def duration(seconds: float) -> str:
    """A duration: 8 s, 3 min 20 s, 1 h 05 min."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def printable_line(text: str) -> str:
    """A text in one line, with control and bidirectional characters escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(text.split()))
