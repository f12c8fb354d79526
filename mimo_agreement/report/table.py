"""Agreement as tables for the terminal, the verdict last."""

from collections.abc import Iterator, Sequence

from mimo_convert.numbers_text import NOTHING, decimals, percent, size
from quantize.quoting import quoted

from ..records import Agreement, Row
from .views import Column, about, columns_of, conditions_of, files_of, machine_columns_of, names_of, rate_name, rate_of

FRONT = "*"  # before a file that is on the front of error rates
MOST_NAMED = 10  # pairs without an answer; the other reports have all


def agreement_as_text(agreement: Agreement) -> str:
    """All files over all conditions, then error rates by condition, what does not count, and the verdict."""
    lines = [about(agreement), *_overall(agreement)]
    if conditions_of(agreement):
        lines += ["", *_by_condition(agreement)]
    lines += ["", *_unanswered(agreement), *agreement.notes, quoted(agreement.verdict, 1000)]
    return "\n".join(line.rstrip() for line in lines)


def _overall(agreement: Agreement) -> Iterator[str]:
    """A line a file, with the columns that there are numbers for."""
    columns = [*columns_of(agreement), *machine_columns_of(agreement)]
    head = ["", "file", "size", "bits", *(column.name for column in columns)]
    rows = [
        [
            FRONT if rate_name(agreement) in file.fronts else "", quoted(file.title), size(file.data.all_bytes),
            decimals(file.data.bits_per_weight), *(_cell(column, file.overall) for column in columns),
        ]
        for file in files_of(agreement)
    ]  # fmt: skip
    yield from aligned([head, *rows], n_left=2)
    better = f"no other file is smaller and has a lower {rate_name(agreement)}"
    yield f"{FRONT} {better}; in brackets: intervals of 95 % of draws of clips"


def _by_condition(agreement: Agreement) -> Iterator[str]:
    """A line a file, its error rate in each condition."""
    name = rate_name(agreement)
    head = [name if agreement.has_texts else f"{name} to baseline", *map(quoted, agreement.conditions)]
    rows = [
        [
            quoted(file.title),
            *(percent(rate_of(agreement, file.rows[condition]).value) for condition in agreement.conditions),
        ]
        for file in files_of(agreement)
    ]
    yield from aligned([head, *rows], n_left=1)


def _unanswered(agreement: Agreement) -> Iterator[str]:
    names = names_of(agreement.files)
    for one in agreement.quarantined[:MOST_NAMED]:
        where = f"{quoted(names[one.file])} on {quoted(one.clip)}, {quoted(one.condition)}"
        yield f"NO ANSWER: {where}, after {one.tries} tries: {quoted(one.reason)}"
    if len(agreement.quarantined) > MOST_NAMED:
        yield f"… and {len(agreement.quarantined) - MOST_NAMED} more without an answer"


def _cell(column: Column, row: Row) -> str:
    interval = column.interval(row)
    value = column.value(row)
    return f"{value} ({interval})" if interval and value != NOTHING else value


def aligned(rows: Sequence[Sequence[str]], n_left: int) -> list[str]:
    """Rows of cells as lines, the first `n_left` columns flush left, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = ["<" if i < n_left else ">" for i in range(len(widths))]
    return [
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True)) for row in rows
    ]
