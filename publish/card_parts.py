"""What a model card shows of a report (docs/json.md), piece by piece: files, stages, transcripts."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from runtime_check.activations import CODES, is_layer, is_of_tokenizer
from runtime_check.differences import Piece, Words, count_words, differences
from runtime_check.page import files_of
from runtime_check.page_numbers import NOTHING, cosine, gate, rate
from runtime_check.page_parts import CheckView, Row, verdict_word
from runtime_check.verdicts import CACHED, KL, TOP1, Case, Report, Suite, check_suite, file_name, verdicts

LM, TOKENIZER = "speech_lm", "audio_tokenizer"
TABLE_OF = {LM: "Speech LM", TOKENIZER: "Audio tokenizer"}
GGUF = ".gguf"
LIMITS = {CODES: "≥ ", TOP1.partition(": ")[2]: "≥ ", KL.partition(": ")[2]: "≤ ", CACHED.partition(": ")[2]: "≤ "}


@dataclass(frozen=True)
class File:
    """A published file: what is known of it, and every check that it was run in, the first sound's first.

    `role` is what it was run as, a key of TABLE_OF, or "" if it was not run.
    """

    name: str
    sha256: str
    size: int | None
    role: str = ""
    facts: Report = field(default_factory=dict)
    checks: Sequence[Report] = ()
    suites: Sequence[Suite] = ()

    @cached_property
    def cases(self) -> list[Case]:
        """Every gate that is about this file: of a pair's check, those of its own half."""
        return [
            *(c for suite in self.suites for c in suite.cases),
            *(c for check in self.checks for c in self._own(check)),
        ]

    def _own(self, check: Report) -> list[Case]:
        alone, is_tokenizer = not check.get(LM), self.role == TOKENIZER
        cases = check_suite(check).cases
        return [case for case in cases if alone or is_of_tokenizer(case.name) == is_tokenizer]

    @property
    def failed(self) -> list[Case]:
        return [case for case in self.cases if case.problems]

    @property
    def passed(self) -> bool | None:
        """None if it was compared with nothing."""
        if self.failed:
            return False
        compared = [check.get("passed") is not None for check in self.checks]
        return True if compared and all(compared) else None

    @property
    def verdict(self) -> str:
        return verdict_word(self.passed)

    @property
    def shown(self) -> Report:
        """The check whose stages are shown: the first in which this file failed, else the first."""
        return next((check for check in self.checks if any(case.problems for case in self._own(check))), self.checks[0])

    @property
    def beside(self) -> str:
        """The audio tokenizer that a speech LM was run with."""
        return file_name(self.checks[0][TOKENIZER]["file"]) if self.role == LM else ""

    @property
    def layout(self) -> str | None:
        return self.facts.get("layout") if self.role == LM else None

    @property
    def needs(self) -> int | None:
        """Most bytes of memory that a run took: the mapped files, and what graphs and KV cache take beside them.

        An audio tokenizer's run beside a speech LM is that one's.
        """
        own = [check.get("memory") or {} for check in self.checks if self.role == LM or not check.get(LM)]
        sums = [memory["mapped"] + (memory.get("working") or 0) for memory in own if memory.get("mapped")]
        return max(sums, default=None)

    @property
    def words(self) -> Words | None:
        """Over all sounds of which it is known what is said; None if there are none, or it says nothing itself."""
        counted = [
            words
            for check in self.checks
            if self.role == LM and (words := _words(check, check.get("transcript") or ""))
        ]
        return Words(sum(w.errors for w in counted), sum(w.words for w in counted)) if counted else None

    @property
    def word_error_rate(self) -> str:
        return _rate(self.words)


def published_files(report: Report) -> list[File]:
    """The GGUF files that the report says are published: speech LMs, audio tokenizers, and what was not run.

    A check is of a file if both its name and its hash are the same.
    """
    known = {file_name(facts["file"]): facts for facts in files_of(report)}
    suites = [suite for suite in verdicts(report) if suite.kind in ("static", "tensors")]
    files = []
    for entry in report["publication"]["files"]:
        name = file_name(entry["file"])
        if not name.endswith(GGUF):
            continue
        roles = {
            role: [check for check in report.get("checks") or [] if _is(check.get(role), name, entry["sha256"])]
            for role in TABLE_OF
        }
        role = next((role for role, checks in roles.items() if checks), "")
        checks = roles.get(role, [])
        facts = checks[0][role] if checks else known.get(name, {})
        about = [suite for suite in suites if suite.name == name]
        files.append(File(entry["file"], entry["sha256"], entry.get("bytes"), role, facts, checks, about))
    order = [*TABLE_OF, ""]
    return sorted(files, key=lambda file: order.index(file.role))


def _is(facts: Report | None, name: str, sha256: str) -> bool:
    return facts is not None and (file_name(facts["file"]), facts["sha256"]) == (name, sha256)


# ── stages ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Cell(NamedTuple):
    """What was found of a stage in one file, what must be, and whether it is; empty where there is no such stage."""

    found: str = NOTHING
    wanted: str = ""
    passed: bool = True


class Line(NamedTuple):
    name: str
    cells: list[Cell]


class Column(NamedTuple):
    """A file, and the sound that it was run on."""

    name: str
    sound: str


@dataclass(frozen=True)
class StageTable:
    """The stages of files that have the same, a column each; `layers` are those that `lines` has only the worst of."""

    title: str
    columns: list[Column]
    lines: list[Line]
    layers: list[Line]


def stage_tables(files: Sequence[File]) -> list[StageTable]:
    """A table for the speech LMs and one for the audio tokenizers, as far as they were compared."""
    tables = []
    for role, title in TABLE_OF.items():
        compared = [file for file in files if file.role == role and file.shown.get("stages")]
        if compared:
            tables.append(_stage_table(title, compared))
    return tables


def _stage_table(title: str, files: Sequence[File]) -> StageTable:
    found = [_found(file) for file in files]
    names = list(dict.fromkeys(name for cells in found for name in cells))
    lines = [Line(name, [cells.get(name, Cell()) for cells in found]) for name in names]
    layers = [line for line in lines if is_layer(line.name)]
    if layers:
        at = lines.index(layers[0])
        worst = Line(f"worst of {len(layers)} layers", [_worst_layer(file) for file in files])
        lines = [*lines[:at], worst, *(line for line in lines[at:] if line not in layers)]
    columns = [Column(file.name, file_name(file.shown["audio"]["file"])) for file in files]
    return StageTable(title, columns, lines, layers)


def _found(file: File) -> dict[str, Cell]:
    """Everything that was compared of a file, by name."""
    check = CheckView(1, file.shown)
    rows = [row for title, rows in check.tables if title == TABLE_OF[file.role] for row in rows]
    if file.role == LM and file.shown.get("steps"):
        rows += check.step_rows
    return dict(_cell(row) for row in rows)


def _cell(row: Report | Row) -> tuple[str, Cell]:
    if not isinstance(row, Row):
        return row["name"], _stage_cell(row)
    found = " / ".join(filter(None, (row.found, row.worst)))
    wanted = f"{LIMITS.get(row.name, '')}{row.wanted}" if row.wanted != found else ""
    return row.name, Cell(f"{found} {row.word}".strip(), wanted, row.passed)


def _stage_cell(stage: Report, note: str = "") -> Cell:
    found = f"{cosine(stage['cos_mean'])} / {cosine(stage['cos_min'])}"
    return Cell(found, f"{note}≥ {gate(stage.get('gate_mean'))} / {gate(stage.get('gate_min'))}", stage["passed"])


def _worst_layer(file: File) -> Cell:
    """One that failed, if any did; of these the one with the lowest cosine of a position."""
    layers = [stage for stage in file.shown["stages"] if is_layer(stage["name"])]
    if not layers:
        return Cell()
    worst = min(
        layers, key=lambda layer: (layer["passed"], -math.inf if layer["cos_min"] is None else layer["cos_min"])
    )
    return _stage_cell(worst, f"{worst['name']} ")


# ── what was heard ───────────────────────────────────────────────────────────────────────────────────────────────


class Heard(NamedTuple):
    """Files that heard the same in a sound, and what: `pieces` beside what is said, where that is known."""

    files: list[str]
    text: str
    pieces: list[Piece]
    words: Words | None

    @property
    def word_error_rate(self) -> str:
        return _rate(self.words)


class Sound(NamedTuple):
    """A sound, and what the speech LMs heard in it; `expected` is what is said, where that is known."""

    name: str
    seconds: float | None
    language: str | None
    expected: str | None
    heard: list[Heard]

    def word_error_rate(self, name: str) -> str:
        """Of one file."""
        return next((heard.word_error_rate for heard in self.heard if name in heard.files), NOTHING)


def sounds_of(files: Iterable[File]) -> list[Sound]:
    """Every sound, in the order of the checks. Two of one name, from different folders, are two."""
    runs: dict[tuple[str, str | None], list[tuple[File, Report]]] = {}
    for file in files:
        for check in file.checks:
            audio = check["audio"]
            runs.setdefault((audio["file"], audio.get("sha256")), []).append((file, check))
    return [_sound(of_one) for of_one in runs.values()]


def _sound(runs: Sequence[tuple[File, Report]]) -> Sound:
    check = runs[0][1]
    by_text: dict[str, list[str]] = {}
    for file, run in runs:
        if file.role == LM:
            by_text.setdefault(run.get("transcript") or "", []).append(file.name)
    expected = check.get("expected_text")
    heard = [
        Heard(names, text, differences(expected, text) if expected else [], _words(check, text))
        for text, names in by_text.items()
    ]
    audio = check["audio"]
    return Sound(file_name(audio["file"]), audio.get("seconds"), audio.get("language"), expected, heard)


def _words(check: Report, heard: str) -> Words | None:
    """Where a check has a word error rate, what it is made of."""
    return None if check.get("word_error_rate") is None else count_words(check["expected_text"], heard)


def _rate(words: Words | None) -> str:
    return rate(words.error_rate) if words else NOTHING
