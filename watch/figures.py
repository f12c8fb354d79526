"""What the night watch shows of its history: states in words, series of figures over runs, the worst of them."""

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from runtime_check.page_numbers import cosine, percent, rate, small

from .history import FAILED, HEADER, PASSED, UNCHECKED, History, Run, StageRow, TargetResult

RUNS = 30  # the last, that are drawn
FALL = 1.25  # times the error before; less is not worth a word

PASS, FAIL, NOT_CHECKED, HEADER_ONLY, NEVER_RUN = "PASS", "FAIL", "NOT CHECKED", "HEADER ONLY", "NEVER RUN"
SIGNS = {PASS: "✓", FAIL: "✗", NOT_CHECKED: "?", HEADER_ONLY: "✓", NEVER_RUN: "–"}
WORDS = {PASSED: PASS, FAILED: FAIL, UNCHECKED: NOT_CHECKED}


def state_word(state: str, scope: str) -> str:
    """A target's state as it is told: PASS, FAIL, NOT CHECKED, or HEADER ONLY, where no more of it was examined."""
    word = WORDS[state]
    return HEADER_ONLY if word == PASS and scope == HEADER else word


class Since(NamedTuple):
    """A state that holds for so many runs on end, of which the first began at `started`."""

    word: str
    runs: int
    started: str


def since(history: History, target: str) -> Since | None:
    """How long a target has been as it is; None if it was never run."""
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
    """What the states of all targets come to."""
    if FAIL in words:
        return FAIL
    return NOT_CHECKED if not words or {NOT_CHECKED, NEVER_RUN} & set(words) else PASS


def counted(words: Sequence[str]) -> str:
    """All states together, in a sentence's part: `1 of 4 targets failed, 1 could not be checked`."""
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
    """What is measured at a stage. `field` is StageRow's, `error` what a value is from the best; less is none."""

    field: str
    name: str
    write: Callable[[float | None], str]
    error: Callable[[float], float]
    least: float

    def of(self, row: StageRow) -> float | None:
        """The value at a stage; None if there is none, or it is no number."""
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
    """The worst value of a metric in one run, and the stage that has it."""

    metric: Metric
    value: float
    stage: str

    @property
    def text(self) -> str:
        return self.metric.write(self.value)


def worst(metric: Metric, rows: Iterable[StageRow]) -> Figure | None:
    """The worst value of a metric over stages, files and sounds."""
    found = [Figure(metric, value, row.stage) for row in rows if (value := metric.of(row)) is not None]
    return max(found, key=lambda one: metric.error(one.value), default=None)


def worst_figures(result: TargetResult) -> list[Figure]:
    """What says most of how a target is, as far as it was measured."""
    return [figure for metric in TOLD if (figure := worst(metric, result.stages)) is not None]


# ── figures over the runs ────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Series:
    """A metric at one stage of one file on one sound: a value a run, None where there is none.

    `failed` are the places of the runs in which the stage did not pass; `lowest` are the worst positions' values.
    """

    file: str
    sound: str
    stage: str
    metric: Metric
    values: Sequence[float | None]
    failed: Collection[int] = ()
    lowest: Sequence[float | None] = ()

    @property
    def name(self) -> str:
        """The stage, and what is measured there unless it is a cosine."""
        return self.stage if self.metric is COSINE or self.metric is ERROR_RATE else f"{self.stage}, {self.metric.name}"

    @property
    def known(self) -> list[int]:
        """The places that have a value."""
        return [place for place, value in enumerate(self.values) if value is not None]

    @property
    def worst(self) -> int:
        """The place of the worst value, the last of several."""
        return max(self.known, key=lambda place: (self.error(place), place))

    def error(self, place: int) -> float:
        """How far the value at a place is from the best."""
        value = self.values[place]
        return math.inf if value is None else max(self.metric.error(value), self.metric.least)

    def text(self, place: int) -> str:
        """The value at a place, as it is written."""
        return self.metric.write(self.values[place])

    @property
    def fell(self) -> int | None:
        """The place at which the error grew most from one value to the next; None if it nowhere grew by a quarter."""
        known = self.known
        grown = [(self.error(b) / self.error(a), b) for a, b in pairwise(known)]
        most, place = max(grown, default=(1.0, 0))
        return place if most > FALL else None

    def heights(self) -> list[float | None]:
        """Every value's height in a drawing, from 0 to 1, the best: the logarithm of the error, turned over.

        What varies by less than a factor of two does not fill the drawing, so that rounding does not look like a fall.
        """
        logs = [None if value is None else math.log(self.error(i)) for i, value in enumerate(self.values)]
        there = [value for value in logs if value is not None] or [0.0]
        span = max(max(there) - min(there), math.log(2))
        return [None if value is None else 1 - (value - min(there)) / span for value in logs]


def series_of(results: Sequence[TargetResult | None]) -> list[Series]:
    """Everything that was measured in some of these runs, as the newest has it; what is only in older ones after it."""
    rows = [{(row.file, row.sound, row.stage): row for row in result.stages} if result else {} for result in results]
    every = list(dict.fromkeys(key for one in reversed(rows) for key in one))
    found = []
    for file, sound, stage in every:
        at = [one.get((file, sound, stage)) for one in rows]
        failed = {place for place, row in enumerate(at) if row and not row.passed}
        lowest = [LOWEST_COSINE.of(row) if row else None for row in at]
        drawn = {metric: [metric.of(row) if row else None for row in at] for metric in DRAWN}
        there = [metric for metric, values in drawn.items() if any(value is not None for value in values)]
        found += [Series(file, sound, stage, metric, drawn[metric], failed, lowest)
                  for metric in there if metric is not RMSE or there == [RMSE]]  # fmt: skip
    return found


def over_runs(runs: Sequence[Run], results: Sequence[TargetResult]) -> list[TargetResult | None]:
    """Each run's result, None for a run that has none."""
    by_run = {result.run: result for result in results}
    return [by_run.get(run.run) for run in runs]


def known_before(results: Sequence[TargetResult], run: int) -> TargetResult | None:
    """The last result before a run of which the files are known: what a later one is compared with."""
    return next((result for result in reversed(results) if result.run < run and result.files), None)


# ── words and times ──────────────────────────────────────────────────────────────────────────────────────────────


def moment(iso: str) -> str:
    """A time in ISO 8601, to the minute."""
    return iso[:16].replace("T", " ")


def duration(seconds: float) -> str:
    """8 s, 3 min 20 s, 1 h 05 min."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def one_line(text: str) -> str:
    """A text in one line, with every character visible that would not be: control characters, those that turn text."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(text.split()))
