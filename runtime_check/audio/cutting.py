"""How clips that are too long are cut, and the transcripts of their pieces joined; a system may have its own way."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

from runtime_check.audio.clips import Clip
from runtime_check.audio.pieces import pieces


class CutClip(NamedTuple):
    """A part of a clip, from `begin` to `end` in seconds, as a clip of its own."""

    begin: float
    end: float
    clip: Clip


def cut_at_pauses(clip: Clip, longest: float) -> Iterator[CutClip]:
    """Cut a clip into parts of at most `longest` seconds, each of which but the last ends in a pause."""
    for part in pieces(clip.wave, clip.rate, longest):
        yield CutClip(part.start / clip.rate, part.stop / clip.rate, replace(clip, wave=clip.wave[part]))


def join_words(texts: Iterable[str]) -> Iterator[str]:
    """Yield the transcripts of pieces with what stands between them: a space, but nothing within languages that are
    written without."""
    last = ""
    for text in filter(None, texts):
        yield text if not last or (_is_unspaced(last[-1]) and _is_unspaced(text[0])) else f" {text}"
        last = text


def _is_unspaced(character: str) -> bool:
    """Whether a character is of a script without spaces: Chinese, Japanese, Thai, and their punctuation."""
    code = ord(character)
    return 0x0E00 <= code < 0x0E80 or 0x2E80 <= code < 0xA4D0 or 0xF900 <= code < 0xFB00 or 0xFE30 <= code < 0xFFF0


class Cutting(NamedTuple):
    """`cut(clip, longest)` yields the parts of a clip, none longer than `longest` seconds; `join(texts)` yields the
    texts with what stands between them."""

    cut: Callable[[Clip, float], Iterator[CutClip]] = cut_at_pauses
    join: Callable[[Iterable[str]], Iterator[str]] = join_words


AT_PAUSES = Cutting()
