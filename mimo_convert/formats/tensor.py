"""A tensor in a file, of a checkpoint or GGUF, read a few rows at a time.

Rows are read with `pread`, not mapped, so that no page of a 16 GB checkpoint stays in this process's memory.
"""

import os
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import numpy as np

from quantize.errors import InputError
from quantize.kernels import Bytes, Floats, to_float32
from quantize.types import F32, Type


@dataclass(frozen=True)
class TensorSlice:
    """A tensor's bytes in `file` from the absolute offset `begin`; `shape` as in PyTorch, (rows, columns, …)."""

    name: str
    file: Path
    ggml_type: Type
    shape: tuple[int, ...]
    begin: int

    @property
    def is_stored(self) -> bool:
        """Whether its bytes are read from `file`."""
        return True

    @property
    def weights_type(self) -> Type:
        """The type of what `weights` gives."""
        return self.ggml_type

    @property
    def read_from(self) -> str:
        """What its weights are read from, for messages."""
        return str(self.file)

    @property
    def n_rows(self) -> int:
        """The first dimension; 1 for a 1-D tensor."""
        return self.shape[0] if len(self.shape) > 1 else 1

    @property
    def row(self) -> int:
        """Weights per row: the product of all dimensions but the first; of a 1-D tensor, all."""
        return prod(self.shape[1:]) if len(self.shape) > 1 else prod(self.shape)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return self.ggml_type.nbytes(self.row)

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor."""
        return self.ggml_type.nbytes(prod(self.shape))

    def read(self, first: int = 0, n: int | None = None, into: Bytes | None = None) -> Bytes:
        """Read rows `first` … `first + n` as stored: (n, row bytes) uint8. `into` is a flat buffer to read into.

        Raises InputError if the file cannot be read or is truncated.
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

    def weights(self, first: int, rows: Bytes) -> tuple[Bytes, Type]:
        """The weights of `rows`, which `read` gave from row `first` on, and their type: the rows themselves, unless
        something is added to them. Valid until this thread's next call."""
        return rows, self.ggml_type

    def read_float32(self, first: int = 0, n: int | None = None) -> Floats:
        """Read the weights of the same rows as (n, row) float32."""
        return to_float32(self.read(first, n), self.ggml_type)


@dataclass(frozen=True)
class ComputedTensor(TensorSlice):
    """A tensor whose `values`, (rows, row) float32, are computed from the sizes in `file`, and not stored."""

    values: Floats = field(default_factory=lambda: np.empty((0, 0), np.float32), compare=False)

    @property
    def is_stored(self) -> bool:
        return False

    def read(self, first: int = 0, n: int | None = None, into: Bytes | None = None) -> Bytes:
        n = self.n_rows - first if n is None else n
        flat = np.empty(n * self.row_bytes, np.uint8) if into is None else into[: n * self.row_bytes]
        rows = flat.reshape(n, self.row_bytes)
        rows[:] = self.values[first : first + n].view(np.uint8)
        return rows


def computed_tensor(name: str, file: Path, values: Floats) -> ComputedTensor:
    """A tensor of `values`, of any shape, that the sizes in `file` determine."""
    rows = np.ascontiguousarray(values, np.float32).reshape(len(values) if values.ndim > 1 else 1, -1)
    return ComputedTensor(name, file, F32, values.shape, 0, rows)


def shape_text(shape: tuple[int, ...]) -> str:
    """A shape as text: 1024×256."""
    return "×".join(map(str, shape)) or "scalar"
