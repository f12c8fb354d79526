"""Audio clips: the waveform, the hash of the file, and the reference text, if it is known."""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mimo_convert.disk import sha256_of_open
from mimo_convert.files import open_regular

from . import decode
from .jfk import JFK_SHA256, JFK_TEXT
from .wave import Wave

MAX_TOKENS_PER_SECOND, LEAST_TOKENS = 8, 256  # a response that is longer does not end by itself


@dataclass(frozen=True)
class Clip:
    """A decoded audio file: `wave` is (samples,) float32 at `rate` Hz, `sha256` the hash of the file, `text` the
    reference text or None; `source` the speaker or recording that it shares with other clips, empty if not known."""

    path: Path
    wave: Wave
    rate: int
    sha256: str
    text: str | None = None
    source: str = ""

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return len(self.wave) / self.rate

    @property
    def longest_response(self) -> int:
        """The number of tokens after which a response is taken to be endless."""
        return longest_response(self.seconds)


def longest_response(seconds: float) -> int:
    """The number of tokens after which a response to `seconds` of audio is taken to be endless."""
    return max(LEAST_TOKENS, int(seconds * MAX_TOKENS_PER_SECOND))


def read_clip(path: Path, text: str | None = None) -> Clip:
    """Decode an audio file with the reference text `text`. Raises InputError if it cannot be decoded, or is empty."""
    with open_regular(path, expected=decode.SOUND) as file:
        return clip_of(file, path, text)


def clip_of(file: BinaryIO, path: Path, text: str | None = None) -> Clip:
    """`read_clip` of an open file, which messages call `path`."""
    wave, rate = decode.decode(file, path)
    sha256 = sha256_of_open(file)
    if text is None and sha256 == JFK_SHA256:
        text = JFK_TEXT
    return Clip(path, wave, rate, sha256, text)
