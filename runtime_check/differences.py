"""What is said and what was heard, word by word: where they are equal, what is missing, what is too much."""

from collections.abc import Sequence
from typing import NamedTuple

import jiwer

PLAIN = jiwer.Compose([jiwer.ToLowerCase(), jiwer.RemovePunctuation()])


class Piece(NamedTuple):
    """Words in a row that have one fate: `equal`, `missing` from what was heard, or `extra` in it."""

    fate: str
    text: str


class Word(NamedTuple):
    """A word as it is written, and as it counts: case and punctuation do not."""

    written: str
    plain: str


class Words(NamedTuple):
    """Words wrong, missing or too many, and words expected."""

    errors: int
    words: int

    @property
    def error_rate(self) -> float:
        return self.errors / self.words


def differences(expected: str, heard: str) -> list[Piece]:
    """The words of both in reading order, those that are equal as they were heard; a wrong one is missing and extra."""
    theirs, ours = _words(expected), _words(heard)
    pieces = []
    for chunk in align(theirs, ours).alignments[0]:
        missing = theirs[chunk.ref_start_idx : chunk.ref_end_idx]
        heard_here = ours[chunk.hyp_start_idx : chunk.hyp_end_idx]
        if chunk.type == "equal":
            pieces.append(_piece("equal", heard_here))
        else:
            pieces += [_piece(*fate) for fate in (("missing", missing), ("extra", heard_here)) if fate[1]]
    return pieces


def count_words(expected: str, heard: str) -> Words:
    """Words wrong, missing or too many, by the same alignment."""
    found = align(_words(expected), _words(heard))
    errors = found.substitutions + found.deletions + found.insertions
    return Words(errors, found.substitutions + found.deletions + found.hits)


def align(theirs: Sequence[Word], ours: Sequence[Word]) -> jiwer.WordOutput:
    """Which words of one text are which of another."""
    return jiwer.process_words(*(" ".join(word.plain for word in words) for words in (theirs, ours)))


def _words(text: str) -> list[Word]:
    """Words between spaces; a dash or the like that stands alone belongs to the word before it."""
    words: list[Word] = []
    for written in text.split():
        if plain := PLAIN(written):
            words.append(Word(written, plain))
        elif words:
            words[-1] = Word(f"{words[-1].written} {written}", words[-1].plain)
    return words


def _piece(fate: str, words: list[Word]) -> Piece:
    return Piece(fate, " ".join(word.written for word in words))
