"""Weights of a checkpoint in PyTorch, one tensor in memory at a time."""

from collections.abc import Iterator
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from mimo_convert.formats.tensor import TensorSlice
from mimo_convert.listener import advance
from mimo_convert.model.checkpoint import Checkpoint
from quantize.types import BF16

HEAD_ROWS_AT_ONCE = 16384
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


class Weights(Protocol):
    """Weights by checkpoint name; activations take their dtype. What a layer multiplies goes through `linear`, which
    classes inherit."""

    def __call__(self, name: str) -> Tensor:
        """The whole tensor."""

    def rows(self, name: str, ids: Tensor) -> Tensor:
        """Rows `ids` (any shape) of a matrix: (*ids.shape, columns)."""

    def linear(self, name: str, x: Tensor, bias: str | None = None) -> Tensor:
        """x (…, columns) times a matrix, transposed, plus the vector `bias`: (…, rows)."""
        return F.linear(x, self(name), None if bias is None else self(bias))

    def row_blocks(self, name: str) -> Iterator[Tensor]:
        """Yield the rows of a matrix, some at a time if it is large."""
        yield self(name)


class CheckpointWeights(Weights):
    """Weights read from the shards on demand, not cached."""

    def __init__(self, checkpoint: Checkpoint, dtype: torch.dtype) -> None:
        self.tensors, self.dtype = checkpoint.tensors, dtype

    def __call__(self, name: str) -> Tensor:
        info = self.tensors[name]
        return self._read(info).reshape(info.shape)

    def _read(self, info: TensorSlice, first: int = 0, n: int | None = None) -> Tensor:
        advance((info.n_rows if n is None else n) * info.row_bytes, info.name)
        if self.dtype is torch.bfloat16 and info.weights_type is BF16:
            return torch.from_numpy(info.read(first, n)).view(torch.bfloat16)
        return torch.from_numpy(info.read_float32(first, n)).to(self.dtype)

    def rows(self, name: str, ids: Tensor) -> Tensor:
        """Rows `ids` (any shape) of a matrix: (*ids.shape, columns)."""
        unique, inverse = torch.unique(ids, return_inverse=True)
        rows = [self._read(self.tensors[name], int(i), 1) for i in unique]
        return torch.cat(rows)[inverse]

    def linear(self, name: str, x: Tensor, bias: str | None = None) -> Tensor:
        """As of any weights; a large matrix, as heads are, is read a block of rows at a time."""
        if self.tensors[name].n_rows <= HEAD_ROWS_AT_ONCE:
            return super().linear(name, x, bias)
        y = torch.cat([F.linear(x, rows) for rows in self.row_blocks(name)], -1)
        return y if bias is None else y + self(bias)

    def row_blocks(self, name: str) -> Iterator[Tensor]:
        """Yield the rows of a large matrix, HEAD_ROWS_AT_ONCE at a time."""
        info = self.tensors[name]
        for first in range(0, info.n_rows, HEAD_ROWS_AT_ONCE):
            yield self._read(info, first, min(HEAD_ROWS_AT_ONCE, info.n_rows - first))


class KeptWeights(Weights):
    """Weights of which those whose names begin with one of `prefixes` are read once, and kept."""

    def __init__(self, weights: Weights, prefixes: tuple[str, ...]) -> None:
        self.weights, self.prefixes, self.kept = weights, prefixes, dict[str, Tensor]()

    def __call__(self, name: str) -> Tensor:
        if not name.startswith(self.prefixes):
            return self.weights(name)
        if name not in self.kept:
            self.kept[name] = self.weights(name)
        return self.kept[name]

    def rows(self, name: str, ids: Tensor) -> Tensor:
        """Rows `ids` (any shape) of a matrix: (*ids.shape, columns)."""
        return self(name)[ids] if name.startswith(self.prefixes) else self.weights.rows(name, ids)
