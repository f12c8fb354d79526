"""Stages of a model card: a table for each role, with a column for each file."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mimo_convert.numbers_text import NOTHING
from runtime_check.gate import LAYER
from runtime_check.report.page.parts import Row, role_name, stage_rows, step_rows
from runtime_check.report.records import file_name

from ..card_parts import File

EQUAL = "equal"


class Cell(NamedTuple):
    """Value and threshold of a stage in one file; a dash if it has no such stage."""

    found: str = NOTHING
    wanted: str = ""
    passed: bool = True


class Line(NamedTuple):
    name: str
    cells: list[Cell]

    @property
    def wanted(self) -> str:
        """The threshold of all files, if it is one."""
        found = {cell.wanted for cell in self.cells if cell.found != NOTHING}
        return found.pop() if len(found) == 1 else ""

    @property
    def is_equal(self) -> bool:
        """Whether it is equal to the reference's in every file."""
        return all(cell.found == EQUAL and cell.passed for cell in self.cells)


class Column(NamedTuple):
    """A file, and its clip."""

    name: str
    clip: str


@dataclass(frozen=True)
class StageTable:
    """The stages of files of one role, a column each; `layers` are the lines that `lines` summarizes by the worst,
    `equal` the names of those that are in every file equal to the reference's."""

    title: str
    columns: list[Column]
    lines: list[Line]
    layers: list[Line]
    equal: list[str]


def stage_tables(files: Sequence[File]) -> list[StageTable]:
    """A table per role, of the files that were compared."""
    compared = [file for file in files if file.checks and file.shown.gates]
    roles = dict.fromkeys(file.role for file in compared)
    return [_stage_table(role_name(role), [file for file in compared if file.role == role]) for role in roles]


def _stage_table(title: str, files: Sequence[File]) -> StageTable:
    found = [_found(file) for file in files]
    rows = {name: row for cells in found for name, row in cells.items()}
    lines = [Line(name, [_cell(cells[name]) if name in cells else Cell() for cells in found]) for name in rows]
    layers = [line for line in lines if _is_layer(rows[line.name])]
    if layers:
        at = lines.index(layers[0])
        worst = Line(f"worst of {len(layers)} layers", [_worst_layer(cells) for cells in found])
        lines = [*lines[:at], worst, *(line for line in lines[at:] if line not in layers)]
    columns = [Column(file.name, file_name(file.shown.clip.file)) for file in files]
    equal = [line.name for line in lines if line.is_equal]
    return StageTable(title, columns, [line for line in lines if not line.is_equal], layers, equal)


def _found(file: File) -> dict[str, Row]:
    """Everything that was compared of a file, by name."""
    rows = [row for role, row in stage_rows(file.shown) if role == file.role]
    if file.responds:
        rows += step_rows(file.shown)
    return {row.name: row for row in rows}


def _is_layer(row: Row) -> bool:
    return row.stage is not None and row.stage.kind == LAYER


def _cell(row: Row, note: str = "") -> Cell:
    found = " / ".join(filter(None, (row.found, row.worst)))
    wanted = f"{note}{row.limit}{row.wanted}" if row.wanted != found else ""
    return Cell(f"{found} {row.word}".strip(), wanted, row.passed)


def _worst_layer(rows: dict[str, Row]) -> Cell:
    """The worst layer: a failed one, if any; then the one with the lowest minimum cosine."""
    layers = [(row, row.stage) for row in rows.values() if row.stage is not None and row.stage.kind == LAYER]
    if not layers:
        return Cell()
    row, stage = min(layers, key=lambda one: (one[0].passed, -math.inf if one[1].cos_min is None else one[1].cos_min))
    return _cell(row, f"{stage.name} ")
