"""What the tests of products share: weights of every type in memory, and their products by ggml and by the kernels."""

from functools import cache

import numpy as np
import numpy.typing as npt
import pytest

from quantize import kernels
from quantize.types import TYPES, Type
from runtime_check.products import library
from runtime_check.products.comparison import Floats, OneProduct

Bytes = npt.NDArray[np.uint8]

VARIANTS = library.variants()
CASES = [(type, variant) for type in TYPES.values() for variant in VARIANTS if library.kernel(type, variant)]
EACH = pytest.mark.parametrize(("type", "variant"), CASES, ids=[f"{type.name}-{variant}" for type, variant in CASES])
ROWS, SUPER = 75, 256


@cache
def weights(type: Type, n_rows: int = ROWS, row: int = 3 * SUPER) -> Bytes:
    """Gaussian rows, quantized by ggml."""
    rows = np.random.default_rng(0).standard_normal((n_rows, row), np.float32) * np.float32(0.02)
    return kernels.quantize_rows(rows, type)


def activations(n: int, row: int = 3 * SUPER) -> Floats:
    return np.random.default_rng(n).standard_normal((n, row), np.float32)


def multiply(type: Type, rows: Bytes, x: Floats, variant: str = "", threads: int = 1) -> Floats:
    """x (n, row) → (n, n_rows), by a variant of the kernels or by ggml."""
    return OneProduct(type, rows.ctypes.data, len(rows), x.shape[1], len(x), variant)(x, threads)


def least_columns(type: Type, variant: str) -> int:
    """The least number of columns that a kernel multiplies."""
    kernel = library.kernel(type, variant)
    assert kernel is not None
    return 1 if kernel.contents.multiply_vector else 2
