"""A run over all targets as GitHub-flavoured Markdown, for $GITHUB_STEP_SUMMARY."""

import re
from collections.abc import Iterator, Sequence

from markupsafe import escape

from runtime_check.page_numbers import NOTHING

from .changes import changes
from .figures import RUNS, SIGNS, counted, known_before, moment, one_line, overall, state_word, worst_figures
from .history import FAILED, History, TargetResult

MOST_BYTES = 1_000_000  # GitHub takes 1024 × 1024 of one step, and fails it at more
FOR_THE_TABLE = MOST_BYTES // 2
FOR_THE_END = 200  # the end of a fold, and what is said of what is missing
LONGEST = 1000  # characters of a problem
LONGEST_CELL = 160  # characters of one in the table
MEANING = re.compile(r'([\\`*_{}\[\]<>()#+\-.!|~&@:$"])')  # to Markdown, its tables, and what GitHub adds to it
HEAD = "| target | state | what failed first | worst figures | what changed |", "| --- | --- | --- | --- | --- |"


def as_markdown(results: Sequence[TargetResult], history: History) -> str:
    """What a run found: the verdict, a table of its targets, and all problems of those that did not pass.

    `history` has these results, too, and those before, which they are compared with. What is more than GitHub takes is
    left out, and a last line says so.
    """
    words = [state_word(result.state, result.scope) for result in results]
    verdict = overall(words)
    paper = _Paper()
    paper.write(f"## {SIGNS[verdict]} {verdict}: {counted(words)}", "")
    if results:
        paper.write(f"Run {results[0].run}, begun {moment(results[0].started)} UTC.", "", *HEAD)
    rows_missing = sum(not paper.has_taken(_row(result, history), most=FOR_THE_TABLE) for result in results)
    problems_missing = sum(_missing_problems(paper, result) for result in results)
    missing = [f"{n} {what}" for n, what in ((rows_missing, "targets"), (problems_missing, "problems")) if n]
    if missing:
        paper.write("", f"**{' and '.join(missing)} are left out here, because GitHub takes no more.**")
    return "\n".join(paper.lines) + "\n"


class _Paper:
    """Lines, and how many bytes they are."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.size = 0

    def write(self, *lines: str) -> None:
        self.lines += lines
        self.size += _size(lines)

    def has_taken(self, *lines: str, most: int = MOST_BYTES) -> bool:
        """Whether there was room for lines; if there was, they are written."""
        there_is = self.size + _size(lines) + FOR_THE_END <= most
        if there_is:
            self.write(*lines)
        return there_is


def _size(lines: Sequence[str]) -> int:
    return sum(len(line.encode()) + 1 for line in lines)


def _row(result: TargetResult, history: History) -> str:
    word = state_word(result.state, result.scope)
    problem = plain(result.problems[0], LONGEST_CELL) if result.problems else NOTHING
    figures = "<br>".join(f"{figure.metric.name} {figure.text}" for figure in worst_figures(result))
    changed = "<br>".join(plain(what, LONGEST_CELL) for what in _changed(result, history))
    cells = plain(result.target), f"{SIGNS[word]} {word}", problem, figures or NOTHING, changed or NOTHING
    return f"| {' | '.join(cells)} |"


def _changed(result: TargetResult, history: History) -> Iterator[str]:
    """Since the last good run, if this one is not; else since the run before."""
    before = known_before(history.of_target(result.target, RUNS), result.run)
    good = history.last_good(result.target)
    if result.state == FAILED and good and good.run < result.run:
        before = good
    if before:
        what = changes(before, result)
        yield from what
        if result.state == FAILED and result.files and not what:
            yield f"nothing since run {before.run}"


def _missing_problems(paper: _Paper, result: TargetResult) -> int:
    """Write a fold with the problems of a target; how many there was no room for."""
    n = len(result.problems)
    title = f"{escape(one_line(result.target)[:LONGEST])}: {n} problem{'s' * (n != 1)}"
    if not n or not paper.has_taken("", f"<details><summary>{title}</summary>", ""):
        return n
    missing = sum(not paper.has_taken(f"- {plain(problem)}") for problem in result.problems)
    paper.write("", "</details>")
    return missing


def plain(text: str, most: int = LONGEST) -> str:
    """Text that Markdown shows as it is: in one line, cut after so many characters, every sign of meaning escaped."""
    text = one_line(text)
    return MEANING.sub(r"\\\1", text if len(text) <= most else text[: most - 1] + "…")
