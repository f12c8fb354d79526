"""The message about changes of state: lines of text, as many as a message takes."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from mimo_nightly.config import Config
from mimo_nightly.history import History, Problem, TargetResult
from mimo_nightly.process import LAST_LINE, beside
from mimo_nightly.run import index_of, report_of_worker
from mimo_nightly.show.figures import (
    NEVER_RUN,
    SIGNS,
    counted,
    moment,
    overall,
    printable_line,
    since,
    worst_figures,
)  # fmt: skip
from mimo_nightly.show.summary import changed_in
from quantize.errors import InputError
from runtime_check.gate import TRANSCRIPT
from runtime_check.report.records import file_name
from runtime_check.run.records import Check

from .outbox import UNKNOWN, Change

MOST_BYTES = 16_000
LONGEST = 500  # characters of a line
PROBLEMS = 5  # of a target
MOST_CHANGES = 30
WITHOUT_WORDS = "not as expected; its words are in the report"


def message_of(changes: Sequence[Change], history: History, config: Config, size: Callable[[str], int]) -> str:
    """The message about these changes: the state of all targets, then what changed, by runs, the newest first. Without
    transcripts, unless the config asks for them; what exceeds MOST_BYTES by `size` is left out, which a line says."""
    states = [since(history, target.name) for target in config.targets]
    words = [state.word if state else NEVER_RUN for state in states]
    run = history.runs()[-1]
    lines = [
        f"{SIGNS[overall(words)]} {overall(words)}: {counted(words)}",
        f"mimo-check nightly {config.path.absolute()}, run {run.run}, begun {moment(run.started)} UTC",
        f"Page: {index_of(config).absolute()}",
    ]
    lines = list(map(printable_line, lines))
    by_run = sorted(changes, key=lambda change: change.run, reverse=True)
    for change in by_run[:MOST_CHANGES]:
        first, *others = map(printable_line, lines_of(change, run.run, history, config))
        lines += ["", first, *(f"  {line}" for line in others)]
    if len(changes) > MOST_CHANGES:
        lines += ["", f"… and {len(changes) - MOST_CHANGES} earlier changes of state"]
    return fitted(lines, size)


def lines_of(change: Change, run: int, history: History, config: Config) -> Iterator[str]:
    """A change, and what the result says that made it; with its time if it was in another run than `run`."""
    result = history.result(change.run, change.target)
    when = "" if change.run == run else f" (run {change.run}, {moment(result.started)} UTC)"
    before = "" if change.before == UNKNOWN else f"{change.before} → "
    yield f"{change.target}: {before}{change.after}{when}"
    words = config.notify is not None and config.notify.transcripts
    yield from (one.text if words else without_words(one) for one in result.problems[:PROBLEMS])
    if len(result.problems) > PROBLEMS:
        yield f"… and {len(result.problems) - PROBLEMS} more"
    if figures := worst_figures(result):
        yield ", ".join(f"{figure.metric.name} {figure.text}" for figure in figures)
    if changed := "; ".join(changed_in(result, history)):
        yield f"changed: {changed}"
    if words:
        yield from transcripts_of(result, config)


def without_words(problem: Problem) -> str:
    """A problem's text without what may be a transcript: the words of a response, or the last line of a log."""
    if problem.stage == TRANSCRIPT:
        return f"{TRANSCRIPT}{problem.clip and f' of {problem.clip}'}: {WITHOUT_WORDS}"
    return problem.text.partition(LAST_LINE)[0]


def transcripts_of(result: TargetResult, config: Config) -> Iterator[str]:
    """What was heard on each clip, and what was expected, as far as the report is there."""
    if result.target in [target.name for target in config.targets]:  # else it may be no file's name
        with suppress(InputError):
            report = report_of_worker(beside(config.pages / "runs" / str(result.run), result.target, "json"))
            for check in report.checks:
                yield from transcript_lines(check)


def transcript_lines(check: Check) -> Iterator[str]:
    """The transcript of a clip, and the text that was expected."""
    expected = check.clip.text if check.clip.text is not None else check.reference and check.reference.transcript
    if check.transcript is not None:
        yield f"{file_name(check.clip.file)}: “{check.transcript}”"
    if expected:
        yield f"expected: “{expected}”"


def trial_message(config: Config) -> str:
    """A message that only shows that messages arrive."""
    path = printable_line(str(config.path.absolute()))
    return f"mimo-check nightly {path}: this is a test of [notify]. Nothing has changed."


def fitted(lines: Sequence[str], size: Callable[[str], int]) -> str:
    """As many lines as a message takes, each of bounded length; a last one says how many are left out."""
    lines = [line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…" for line in lines]

    def first(n: int) -> str:
        return "\n".join([*lines[:n], f"… {len(lines) - n} more lines are left out: a message takes 16 kB"])

    whole = "\n".join(lines)
    if size(whole) <= MOST_BYTES:
        return whole
    return first(bisect_right(range(len(lines)), MOST_BYTES, key=lambda n: size(first(n))) - 1)
