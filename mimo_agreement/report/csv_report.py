"""Agreement as CSV (RFC 4180, UTF-8, with a head): a row a file and condition, numbers as Python writes them.

A text that a spreadsheet would take for a formula begins with an apostrophe; unprintable characters are escaped.
"""

import csv
import io
from collections.abc import Callable
from operator import attrgetter

from quantize.quoting import escaped
from runtime_check.report.finite import finite
from runtime_check.report.records import file_name

from ..records import Agreement, ModelFiles, Row

Cell = str | int | float | bool | None
FORMULA = ("=", "+", "-", "@")  # how one begins

OF_FILE: dict[str, Callable[[ModelFiles], Cell]] = {
    "file": lambda file: file_name(file.file),
    "sha256": attrgetter("sha256"),
    "label": attrgetter("label"),
    "bytes": attrgetter("bytes"),
    "bits_per_weight": attrgetter("bits_per_weight"),
    "companion": lambda file: file_name(file.companion),
    "companion_sha256": attrgetter("companion_sha256"),
    "companion_bytes": attrgetter("companion_bytes"),
}
OF_AGREEMENT: dict[str, Callable[[Agreement, Row], Cell]] = {
    "is_baseline": lambda agreement, row: row.file == agreement.baseline,
    "on_front_wer": lambda agreement, row: row.file in agreement.front_wer,
    "on_front_kl": lambda agreement, row: row.file in agreement.front_kl,
    "unit": lambda agreement, row: agreement.unit,
}
PARTS = ("words", "substitutions", "deletions", "insertions")
ESTIMATES, FLAGS = ("wer", "disagreement", "difference", "kl"), ("is_worse", "is_better")
ENDS = {"": "value", "_low": "low", "_high": "high"}
OF_ROW: dict[str, str] = {  # name of a column → where in a row its value is
    "condition": "condition",
    "clips": "clips",
    "seconds": "seconds",
    **{part: f"errors.{part}" for part in PARTS},
    **{f"baseline_{part}": f"beside_baseline.{part}" for part in PARTS},
    **{f"{name}{end}": f"{name}.{at}" for name in ESTIMATES for end, at in ENDS.items()},
    **{name: name for name in (*FLAGS, "loops", "empty", "over_long", "real_time", "peak_memory")},
}  # fmt: skip
COLUMNS = (*OF_FILE, *OF_AGREEMENT, *OF_ROW)


def as_csv(agreement: Agreement) -> str:
    """The agreement as CSV; rows over all conditions have `all` as theirs. Unknown numbers are empty cells, true and
    false 1 and 0."""
    told: Agreement = finite(agreement)
    files = {file.sha256: file for file in told.files}
    text = io.StringIO()
    writer = csv.writer(text)  # whose lines end as RFC 4180 has it
    writer.writerow(COLUMNS)
    for row in told.rows:
        of_file = (cell(files[row.file]) for cell in OF_FILE.values())
        of_agreement = (cell(told, row) for cell in OF_AGREEMENT.values())
        of_row = (_value(row, where) for where in OF_ROW.values())
        writer.writerow(map(_written, (*of_file, *of_agreement, *of_row)))
    return text.getvalue()


def _value(row: Row, where: str) -> Cell:
    name, _, part = where.partition(".")
    found = getattr(row, name)
    return getattr(found, part) if part and found is not None else found


def _written(cell: Cell) -> Cell:
    if isinstance(cell, bool):
        return int(cell)
    if not isinstance(cell, str):
        return cell
    shown = escaped(cell)
    return f"'{shown}" if shown.startswith(FORMULA) else shown
