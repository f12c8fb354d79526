"""Transcribe clips of any length: as a whole where the context holds them, else in pieces that end in pauses."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from mimo_convert.listener import Phase
from quantize.errors import InputError
from runtime_check.audio.clips import Clip
from runtime_check.audio.pieces import pieces

from .length import longest
from .system import System, Task


@dataclass(frozen=True)
class Piece:
    """A part of a clip, from `begin` to `end` in seconds, and its transcript."""

    begin: float
    end: float
    text: str


class Transcript:
    """The transcript of the file `audio`, of so many `seconds` (None: not known yet), whose `pieces` are run as they
    are asked for, each once; `language` is that of the prompt."""

    def __init__(self, audio: Path, language: str, pieces: Iterator[Piece], seconds: float | None = None) -> None:
        self.audio, self.language = audio, language
        self._coming, self._known = pieces, list[Piece]()
        self._seconds = seconds
        self._context: Callable[[], AbstractContextManager[None]] = nullcontext

    def run_under(self, context: Callable[[], AbstractContextManager[None]]) -> None:
        """Run each piece in such a context."""
        self._context = context

    @property
    def pieces(self) -> Iterator[Piece]:
        """The pieces, in order."""
        yield from self._known
        with self._context():
            progress = Phase(f"transcribe {self.audio.name}", self._seconds, "s")
        while True:
            with self._context():
                piece = next(self._coming, None)
            if piece is None:
                progress.end()
                return
            progress.reach(piece.end)
            self._known.append(piece)
            yield piece

    @property
    def text(self) -> str:
        """The whole transcript."""
        return "".join(joined(piece.text for piece in self.pieces))


def longest_piece(system: System, path: Path) -> int:
    """The longest piece, in seconds, that the context holds. Raises InputError, about the clip `path`, if it holds
    none."""
    fits = longest(system)
    if not fits:
        raise InputError(path, f"the context of {system.context} positions holds no audio", expected="a larger one")
    return fits


def transcribe_clip(system: System, clip: Clip, task: Task, begin: float = 0) -> Iterator[Piece]:
    """Transcribe `clip`, which begins at `begin` seconds, piece by piece. Raises InputError as `longest_piece`."""
    for part in pieces(clip.wave, clip.rate, longest_piece(system, clip.path)):
        text = system.run(replace(clip, wave=clip.wave[part]), task).transcript.strip()
        yield Piece(begin + part.start / clip.rate, begin + part.stop / clip.rate, text)


def joined(texts: Iterable[str]) -> Iterator[str]:
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
