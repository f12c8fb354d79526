"""A tensor as it lies in a file, of a checkpoint or GGUF, read a few rows at a time.

Tensors are read with `pread`, never mapped, so that no page of a 16 GB checkpoint stays in this process's memory.
"""

import os
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from quantize.errors import InputError
from quantize.kernels import Bytes, Floats, to_float32
from quantize.types import Type


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies: `begin` is the absolute offset in `file`; `shape` as in PyTorch, (rows, columns, …)."""

    name: str
    file: Path
    type: Type
    shape: tuple[int, ...]
    begin: int

    @property
    def n_rows(self) -> int:
        return self.shape[0] if len(self.shape) > 1 else 1

    @property
    def row(self) -> int:
        """Weights in a row: everything behind the first dimension, or all of a one-dimensional tensor."""
        return prod(self.shape[1:]) if len(self.shape) > 1 else prod(self.shape)

    @property
    def row_bytes(self) -> int:
        return self.type.nbytes(self.row)

    @property
    def nbytes(self) -> int:
        return self.type.nbytes(prod(self.shape))

    def read(self, first: int = 0, n: int | None = None, into: Bytes | None = None) -> Bytes:
        """Rows `first` … `first + n` as stored: (n, row bytes) uint8; `into` is a flat buffer with room for them.

        Raises InputError where the file cannot be read or ends early.
        """
        n = self.n_rows - first if n is None else n
        want = n * self.row_bytes
        flat = np.empty(want, np.uint8) if into is None else into[:want]
        view = memoryview(flat.data)
        got, offset = 0, self.begin + first * self.row_bytes
        try:
            fd = os.open(self.file, os.O_RDONLY)
            try:
                while got < want:
                    step = os.preadv(fd, [view[got:]], offset + got)
                    if step == 0:
                        break
                    got += step
            finally:
                os.close(fd)
        except OSError as error:
            raise InputError(self.file, f"tensor {self.name} cannot be read: {error.strerror}") from error
        if got < want:
            what = f"tensor {self.name} ends {want - got} bytes early"
            raise InputError(self.file, what, todo="get it again")
        return flat.reshape(n, self.row_bytes)

    def read_float32(self, first: int = 0, n: int | None = None) -> Floats:
        """The same rows as float32: (n, row)."""
        return to_float32(self.read(first, n), self.type)


def shape_text(shape: tuple[int, ...]) -> str:
    """A shape as a person reads it: 1024×256."""
    return "×".join(map(str, shape)) or "scalar"
