"""Write a waveform as WAV, 16-bit mono PCM, while it comes."""

import struct
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from mimo_convert.files import check_can_write, input_errors, is_stream, open_stream, target_of

from .wave import Wave
from .write import encoded

UNKNOWN = (1 << 32) - 1  # bytes, of samples that are still to come where nothing can be written again
HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")  # RIFF, its size; fmt, its size and values; data, its size
PCM, CHANNELS, SAMPLE_BYTES = 1, 1, 2


class WavStream:
    """A WAV file that is written while its samples come, and that holds at any time all that have come; or `-`, a pipe
    or a device, whose header says that their number is unknown.

    A file is created with the first samples, so that none is left where there are none.
    """

    def __init__(self, path: Path, rate: int) -> None:
        """`rate` is in Hz. Raises InputError if `path` cannot be written."""
        check_can_write(path)
        self.path, self.rate = path, rate
        self.bytes = 0
        self._in_place = is_stream(path)
        self._file: BinaryIO | None = None

    def __enter__(self) -> "WavStream":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file:
            with suppress(OSError) if error else input_errors(self.path, "cannot be written"):
                self._file.close()

    def write(self, wave: Wave) -> None:
        """Append (samples,), those beyond ±1 clipped, and flush them. Raises InputError if they cannot be written,
        BrokenPipeError if their reader is gone."""
        if not len(wave):
            return
        try:
            self._append(encoded(wave, self.rate, "RAW", "PCM_16", "LITTLE"))
        except BrokenPipeError:
            raise
        except OSError:
            with input_errors(self.path, "cannot be written"):
                raise

    def _append(self, data: bytes) -> None:
        if self._file is None:
            self._file = open_stream(self.path) if self._in_place else target_of(self.path).open("wb")
            self._file.write(self._header(UNKNOWN))
        self._file.write(data)
        self.bytes += len(data)
        if not self._in_place:
            self._file.seek(0)
            self._file.write(self._header(self.bytes))
            self._file.seek(0, 2)
        self._file.flush()

    def _header(self, nbytes: int) -> bytes:
        whole = min(UNKNOWN, nbytes + HEADER.size - 8)
        frame = CHANNELS * SAMPLE_BYTES
        return HEADER.pack(
            b"RIFF", whole, b"WAVE", b"fmt ", 16, PCM, CHANNELS, self.rate, self.rate * frame, frame, 8 * SAMPLE_BYTES,
            b"data", nbytes,
        )  # fmt: skip
