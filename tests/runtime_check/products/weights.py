"""What the tests of products share: weights of every type in memory, and their products by ggml and by the kernels."""

import ctypes
from functools import cache

import ggml
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
    """Gaussian rows of a type."""
    rows = np.random.default_rng(0).standard_normal((n_rows, row), np.float32) * np.float32(0.02)
    return kernels.quantize_rows(rows, type)


def activations(n: int, row: int = 3 * SUPER) -> Floats:
    return np.random.default_rng(n).standard_normal((n, row), np.float32)


def multiply(type: Type, rows: Bytes, x: Floats, variant: str = "", threads: int = 1) -> Floats:
    """x (n, row) → (n, n_rows), by a variant of the kernels or by ggml."""
    return OneProduct(type, rows.ctypes.data, len(rows), x.shape[1], len(x), variant)(x, threads)


SUPER_COLUMN = np.dtype(
    [("x", "i1", 256), ("sums", "<i2", 16), ("pair_sums", "<i2", 8), ("d", "<f4"), ("unused", "V12")]
)
FLAT_COLUMN = np.dtype([("x", "i1", 256), ("d", "<f4", 8), ("sums", "V32")])  # of panels.h, as that above
BLOCKS = {  # of ggml
    "q8_k": np.dtype([("d", "<f4"), ("x", "i1", 256), ("sums", "<i2", 16)]),
    "q8_0": np.dtype([("d", "<f2"), ("x", "i1", 32)]),
    "q8_1": np.dtype([("d", "<f2"), ("s", "<f2"), ("x", "i1", 32)]),
}


def columns_of(type: Type, variant: str, x: Floats) -> npt.NDArray[np.void]:
    """x (n, row) as a variant quantizes it for products with `type`: (row / 256, n) columns."""
    row = x.shape[1]
    product = OneProduct(type, weights(type, 1, row).ctypes.data, 1, row, len(x), variant)
    product(x)
    n_bytes = int(product.columns.contents.ne[0])
    columns = np.frombuffer(ctypes.string_at(product.columns.contents.data, n_bytes), np.uint8)
    return columns.view(SUPER_COLUMN if type.block == SUPER else FLAT_COLUMN).reshape(-1, len(x))


def ggml_blocks(name: str, x: Floats) -> npt.NDArray[np.void]:
    """x (n, row) as ggml quantizes activations: (n, row / block) blocks."""
    number = {"q8_k": ggml.GGML_TYPE_Q8_K, "q8_0": ggml.GGML_TYPE_Q8_0, "q8_1": ggml.GGML_TYPE_Q8_1}[name]
    block = 256 if name == "q8_k" else 32
    blocks = np.zeros((len(x), x.shape[1] // block), BLOCKS[name])
    function = ctypes.cast(ggml.ggml_get_type_traits_cpu(number).contents.from_float, ctypes.c_void_p).value
    assert function
    ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(function)(
        x.ctypes.data, blocks.ctypes.data, x.size
    )
    return blocks
