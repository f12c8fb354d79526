"""What is said and what was heard, word by word: where they are equal, what is missing, what is too much."""

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


def differences(expected: str, heard: str) -> list[Piece]:
    """The words of both in reading order, those that are equal as they were heard; a wrong one is missing and extra."""
    theirs, ours = _words(expected), _words(heard)
    alignment = jiwer.process_words(*(" ".join(word.plain for word in words) for words in (theirs, ours)))
    pieces = []
    for chunk in alignment.alignments[0]:
        missing = theirs[chunk.ref_start_idx : chunk.ref_end_idx]
        heard_here = ours[chunk.hyp_start_idx : chunk.hyp_end_idx]
        if chunk.type == "equal":
            pieces.append(_piece("equal", heard_here))
        else:
            pieces += [_piece(*fate) for fate in (("missing", missing), ("extra", heard_here)) if fate[1]]
    return pieces


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
