"""A tensor of a checkpoint with the products of an adapter added to its rows, a run of rows at a time."""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from quantize.kernels import Bytes, Floats, Scratch, to_float32
from quantize.simd import add_low_rank
from quantize.types import F32, Type

from .tensor import TensorSlice

SUMS = Scratch()
FACTORS_KEPT = 8  # tensors whose factors are in memory: those of the chunks in flight


class Product(NamedTuple):
    """`scale` × B[:, start:end] · A[start:end], of A (rank, columns) and B (rows, rank)."""

    a: TensorSlice
    b: TensorSlice
    start: int
    end: int
    scale: float


@dataclass(frozen=True)
class AdaptedTensor(TensorSlice):
    """A stored tensor and `products`, whose sum is added to its weights in float32. `read` gives the rows as stored,
    `weights` the sums."""

    products: tuple[Product, ...] = ()

    @property
    def weights_type(self) -> Type:
        return F32

    @property
    def read_from(self) -> str:
        adapters = dict.fromkeys(str(product.a.file) for product in self.products)
        return f"{self.file} with {' and '.join(adapters)}"

    def weights(self, first: int, rows: Bytes) -> tuple[Bytes, Type]:
        a, b = factors(self.products)
        sums = to_float32(rows, self.ggml_type, SUMS)
        if self.ggml_type is F32:  # the rows themselves, which stay as they are
            sums = sums.copy()
        add_low_rank(sums, b[first : first + len(rows)], a)
        return sums.view(np.uint8), F32

    def read_float32(self, first: int = 0, n: int | None = None) -> Floats:
        return self.weights(first, self.read(first, n))[0].view(np.float32).copy()


@lru_cache(FACTORS_KEPT)
def factors(products: tuple[Product, ...]) -> tuple[Floats, Floats]:
    """All products as one: A (ranks, columns), and B (rows, ranks), which holds the scales."""
    a = [one.a.read_float32(one.start, one.end - one.start) for one in products]
    b = [one.b.read_float32()[:, one.start : one.end] * np.float32(one.scale) for one in products]
    return np.concatenate(a), np.ascontiguousarray(np.concatenate(b, axis=1))


def adapted(tensor: TensorSlice, products: tuple[Product, ...]) -> AdaptedTensor:
    """`tensor` with products added."""
    return AdaptedTensor(tensor.name, tensor.file, tensor.ggml_type, tensor.shape, tensor.begin, products)
