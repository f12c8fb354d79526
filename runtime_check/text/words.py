"""Word alignment of a hypothesis with its reference, and the word error rate (WER).

Words are compared in lower case and without punctuation; the alignment is the minimum edit distance of `jiwer`.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import jiwer


EQUAL, DELETION, INSERTION = "equal", "deletion", "insertion"  # kinds of spans


class Span(NamedTuple):
    """Consecutive words that are EQUAL in reference and hypothesis, a DELETION or an INSERTION."""

    kind: str
    text: str


class Word(NamedTuple):
    """A word as written, and as compared: in lower case, without punctuation."""

    written: str
    plain: str


@dataclass(frozen=True)
class WordErrors:
    """Words of the reference, and those of the hypothesis that are substituted, deleted or inserted.

    `errors` is their sum S + D + I; `rate` is the WER, (S + D + I) / words, None for a reference without words.
    """

    words: int
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    errors: int = field(init=False)
    rate: float | None = field(init=False)

    def __post_init__(self) -> None:
        errors = self.substitutions + self.deletions + self.insertions
        object.__setattr__(self, "errors", errors)
        object.__setattr__(self, "rate", errors / self.words if self.words else None)

    def __add__(self, other: "WordErrors") -> "WordErrors":
        return WordErrors(
            self.words + other.words,
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
        )


NO_WORDS = WordErrors(0)


def align_words(reference: str, hypothesis: str) -> list[Span]:
    """Align two texts into spans in reading order; a substitution is a DELETION followed by an INSERTION.

    EQUAL spans have the hypothesis's spelling.
    """
    theirs, ours = _words(reference), _words(hypothesis)
    spans = []
    for chunk in _align(theirs, ours).alignments[0]:
        deleted = theirs[chunk.ref_start_idx : chunk.ref_end_idx]
        written = ours[chunk.hyp_start_idx : chunk.hyp_end_idx]
        if chunk.type == "equal":
            spans.append(_span(EQUAL, written))
        else:
            spans += [_span(kind, words) for kind, words in ((DELETION, deleted), (INSERTION, written)) if words]
    return spans


def count_words(reference: str, hypothesis: str) -> WordErrors:
    """Count the word errors of a hypothesis, by the alignment of `align_words`."""
    found = _align(_words(reference), _words(hypothesis))
    words = found.substitutions + found.deletions + found.hits
    return WordErrors(words, found.substitutions, found.deletions, found.insertions)


def _align(theirs: Sequence[Word], ours: Sequence[Word]) -> "jiwer.WordOutput":
    import jiwer  # late: a conversion that is not checked needs none of it

    return jiwer.process_words(*(" ".join(word.plain for word in words) for words in (theirs, ours)))


def _plain(word: str) -> str:
    """In lower case, without punctuation: as jiwer's transforms, but these list all characters of Unicode first, which
    takes most of a second."""
    return "".join(letter for letter in word.lower() if not unicodedata.category(letter).startswith("P"))


def _words(text: str) -> list[Word]:
    """Words between spaces; punctuation that stands alone, such as a dash, belongs to the word before it."""
    words: list[Word] = []
    for written in text.split():
        if plain := _plain(written):
            words.append(Word(written, plain))
        elif words:
            words[-1] = Word(f"{words[-1].written} {written}", words[-1].plain)
    return words


def _span(kind: str, words: list[Word]) -> Span:
    return Span(kind, " ".join(word.written for word in words))
