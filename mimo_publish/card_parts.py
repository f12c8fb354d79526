"""Parts of a model card from a report (docs/json.md): files and stages. Transcripts are in transcripts.py."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from mimo_convert.numbers_text import NOTHING, rate
from runtime_check.gate import LAYER
from runtime_check.report.page.parts import Row, role_name, stage_rows, step_rows, verdict_word
from runtime_check.report.records import Report, file_name, files_run
from runtime_check.report.suites import CHECK, Case, Suite, cases_of, suites_of
from runtime_check.run.records import Check, FileFacts
from runtime_check.text.words import NO_WORDS, WordErrors

GGUF = ".gguf"


@dataclass(frozen=True)
class File:
    """A published file with its checks, the first clip's first.

    `facts` is None if it was not run. `suites` are its lint and tensor comparison.
    """

    name: str
    sha256: str
    size: int
    facts: FileFacts | None = None
    checks: Sequence[Check] = ()
    suites: Sequence[Suite] = ()

    @property
    def role(self) -> str:
        """The role in which it was run; empty if it was not."""
        return self.facts.role if self.facts else ""

    @property
    def responds(self) -> bool:
        """Whether it is a text model's file, which others are companions of."""
        return any(check.main.role == self.role and check.transcript is not None for check in self.checks)

    @cached_property
    def cases(self) -> list[Case]:
        """Every gate about this file: of a system's check, those of its role."""
        return [
            *(case for suite in self.suites for case in suite.cases),
            *(case for check in self.checks for case in self._own(check)),
        ]

    def _own(self, check: Check) -> tuple[Case, ...]:
        return cases_of(gate for gate in check.gates if gate.role in ("", self.role))

    @property
    def failed(self) -> list[Case]:
        return [case for case in self.cases if case.problems]

    @property
    def passed(self) -> bool | None:
        """None if it was not compared."""
        if self.failed:
            return False
        compared = [check.passed is not None for check in self.checks]
        return True if compared and all(compared) else None

    @property
    def verdict(self) -> str:
        return verdict_word(self.passed)

    @property
    def shown(self) -> Check:
        """The check whose stages are shown: the first that this file failed, else the first."""
        return next((check for check in self.checks if any(case.problems for case in self._own(check))), self.checks[0])

    @property
    def beside(self) -> list[str]:
        """The companions that a text model was run with."""
        if not self.responds:
            return []
        return [file_name(file.file) for file in self.checks[0].files if file.role != self.role]

    @property
    def layout(self) -> str | None:
        return self.facts.layout if self.facts and self.responds else None

    @property
    def type(self) -> str | None:
        return self.facts.type if self.facts else None

    @property
    def bits_per_weight(self) -> float | None:
        return self.facts.bits_per_weight if self.facts else None

    @property
    def needs(self) -> int | None:
        """Peak memory of a run in bytes: mapped files, graphs and KV cache. None for a companion."""
        own = [check.memory for check in self.checks if check.main.role == self.role]
        sums = [memory["mapped"] + memory.get("working", 0) for memory in own if memory.get("mapped")]
        return max(sums, default=None)

    @property
    def words(self) -> WordErrors | None:
        """Word errors over all clips with a reference text; None if there are none."""
        counted = [check.words for check in self.checks if self.responds and check.words]
        return sum(counted, NO_WORDS) if counted else None

    @property
    def word_error_rate(self) -> str:
        return rate_text(self.words)


def rate_text(words: WordErrors | None) -> str:
    """A word error rate as text; a dash without one."""
    return rate(words.rate) if words else NOTHING


def published_files(report: Report) -> list[File]:
    """The GGUF files to publish: text models, companions, then files that were not run.

    Checks are matched by file name and hash.
    """
    assert report.publication is not None
    facts = {(file_name(file.file), file.sha256): file for file in files_run(report.checks)}
    suites = [suite for suite in suites_of(report) if suite.kind != CHECK]
    files = []
    for entry in report.publication.files:
        name = file_name(entry.file)
        if not name.endswith(GGUF):
            continue
        key = (name, entry.sha256)
        checks = [
            check for check in report.checks if key in {(file_name(file.file), file.sha256) for file in check.files}
        ]
        about = [suite for suite in suites if suite.name == name]
        files.append(File(entry.file, entry.sha256, entry.bytes, facts.get(key), checks, about))
    return sorted(files, key=lambda file: (not file.responds, not file.checks))


# ── stages ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Cell(NamedTuple):
    """Value and threshold of a stage in one file; a dash if it has no such stage."""

    found: str = NOTHING
    wanted: str = ""
    passed: bool = True


class Line(NamedTuple):
    name: str
    cells: list[Cell]


class Column(NamedTuple):
    """A file, and its clip."""

    name: str
    clip: str


@dataclass(frozen=True)
class StageTable:
    """The stages of files of one role, a column each; `layers` are the lines that `lines` summarizes by the worst."""

    title: str
    columns: list[Column]
    lines: list[Line]
    layers: list[Line]


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
    return StageTable(title, columns, lines, layers)


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
