"""Structured random matrices and inputs, the kernels' float32 in numpy, and errors in float64."""

from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from quantize.feedback.factor import Factor
from quantize.kernels import Floats, quantize_rows, to_float32
from quantize.types import TYPES, Type
from tests.quantize.blocks import Bytes

Doubles = npt.NDArray[np.float64]

FEEDBACK_TYPES = [TYPES[name] for name in ("q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_xs")]


class Sample(NamedTuple):
    """Rows (m, n), and second moments (n, n) of inputs whose columns correlate and differ in size."""

    rows: Floats
    moments: Floats


@cache
def sample(n: int, m: int = 40, positions: int = 1024, seed: int = 0) -> Sample:
    """Neighbouring columns correlate, channels are log-normal, weights are of Student's t with 5 degrees."""
    random = np.random.default_rng(seed)
    apart = np.arange(n)[:, None] - np.arange(n)
    mixing = np.where(apart >= 0, 0.95 ** np.maximum(apart, 0), 0)
    inputs = random.standard_normal((positions, n)) @ mixing * np.exp(random.standard_normal(n))
    moments = (inputs.T @ inputs / positions).astype(np.float32)
    return Sample((random.standard_t(5, (m, n)) * 0.02).astype(np.float32), moments)


def importance_of(moments: Floats) -> Floats:
    return np.ascontiguousarray(moments.diagonal())


def searched(rows: Floats, ggml_type: Type, importance: Floats) -> Bytes:
    """Blocks of ggml's search, whose scales are kept."""
    return quantize_rows(rows, ggml_type, imatrix=importance)


def shrunk(moments: Floats, alpha: float, lam: float = 0.01) -> Doubles:
    exact = moments.astype(np.float64)
    diagonal = np.diag(exact)
    return (1 - alpha) * exact + np.diag(alpha * diagonal + lam * diagonal.mean())


def objective(rows: Floats, blocks: Bytes, ggml_type: Type, moments: Doubles) -> Doubles:
    """Δ H Δᵀ of each row."""
    delta = rows.astype(np.float64) - to_float32(blocks, ggml_type)
    return ((delta @ moments) * delta).sum(axis=1)


def factored(shrunk_moments: Floats) -> tuple[Floats, Floats]:
    """A transposed and D, one column after the other in float32, as any implementation that keeps the order would."""
    a, n = shrunk_moments.copy(), len(shrunk_moments)
    d = np.empty(n, np.float32)
    for k in reversed(range(n)):
        raw = a[k, :k].copy()
        d[k] = a[k, k]
        a[k, :k] /= d[k]
        a[:k, :k] -= a[k, :k, None] * raw
        a[k, k:] = 0
        a[k, k] = 1
    return a, d


def grid_of(blocks: Bytes, ggml_type: Type, n: int) -> Floats:
    """Every value that a weight can have given the scales of its block, (values, m, n), by ggml: codes of all weights
    are set to each value in turn."""
    values = []
    for code in range(CODES[ggml_type.name]):
        other = blocks.copy().reshape(-1, ggml_type.block_bytes)
        for part, bits in PLACES[ggml_type.name]:
            other[:, part] = repeated(code, bits)
        values.append(to_float32(other.reshape(blocks.shape), ggml_type))
    return np.stack(values)


# Where the codes of each type lie in a block, and which of their bits (first bit, number) each byte repeats.
CODES = {"q2_k": 4, "q3_k": 8, "q4_k": 16, "q5_k": 32, "q6_k": 64, "iq4_xs": 16}
PLACES = {
    "q2_k": [(slice(16, 80), (0, 2))],
    "q3_k": [(slice(32, 96), (0, 2)), (slice(0, 32), (2, 1))],
    "q4_k": [(slice(16, 144), (0, 4))],
    "q5_k": [(slice(48, 176), (0, 4)), (slice(16, 48), (4, 1))],
    "q6_k": [(slice(0, 128), (0, 4)), (slice(128, 192), (4, 2))],
    "iq4_xs": [(slice(8, 136), (0, 4))],
}


def repeated(code: int, bits: tuple[int, int]) -> int:
    """A byte that holds these bits of the code again and again."""
    first, number = bits
    part = code >> first & ((1 << number) - 1)
    return sum(part << shift for shift in range(0, 8, number))


def naive_feedback(rows: Floats, grid: Floats, moments: Doubles, order: np.ndarray) -> Doubles:
    """GPTQ in float64 (arXiv 2210.17323, with the inverse's Cholesky factor): values of all weights, (m, n)."""
    inverse = np.linalg.inv(moments[np.ix_(order, order)])
    upper = np.linalg.cholesky(inverse).T  # inverse = Uᵀ U
    left, found = rows.astype(np.float64)[:, order], np.empty(rows.shape)
    for j, column in enumerate(order):
        values = grid[:, :, column].astype(np.float64)
        nearest = np.abs(values - left[:, j]).argmin(axis=0)
        found[:, column] = values[nearest, np.arange(len(rows))]
        error = (left[:, j] - found[:, column]) / upper[j, j]
        left[:, j + 1 :] -= error[:, None] * upper[j, j + 1 :]
    return found


def same_factor(one: Factor, other: Factor) -> bool:
    n = len(one.a)
    lower = np.tril_indices(n)
    return (
        np.array_equal(one.a[:, :n][lower], other.a[:, :n][lower])
        and np.array_equal(one.d, other.d)
        and np.array_equal(one.moments, other.moments)
        and np.array_equal(one.order, other.order)
    )
