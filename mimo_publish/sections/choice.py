"""The choice of a file: a row for each that can be run, the smallest first, and the one that is recommended.

Everything is computed from the report. docs/publish.md has the rule, and where its thresholds come from.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from mimo_convert.numbers_text import NOTHING, brief, percent, size
from quantize.types import TYPES
from runtime_check.run.compare.thresholds import THRESHOLDS
from runtime_check.run.records import Check
from runtime_check.text.words import NO_WORDS, WordErrors, count_words

from ..card_parts import File

NEAR = THRESHOLDS["q5_k"]  # how near to the model a recommended file is, whatever its type: as near as one of 5 bits
WORDS_PER_ERROR = 1000  # one more error in so many words does not show in a word error rate, which has 0.1 %
AUDIENCES = (  # by the bits of a weight, from which on
    (16, "making other types, comparing"),
    (8, "plenty of memory"),
    (5.5, "some memory to spare"),
    (4, "little memory"),
    (0, "where nothing larger fits"),
)


class Count(NamedTuple):
    """`n` of `total`."""

    n: int
    total: int

    def __str__(self) -> str:
        return f"{self.n:,} of {self.total:,}"


@dataclass(frozen=True)
class Choice:
    """A file that can be run, with its companions, and what was measured over all its checks; None if it was not.

    `kl` is the mean KL divergence of decoding steps in nats, `top1` the steps with the reference's top-1 token, `codes`
    the least share of equal codes, `words` the word errors, and `lost` by how many they exceed the reference's.
    """

    file: File
    companions: Sequence[File]
    label: str
    kl: float | None = None
    top1: Count | None = None
    codes: float | None = None
    words: WordErrors | None = None
    lost: int = 0
    recommended: bool = False

    @property
    def files(self) -> list[File]:
        return [self.file, *self.companions]

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.size for file in self.files)

    @property
    def passed(self) -> bool | None:
        """False if a file failed, None if one was not compared."""
        found = [file.passed for file in self.files]
        return False if False in found else None if None in found else True

    @property
    def right(self) -> Count | None:
        """The words of the clips that are in the transcripts."""
        words = self.words
        return Count(words.words - words.substitutions - words.deletions, words.words) if words else None

    @property
    def is_wide(self) -> bool:
        """Whether its type has at least 4 bits a weight: below, gates let the first token differ, and no few clips show
        that it does not."""
        facts = self.file.facts
        return facts is not None and facts.judged_as in THRESHOLDS and THRESHOLDS[facts.judged_as].first_token

    @property
    def is_near(self) -> bool:
        """Whether it computes what the reference does, as nearly as a file of 5 bits must."""
        if self.top1 is None:
            return self.codes is not None and self.codes >= NEAR.codes
        is_near = self.top1.n >= NEAR.steps.top1 * self.top1.total
        return is_near and self.kl is not None and self.kl <= NEAR.steps.kl_mean

    @property
    def loses_words(self) -> bool:
        """Whether it makes more word errors than the reference, beyond what a word error rate shows."""
        return self.lost > (self.words.words if self.words else 0) // WORDS_PER_ERROR

    @property
    def audience(self) -> str:
        """Whom it is for, by its type, and what was measured that speaks against it."""
        facts = self.file.facts
        bits = TYPES[facts.judged_as].bits_per_weight if facts and facts.judged_as in TYPES else None
        said = [next(text for least, text in AUDIENCES if bits >= least)] if bits is not None else []
        if self.loses_words:
            said.append(f"{self.lost:,} more word error{'s' if self.lost > 1 else ''} than the model")
        if self.passed and not self.is_near:
            said.append("differs from the model more than a 5-bit file may")
        return "; ".join(said) or NOTHING


def choices_of(files: Sequence[File]) -> list[Choice]:
    """A row for each file that can be run, by size, the smallest first: the disk and memory that one has are known.

    A companion has no row of its own beside a text model's.
    """
    by_name = {file.name: file for file in files}
    used = {name for file in files for name in file.beside}
    baseline = _errors_of_references(check for file in files for check in file.checks)
    rows = [_row(file, [by_name[name] for name in file.beside if name in by_name], baseline)
            for file in files if file.name not in used]  # fmt: skip
    rows = sorted(map(_told_apart, rows) if _are_alike(rows) else rows, key=lambda row: (row.size, row.file.name))
    whole = [row for row in rows if row.file.responds] or rows
    best = next((row for row in whole if row.passed and row.is_wide and row.is_near and not row.loses_words), None)
    return [replace(row, recommended=row is best) for row in rows]


def shown(choices: Sequence[Choice]) -> Choice:
    """The row whose files the card's commands use: the recommended one; else the nearest to the reference that passed,
    else one that did not fail."""
    return min(
        choices,
        key=lambda row: (
            not row.recommended,
            row.passed is False,
            not row.passed,
            not row.file.responds,
            row.kl is None,
            row.kl or 0.0,
        ),
    )


def _row(file: File, companions: Sequence[File], baseline: dict["Clip", int]) -> Choice:
    checks = [check for check in file.checks if check.main.role == file.role]
    steps = [check.steps for check in checks if check.steps]
    tokens = sum(one.tokens for one in steps)
    kls = [one.kl_mean * one.tokens for one in steps if one.kl_mean is not None]
    equal = [round(one.top1_agreement * one.tokens) for one in steps if one.top1_agreement is not None]
    codes = [stage.agreement for check in checks for stage in check.stages if stage.agreement is not None]
    return Choice(
        file, companions, file.label,
        kl=sum(kls) / tokens if tokens and len(kls) == len(steps) else None,
        top1=Count(sum(equal), tokens) if tokens and len(equal) == len(steps) else None,
        codes=min(codes, default=None),
        words=file.words,
        lost=sum(
            _errors(check) - baseline[_clip(check)] for check in checks if file.responds and _clip(check) in baseline
        ),
    )  # fmt: skip


def _are_alike(rows: Sequence[Choice]) -> bool:
    """Whether two rows have one label."""
    return len({row.label for row in rows}) < len(rows)


def _told_apart(row: Choice) -> Choice:
    """The row with its layout in its label, where types alone do not tell rows apart."""
    return replace(row, label=f"{row.label}, {row.file.layout} QKV") if row.file.layout else row


# ── words ────────────────────────────────────────────────────────────────────────────────────────────────────────

Clip = tuple[str, str]  # its path and sha256


def _clip(check: Check) -> Clip:
    return check.clip.file, check.clip.sha256


def _errors(check: Check) -> int:
    """Word errors of a transcript; against the reference's where it is not known what is said."""
    if check.words:
        return check.words.errors
    return count_words(check.reference.transcript, check.transcript or "").errors if check.reference else 0


def _errors_of_references(checks: Iterable[Check]) -> dict[Clip, int]:
    """The word errors of the reference on each clip. Where its response is not known as a whole, because it parts from
    the one that it was given, the fewest of any file."""
    known: dict[Clip, int] = {}
    fewest: dict[Clip, int] = {}
    for check in checks:
        if check.reference is None or check.transcript is None:
            continue
        if check.steps and all(step.id == step.reference_top1 for step in check.steps.steps):
            text = check.clip.text
            known[_clip(check)] = count_words(text, check.reference.transcript).errors if text else 0
        elif check.words:
            fewest[_clip(check)] = min(check.words.errors, fewest.get(_clip(check), check.words.errors))
    return fewest | known


# ── the table ────────────────────────────────────────────────────────────────────────────────────────────────────


class Column(NamedTuple):
    """A column of numbers: its heading, and the text of a row's cell."""

    name: str
    cell: Callable[[Choice], str]


def _words(row: Choice) -> str:
    """The words that are right, and how many were added that nobody says."""
    added = row.words.insertions if row.words else 0
    return f"{row.right or NOTHING}{f', {added:,} added' if added else ''}"


COLUMNS = (
    Column("size", lambda row: size(row.size)),
    Column("KL divergence", lambda row: brief(row.kl)),
    Column("equal top-1 tokens", lambda row: str(row.top1 or NOTHING)),
    Column("words right", _words),
    Column("equal codes", lambda row: percent(row.codes) if row.top1 is None else NOTHING),
    Column("memory", lambda row: size(row.file.needs)),
)


def columns_of(choices: Sequence[Choice]) -> list[Column]:
    """The columns in which a row has something."""
    return [column for column in COLUMNS if any(column.cell(row) != NOTHING for row in choices)]


class Rule(NamedTuple):
    """The thresholds of a recommendation; the steps, clips and words that were measured, and how many words would be
    `enough` to see a difference of one."""

    top1: float
    kl: float
    codes: float
    tokens: int
    clips: int
    words: WordErrors
    enough: int = WORDS_PER_ERROR


def rule_of(choices: Sequence[Choice]) -> Rule:
    """The rule as the card tells it."""
    tokens = max((row.top1.total for row in choices if row.top1), default=0)
    words = max((row.words for row in choices if row.words), key=lambda one: one.words, default=NO_WORDS)
    clips = {_clip(check) for row in choices for check in row.file.checks if check.words}
    return Rule(NEAR.steps.top1, NEAR.steps.kl_mean, NEAR.codes, tokens, len(clips), words)
