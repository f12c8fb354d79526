"""The history as text, for `mimo-check history`: all targets in short, or runs and stages of one."""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from mimo_convert.numbers_text import NOTHING
from mimo_nightly.history import History, StageRow, TargetResult
from quantize.errors import InputError
from runtime_check.gate import CODES, HIDDEN, LAYER

from .changes import changes
from .figures import (  # fmt: skip
    AGREEMENT,
    COSINE,
    ERROR_RATE,
    KL,
    LOWEST_COSINE,
    RUNS,
    Figure,
    Metric,
    Series,
    known_before,
    moment,
    over_runs,
    printable_line,
    series_of,
    since,
    state_word,
    worst,
    worst_figures,
)
from .not_sent import not_sent
from .sparklines import blocks

WIDTH = 100
LISTED = 20  # runs in the table
PROBLEMS = 5  # of the last run; its report has all
DAY = 10  # characters of a time in ISO 8601


def as_text(history: History, target: str | None = None, *, full: bool = False) -> str:
    """All targets, or the trends of one, in lines of at most 100 characters, or `full`: whole lines, and every problem.
    Raises InputError for an unknown target."""
    known = history.targets()
    if target is not None and target not in known:
        raise InputError(
            history.path, f"has no target {target!r}", expected="one of " + ", ".join(known) if known else "none as yet"
        )
    if target is not None:
        lines = _of_target(history, target, most=None if full else PROBLEMS)
    else:
        lines = _of_all(history, known, most=None if full else 1)
    return "\n".join(lines if full else map(_cut, lines))


# ── all targets ──────────────────────────────────────────────────────────────────────────────────────────────────

ALL = "{:<25} {:<11} {:<10} {:>5}  {:<10} {:>7} {:>10} {:>10}".format


def _of_all(history: History, targets: Sequence[str], most: int | None) -> Iterator[str]:
    """A line per target, at most so many problems of its last run, and a line for its last change."""
    runs = history.runs()
    if not targets:
        yield "There are no runs as yet."
        return
    yield ALL("target", "state", "since", "runs", "last good", "words", "cosine", "KL").rstrip()
    for target in targets:
        results, now = history.results_of_target(target, RUNS), since(history, target)
        assert now is not None
        good = history.last_good(target)
        figures = {figure.metric: figure.text for figure in worst_figures(results[-1])}
        yield ALL(
            _cut(printable_line(target), 25), now.word, now.started[:DAY], now.runs,
            good.started[:DAY] if good else NOTHING,
            *(figures.get(metric, NOTHING) for metric in (ERROR_RATE, LOWEST_COSINE, KL)),
        )  # fmt: skip
        yield from _problems(results[-1], most)
        changed = [(one, what) for one in results if (what := _changes(results, one))]
        if changed:
            last, what = changed[-1]
            yield f"  changed {last.started[:DAY]}: {printable_line(', '.join(what))}"
    yield ""
    yield f"{len(runs)} runs since {runs[0].started[:DAY]}; words, cosine and KL are the worst of the last."
    if not runs[-1].finished:
        yield f"Run {runs[-1].run}, begun {moment(runs[-1].started)} UTC, has not finished."
    yield from map(printable_line, not_sent(history))


def _problems(result: TargetResult, most: int | None) -> Iterator[str]:
    """At most so many problems of a result."""
    shown = result.problems[:most]
    yield from (f"  {printable_line(problem.text)}" for problem in shown)
    if len(result.problems) > len(shown):
        yield f"  … and {len(result.problems) - len(shown)} more"


def _changes(results: Sequence[TargetResult], one: TargetResult) -> list[str]:
    before = known_before(results, one.run)
    return changes(before, one) if before else []


# ── one target ───────────────────────────────────────────────────────────────────────────────────────────────────

ROW = "{:>4}  {:<16}  {:<11} {:>6}  {:<9} {:>6} {:>7} {:>9} {:>9} {:>8}".format
STAGE = "{:<30} {:<30}  {:>9} → {:<9}  {}".format
CELLS: tuple[tuple[Metric, Callable[[StageRow], bool]], ...] = (
    (ERROR_RATE, lambda row: True),
    (AGREEMENT, lambda row: row.kind == CODES),
    (LOWEST_COSINE, lambda row: row.kind == LAYER),
    (COSINE, lambda row: row.kind == HIDDEN),
    (KL, lambda row: True),
)


def _of_target(history: History, target: str, most: int | None) -> Iterator[str]:
    """The trends of a target, with at most so many problems of its last run."""
    runs = history.runs()[-RUNS:]
    results, now, good = history.results_of_target(target, RUNS), since(history, target), history.last_good(target)
    assert now is not None
    last = f"last good run {good.run}, {good.started[:DAY]}" if good else "no good run"
    yield f"{printable_line(target)}  {now.word} since {now.started[:DAY]}, {_runs(now.runs)}; {last}"
    yield from _problems(results[-1], most)
    yield ""
    yield ROW("run", "UTC", "state", "min:s", "file", "words", "codes", "layers", "hidden", "KL")
    yield from _run_rows(results)
    yield ""
    if any(_changes(results, one) for one in results[-LISTED:]):
        yield "* what it depends on changed:"
        for one in results[-LISTED:]:
            yield from (f"  run {one.run}: {printable_line(what)}" for what in _changes(results, one))
        yield ""
    yield from _stages(runs[-1].run, series_of(over_runs(runs, results)), [run.run for run in runs])


def _run_rows(results: Sequence[TargetResult]) -> Iterator[str]:
    for one in results[-LISTED:]:
        found: list[Figure | None] = [worst(metric, filter(of, one.stages)) for metric, of in CELLS]
        mark = "*" if _changes(results, one) else ""
        hashed = (one.files[0].sha256[:8] or NOTHING) + mark if one.files else NOTHING
        word = state_word(one.state, one.scope)
        cells = [figure.text if figure else NOTHING for figure in found]
        minutes, seconds = divmod(round(one.seconds), 60)
        yield ROW(one.run, moment(one.started), word, f"{minutes}:{seconds:02}", hashed, *cells)


def _stages(newest: int, series: Sequence[Series], runs: Sequence[int]) -> Iterator[str]:
    """A line per stage, with the run in which its error grew most, if by a quarter."""
    for (file, clip), of_file in groupby(series, key=lambda one: (one.file, one.clip)):
        yield _cut(printable_line(f"{file} on {clip}, runs {runs[0]} to {newest}"))
        for one in of_file:
            first, last = one.known[0], one.known[-1]
            fell = f"worse: run {runs[one.fell]}" if one.fell is not None else ""
            yield STAGE(_cut(printable_line(one.name), 30), blocks(one), one.text(first), one.text(last), fell).rstrip()
        yield ""


def _runs(count: int) -> str:
    return "one run" if count == 1 else f"{count} runs"


def _cut(text: str, width: int = WIDTH) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
