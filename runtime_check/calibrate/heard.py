"""The pieces of clips that a model is calibrated with, and what it answers to each: the known text, or what a GGUF file
of the model hears."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from mimo_convert.terminal import tell, warn
from quantize.errors import InputError
from quantize.quoting import quoted
from runtime_check.audio.clips import Clip
from runtime_check.audio.cutting import Cutting
from runtime_check.audio.manifests import AudioFile
from runtime_check.audio.wave import is_steady
from runtime_check.run.activations import GREEDY
from runtime_check.run.system import System, Task

LONGEST_SECONDS = 120.0  # of a piece: attention takes memory with the square of it
NO_ANSWER = "the manifest's text, or --answers FILE.gguf, a file of the same checkpoint, at least q8_0, which hears it"


class Piece(NamedTuple):
    """A piece of the clip `file`, and its number among the clip's pieces."""

    file: AudioFile
    number: int
    clip: Clip

    @property
    def name(self) -> str:
        """What the piece is called, the same in every run of it."""
        return name_of(self.file, self.number)


Answer = Callable[[Piece], list[int]]  # the token ids of the response to a piece; none: it is left out


def name_of(file: AudioFile, number: int) -> str:
    """What a piece of a clip is called."""
    return f"{file.sha256}-{number}"


def is_known(file: AudioFile) -> bool:
    """Whether what is said in a clip is known, and of one piece."""
    return file.text is not None and file.seconds <= LONGEST_SECONDS


def pieces_of(files: Iterable[AudioFile], cutting: Cutting) -> Iterator[Piece]:
    """The pieces of clips, none longer than LONGEST_SECONDS, cut as the model cuts long ones."""
    for file in files:
        for number, part in enumerate(cut(file.read(), cutting)):
            yield Piece(file, number, part)


def cut(clip: Clip, cutting: Cutting) -> list[Clip]:
    """The pieces of one clip; itself, if it is not too long."""
    return [clip] if clip.seconds <= LONGEST_SECONDS else [part.clip for part in cutting.cut(clip, LONGEST_SECONDS)]


def check_answered(files: Iterable[AudioFile]) -> None:
    """Raise InputError for a clip without a text that could be used, where nothing hears it."""
    for file in files:
        if file.text is None:
            raise InputError(file.path, "has no text that the model could be calibrated with", expected=NO_ANSWER)
        if file.seconds > LONGEST_SECONDS:
            what = f"has {file.seconds:.0f} s of audio with one text, which cannot be divided"
            raise InputError(file.path, what, expected=f"at most {LONGEST_SECONDS:.0f} s, or --answers FILE.gguf")


def heard_by(system: System, task: Task) -> Answer:
    """What a system answers to a piece; none, and told, if that does not end."""

    def answer(piece: Piece) -> list[int]:
        ids: list[int] = system.run(piece.clip, task).stages[GREEDY].tolist()
        if system.text and ids[-1] not in system.text.stops:
            tell(f"{quoted(piece.file.path)}: left out, since what is heard does not end within {len(ids)} tokens")
            return []
        return ids

    return answer


def without_noise(files: Sequence[AudioFile]) -> list[AudioFile]:
    """The clips by which choices can be made: those whose level changes. Warns of the others: by noise, what suits
    noise would be chosen."""
    clips = ((file, file.read()) for file in files)
    found = [file for file, clip in clips if not is_steady(clip.wave, clip.rate)]
    if len(found) < len(files):
        left = f"{len(files) - len(found)} of {len(files)} clips for selection"
        warn(f"{left} have a level that hardly changes, as noise has: nothing is chosen by them")
    return found
