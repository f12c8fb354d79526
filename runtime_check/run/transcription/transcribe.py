"""Transcribe clips of any length: as a whole where the context holds them, else in pieces that end in pauses."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from mimo_convert.listener import Phase
from mimo_convert.terminal import tell
from quantize.errors import InputError
from quantize.quoting import quoted
from runtime_check.audio.clips import Clip
from runtime_check.audio.cutting import AT_PAUSES, Cutting, join_words
from runtime_check.run.activations import GREEDY, Activations
from runtime_check.run.system import System, Task

from .length import longest


@dataclass(frozen=True)
class Piece:
    """A part of a clip, from `begin` to `end` in seconds, its transcript, and the language that the response names,
    empty if it names none."""

    begin: float
    end: float
    text: str
    language: str = ""


class Transcript:
    """The transcript of the file `audio`, of so many `seconds` (None: not known yet), whose `pieces` are run as they
    are asked for, each once; `language` is that of the prompt, `join` as that of a Cutting."""

    def __init__(
        self, audio: Path, language: str, pieces: Iterator[Piece], seconds: float | None = None,
        join: Callable[[Iterable[str]], Iterator[str]] = join_words,
    ) -> None:  # fmt: skip
        self.audio, self.language, self.join = audio, language, join
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
    def heard_language(self) -> str:
        """The languages that the responses name, without empty and adjacent equal ones, joined by commas."""
        named = [piece.language for piece in self.pieces if piece.language]
        return ",".join(name for name, before in zip(named, ["", *named], strict=False) if name != before)

    @property
    def text(self) -> str:
        """The whole transcript."""
        return "".join(self.join(piece.text for piece in self.pieces))


def longest_piece(system: System, path: Path) -> int:
    """The longest piece, in seconds, that the context holds. Raises InputError, about the clip `path`, if it holds
    none."""
    fits = longest(system)
    if not fits:
        raise InputError(path, f"the context of {system.context} positions holds no audio", expected="a larger one")
    return fits


def transcribe_clip(
    system: System, clip: Clip, task: Task, begin: float = 0, cutting: Cutting = AT_PAUSES
) -> Iterator[Piece]:
    """Transcribe `clip`, which begins at `begin` seconds, piece by piece. Raises InputError as `longest_piece`."""
    for part in cutting.cut(clip, longest_piece(system, clip.path)):
        run = system.run(part.clip, task)
        tell_of_limit(system, run, clip.path, begin + part.begin)
        yield Piece(begin + part.begin, begin + part.end, run.transcript.strip(), run.language)


def tell_of_limit(system: System, run: Activations, path: Path, begin: float) -> None:
    """Tell of a response that ended because it had as many tokens as it may have."""
    ids = run.stages[GREEDY]
    if system.text and ids[-1] not in system.text.stops:
        where = f"{quoted(path)}: what is said from {begin:.0f} s on"
        tell(f"{where} took more than the {len(ids)} tokens that were allowed; --max-new-tokens allows more")
