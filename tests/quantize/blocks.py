"""What the tests of the kernels share: rows of many kinds, ggml's own blocks of them, and what an error is."""

import ctypes
from collections.abc import Callable

import ggml
import gguf
import numpy as np
import numpy.typing as npt

from quantize import kernels
from quantize.types import BF16, F16, F32, TYPES, Type

Bytes = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.float32]

FLOATS = (F32, F16, BF16)
BLOCK_TYPES = tuple(type for type in TYPES.values() if type.block > 1)
K_QUANTS = tuple(type for type in BLOCK_TYPES if type.name.endswith("_k"))
WEIGHTED = tuple(type for type in BLOCK_TYPES if type.name != "q8_0")  # the types whose kernels take an imatrix
LARGEST = 65504  # the largest finite half


def ordinary(random: np.random.Generator, shape: tuple[int, int]) -> Rows:
    return random.standard_normal(shape, np.float32) * np.float32(0.02)


def heavy_tailed(random: np.random.Generator, shape: tuple[int, int]) -> Rows:
    return random.standard_t(1.5, shape).clip(-LARGEST, LARGEST).astype(np.float32)


def scaled(random: np.random.Generator, shape: tuple[int, int], low: int, high: int, together: int) -> Rows:
    """Powers of ten from `low` to `high`, times normal numbers; each power is that of `together` weights."""
    powers = random.integers(low, high + 1, (shape[0], shape[1] // together)).repeat(together, axis=1)
    return (random.standard_normal(shape) * 10.0**powers).clip(-LARGEST, LARGEST).astype(np.float32)


def any_bits(random: np.random.Generator, shape: tuple[int, int]) -> Rows:
    bits = random.integers(0, 2**32, shape, np.uint32).view(np.float32)
    return np.where(np.abs(bits) <= LARGEST, bits, np.float32(0))  # a comparison with NaN is false


# Those that the issue of the kernels names, and then those at which a search may stumble. All within ±65504.
KINDS: dict[str, Callable[[np.random.Generator, tuple[int, int]], Rows]] = {
    "ordinary": ordinary,
    "heavy-tailed": heavy_tailed,
    "positive": lambda random, shape: np.abs(ordinary(random, shape)),
    "negative": lambda random, shape: -np.abs(ordinary(random, shape)),
    "sparse": lambda random, shape: ordinary(random, shape) * (random.random(shape) < 0.05),
    "constant": lambda random, shape: ordinary(random, (shape[0], 1)).repeat(shape[1], axis=1),
    "tiny": lambda random, shape: ordinary(random, shape) * np.float32(1e-38),  # denormal
    "huge": lambda random, shape: (ordinary(random, shape) * np.float32(2e6)).clip(-LARGEST, LARGEST),
    "zero": lambda random, shape: np.zeros(shape, np.float32),
    "zeros of both signs": lambda random, shape: np.where(random.random(shape) < 0.5, -0.0, 0.0).astype(np.float32),
    "steps": lambda random, shape: ordinary(random, (shape[0], shape[1] // 16)).repeat(16, axis=1),
    "far from zero": lambda random, shape: np.float32(-1000) + ordinary(random, shape),
    "few and far between": lambda random, shape: heavy_tailed(random, shape) * (random.random(shape) < 0.03),
    "small integers": lambda random, shape: random.integers(-8, 8, shape).astype(np.float32),  # ties
    # Their magnitudes, as the scales that are made of them, are half-way between two halves: ties of 12 bits.
    "between halves": lambda random, shape: ((random.integers(-2048, 2048, shape) * 2 + 1) / 4096).astype(np.float32),
    "signs": lambda random, shape: random.choice(np.array([-1, 1], np.float32), shape),
    "small halves": lambda random, shape: ordinary(random, shape) * np.float32(1e-4),  # denormal in f16
    "about nothing": lambda random, shape: scaled(random, shape, -16, -14, 16),  # where ggml makes a sub-block 0
    "sub-blocks of any size": lambda random, shape: scaled(random, shape, -45, 4, 16),
    "weights of any size": lambda random, shape: scaled(random, shape, -45, 4, 1),
    "any bits": any_bits,
}


def rows_of(kind: str, n: int, row: int, seed: int = 0) -> Rows:
    return np.ascontiguousarray(KINDS[kind](np.random.default_rng(seed), (n, row)), np.float32)


def rows_of_each_kind(n: int, row: int) -> Rows:
    """`n` rows of each, one kind behind the other."""
    return np.concatenate([rows_of(kind, n, row) for kind in KINDS])


def imatrix_of(row: int, seed: int = 0) -> Rows:
    """An importance matrix, as spread as that of a real calibration: means of squared activations."""
    return np.random.default_rng(seed).standard_t(3, row).astype(np.float32) ** 2


def as_stored(rows: Rows, type: Type) -> tuple[Bytes, Rows]:
    """Rows as they lie in a file of a float type, and the weights that they are there."""
    data = kernels.quantize_rows(rows, type)
    return data, kernels.to_float32(data, type)


def ggml_blocks(rows: Rows, type: Type, imatrix: Rows | None = None) -> Bytes:
    """One call of `ggml_quantize_chunk` over all rows."""
    rows = np.ascontiguousarray(rows, np.float32)
    out = np.empty((len(rows), type.nbytes(rows.shape[1])), np.uint8)
    pointer = ctypes.POINTER(ctypes.c_float)
    matrix = None if imatrix is None else np.ascontiguousarray(imatrix, np.float32).ctypes.data_as(pointer)
    written = ggml.ggml_quantize_chunk(
        type.ggml, rows.ctypes.data_as(pointer), out.ctypes.data_as(ctypes.c_void_p), 0, *rows.shape, matrix
    )
    assert written == out.nbytes
    return out


def differing(blocks: Bytes, others: Bytes, type: Type) -> npt.NDArray[np.intp]:
    """Which blocks are not the same, numbered from the first of the first row."""
    pair = blocks.reshape(-1, type.block_bytes), others.reshape(-1, type.block_bytes)
    return np.flatnonzero((pair[0] != pair[1]).any(axis=1))


def readings(blocks: Bytes, type: Type) -> dict[str, Rows]:
    """What blocks stand for, by both of those that read files."""
    return {
        "ggml": kernels.to_float32(blocks, type),
        "gguf": gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType(type.ggml)),
    }


def error(rows: Rows, read: Rows, type: Type, imatrix: Rows | None = None) -> float:
    """Weighted: error² × (|x| + root mean square of the block), × that of the column; summed over all blocks, each as a
    share of what it would be if nothing were kept, so that blocks of small weights count as much as others."""
    exact = rows.astype(np.float64).reshape(-1, type.block)
    weight = np.abs(exact) + np.sqrt(np.mean(exact**2, axis=1, keepdims=True))
    if imatrix is not None:
        weight *= np.broadcast_to(imatrix, rows.shape).reshape(exact.shape)
    wrong = np.sum(weight * (read.reshape(exact.shape) - exact) ** 2, axis=1)
    all_of_it = np.sum(weight * exact**2, axis=1)
    return float(np.sum(wrong[all_of_it > 0] / all_of_it[all_of_it > 0]))
