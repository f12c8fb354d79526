"""A run over all targets as GitHub-flavoured Markdown, for $GITHUB_STEP_SUMMARY."""

import re
from collections.abc import Iterator, Sequence

from markupsafe import escape

from mimo_convert.numbers_text import NOTHING
from mimo_nightly.history import FAILED, History, TargetResult

from .changes import changes
from .figures import RUNS, SIGNS, counted, known_before, moment, overall, printable_line, state_word, worst_figures
from .not_sent import not_sent

MOST_BYTES = 1_000_000  # GitHub takes 1024 × 1024 of one step, and fails it at more
FOR_THE_TABLE = MOST_BYTES // 2
FOR_THE_END = 200  # bytes for the end of a collapsed list and the line about omissions
LONGEST = 1000  # characters of a problem
LONGEST_CELL = 160  # characters of one in the table
MEANING = re.compile(r'([\\`*_{}\[\]<>()#+\-.!|~&@:$"])')  # to Markdown, its tables, and what GitHub adds to it
HEAD = "| target | state | what failed first | worst figures | what changed |", "| --- | --- | --- | --- | --- |"


def as_markdown(results: Sequence[TargetResult], history: History) -> str:
    """The results of a run: the verdict, a table of targets, and all problems of those that did not pass.

    `history` includes these results and earlier ones, for comparison. Lines beyond GitHub's limit are omitted, which a
    last line says.
    """
    words = [state_word(result.state, result.scope) for result in results]
    verdict = overall(words)
    paper = _Paper()
    paper.write(f"## {SIGNS[verdict]} {verdict}: {counted(words)}", "")
    for line in not_sent(history):
        paper.write(f"**{plain(line)}**", "")
    if results:
        paper.write(f"Run {results[0].run}, begun {moment(results[0].started)} UTC.", "", *HEAD)
    rows_missing = sum(not paper.has_taken(_row_of_target(result, history), most=FOR_THE_TABLE) for result in results)
    problems_missing = sum(_missing_problems(paper, result) for result in results)
    missing = [f"{n} {what}" for n, what in ((rows_missing, "targets"), (problems_missing, "problems")) if n]
    if missing:
        paper.write("", f"**{' and '.join(missing)} are left out here, because GitHub takes no more.**")
    return "\n".join(paper.lines) + "\n"


class _Paper:
    """Lines, and their size in bytes."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.size = 0

    def write(self, *lines: str) -> None:
        self.lines += lines
        self.size += _size(lines)

    def has_taken(self, *lines: str, most: int = MOST_BYTES) -> bool:
        """Write lines if there is room for them; returns whether there was."""
        there_is = self.size + _size(lines) + FOR_THE_END <= most
        if there_is:
            self.write(*lines)
        return there_is


def _size(lines: Sequence[str]) -> int:
    return sum(len(line.encode()) + 1 for line in lines)


def _row_of_target(result: TargetResult, history: History) -> str:
    word = state_word(result.state, result.scope)
    problem = plain(result.problems[0].text, LONGEST_CELL) if result.problems else NOTHING
    figures = "<br>".join(f"{figure.metric.name} {figure.text}" for figure in worst_figures(result))
    changed = "<br>".join(plain(what, LONGEST_CELL) for what in changed_in(result, history))
    cells = plain(result.target), f"{SIGNS[word]} {word}", problem, figures or NOTHING, changed or NOTHING
    return f"| {' | '.join(cells)} |"


def changed_in(result: TargetResult, history: History) -> Iterator[str]:
    """Changes since the last good run for a failed target, else since the run before."""
    before = known_before(history.results_of_target(result.target, RUNS), result.run)
    good = history.last_good(result.target)
    if result.state == FAILED and good and good.run < result.run:
        before = good
    if before:
        what = changes(before, result)
        yield from what
        if result.state == FAILED and result.files and not what:
            yield f"nothing since run {before.run}"


def _missing_problems(paper: _Paper, result: TargetResult) -> int:
    """Write a collapsed list of a target's problems; returns how many did not fit."""
    n = len(result.problems)
    title = f"{escape(printable_line(result.target)[:LONGEST])}: {n} problem{'s' * (n != 1)}"
    if not n or not paper.has_taken("", f"<details><summary>{title}</summary>", ""):
        return n
    missing = sum(not paper.has_taken(f"- {plain(problem.text)}") for problem in result.problems)
    paper.write("", "</details>")
    return missing


def plain(text: str, most: int = LONGEST) -> str:
    """Escape text for Markdown, in one line of at most `most` characters."""
    text = printable_line(text)
    return MEANING.sub(r"\\\1", text if len(text) <= most else text[: most - 1] + "…")
