"""llama.cpp's importance matrix before GGUF (`.dat`), the only form that ik_llama.cpp reads.

Little-endian, integers of 32 bits: the number of entries; of each the length of its name, the name, a number of calls
n, the number of columns, and n · E[x²] of each as float32; then the number of chunks, and the length and the name of a
dataset, which old files lack. With n = 0 the values are E[x²] itself.
"""

import struct
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np

from mimo_convert.files import write_whole
from mimo_convert.formats.calibration import Calibration, ColumnSums
from quantize.errors import InputError
from quantize.quoting import quoted

from .gguf_form import MAKE, chunks_of, datasets_of
from .sums import checked_sums

INTEGER = struct.Struct("<i")
MAX_ENTRIES, MAX_NAME, MAX_DATASET = 1 << 16, 256, 1 << 16


def write_legacy(path: Path, calibration: Calibration) -> None:
    """Write the importance matrix of a calibration as a `.dat` file, atomically, in order of names. Sums of x, Fisher
    information and clips are not in it.

    Raises InputError if the file cannot be written.
    """
    columns = sorted(calibration.columns.items())
    dataset = ", ".join(datasets_of(calibration)).encode()[:MAX_DATASET].decode(errors="ignore")
    parts = [INTEGER.pack(len(columns))]
    for name, of in columns:
        squares = np.ascontiguousarray(of.squares, "<f4").tobytes()
        parts += [_packed(name), INTEGER.pack(of.count), INTEGER.pack(len(of.squares)), squares]
    write_whole(path, b"".join([*parts, INTEGER.pack(chunks_of(calibration)), _packed(dataset)]))


def _packed(text: str) -> bytes:
    """A text behind its length."""
    return INTEGER.pack(len(text.encode())) + text.encode()


def parse(path: Path, data: bytes, expected: str) -> Calibration:
    """The importance matrix in the bytes of a file. Raises InputError, which says that it should be as `expected`,
    unless they are one."""
    if not 0 <= int.from_bytes(data[: INTEGER.size], "little", signed=True) <= MAX_ENTRIES:
        what = "is neither a GGUF file nor a .dat importance matrix"
        raise InputError(path, what, expected=expected, todo=MAKE)
    try:
        return _Reader(path, data).parse()
    except (struct.error, UnicodeDecodeError, EOFError) as error:
        at = f"damaged: {error}" if str(error) else "damaged or of another kind"
        raise InputError(path, at, expected=expected) from error


class _Reader:
    """A cursor over the bytes. Raises EOFError for what reaches past the end."""

    def __init__(self, path: Path, data: bytes) -> None:
        self.path, self.data, self.at = path, data, 0

    def parse(self) -> Calibration:
        """All entries, and what follows them."""
        columns = dict(self.entries())
        chunks = self.number("the number of chunks", 1 << 31) if self.at < len(self.data) else 0
        dataset = self.text("the dataset", MAX_DATASET) if self.at < len(self.data) else ""
        if self.at < len(self.data):
            raise EOFError(f"{len(self.data) - self.at} bytes behind its end")
        hashed, datasets = sha256(self.data).hexdigest(), (dataset,) if dataset else ()
        return Calibration(self.path, hashed, "", columns, datasets=datasets, chunks=chunks)

    def entries(self) -> Iterator[tuple[str, ColumnSums]]:
        """Each weight's name and sums. Raises InputError for a repeated name."""
        seen: set[str] = set()
        for _ in range(self.number("the number of entries", MAX_ENTRIES)):
            name = self.text("a name", MAX_NAME)
            if name in seen:
                raise InputError(self.path, f"duplicate entry {quoted(name)}")
            seen.add(name)
            calls = self.number(f"the calls of {name}", 1 << 31)
            n = self.number(f"the columns of {name}", 1 << 31)
            values = np.frombuffer(self.take(4 * n, f"the values of {name}"), "<f4")
            if n:
                yield name, checked_sums(self.path, name, values, None, calls or 1)

    def number(self, what: str, most: int) -> int:
        """The integer at the cursor. Raises EOFError for one that is negative or too large."""
        [found] = INTEGER.unpack(self.take(INTEGER.size, what))
        if not 0 <= found <= most:
            raise EOFError(f"{what} is {found}")
        return int(found)

    def text(self, what: str, most: int) -> str:
        """The text at the cursor, of at most `most` bytes; it ends at a NUL."""
        return self.take(self.number(f"the length of {what}", most), what).split(b"\0")[0].decode()

    def take(self, n: int, what: str) -> bytes:
        """The next `n` bytes."""
        if self.at + n > len(self.data):
            raise EOFError(f"it ends in {what}")
        self.at += n
        return self.data[self.at - n : self.at]
