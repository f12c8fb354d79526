"""SIMD kernels of `quantize/lanes`: ggml's scale searches with one sub-block in each lane.

They are compiled for several instruction sets, of which the fastest that this processor has is the default. All give
the same bytes. Where none was built for the platform, ggml is used. Calls release the GIL.
"""

import ctypes
from functools import cache

import numpy as np

import quantize

from .backends import BackendWarning
from .kernels import Bytes, Floats, Scratch, is_float, memory
from .libraries import load_library, variant_names
from .types import Type

LIBRARY = "lanes/lanes.so"


class Kernel(ctypes.Structure):
    """`lanes::Kernel` of quantize/lanes/variant.h."""

    _fields_ = [("type", ctypes.c_int), ("takes_imatrix", ctypes.c_bool), ("quantize", ctypes.c_void_p)]


@cache
def variants() -> tuple[str, ...]:
    """Instruction sets that both the processor and the kernels support, the fastest first: `avx512`, `avx2`, …"""
    library = _library()
    return variant_names(library.lanes_variant) if library else ()


def has_kernel(ggml_type: Type, variant: str = "") -> bool:
    """Whether there is a SIMD kernel of `ggml_type` here."""
    return _kernel(ggml_type, variant or _fastest()) is not None


def takes_imatrix(ggml_type: Type, variant: str = "") -> bool:
    """Whether the kernel of `ggml_type` accepts an importance matrix."""
    kernel = _kernel(ggml_type, variant or _fastest())
    return kernel is not None and bool(kernel.contents.takes_imatrix)


def quantize_rows(
    rows: Bytes,
    stored: Type,
    ggml_type: Type,
    scratch: Scratch | None = None,
    *,
    imatrix: Floats | None = None,
    variant: str = "",
) -> Bytes:
    """Quantize (n, row bytes) uint8 of the float type `stored` to (n, row bytes) uint8 of `ggml_type`, which has a
    kernel.

    The row must be a multiple of the type's block, the values finite. `imatrix` is the importance matrix, (row,)
    float32 ≥ 0: the weight of each column's squared error. All kernels but that of Q8_0 take one (`takes_imatrix`).
    """
    kernel = _kernel(ggml_type, variant or _fastest())
    assert kernel is not None, f"no kernel for {ggml_type.name}"
    assert is_float(stored), f"rows of {stored.name} are no floats"
    rows = np.ascontiguousarray(rows)
    n, row = len(rows), rows.shape[1] // stored.block_bytes
    assert row % ggml_type.block == 0, f"rows of {row} are no multiple of {ggml_type.block}"
    if imatrix is not None:
        assert kernel.contents.takes_imatrix, f"{ggml_type.name} takes no importance matrix"
        assert imatrix.shape == (row,), f"an imatrix of shape {imatrix.shape} for rows of {row}"
        imatrix = np.ascontiguousarray(imatrix, np.float32)
    out = memory(n, ggml_type.nbytes(row), scratch)
    library = _library()
    assert library is not None
    library.lanes_quantize(
        kernel, rows.ctypes.data, stored.ggml, n, row, None if imatrix is None else imatrix.ctypes.data, out.ctypes.data
    )
    return out


def add_low_rank(rows: Floats, b: Floats, a: Floats, variant: str = "") -> None:
    """Add b · a to `rows` in place: (n, row) += (n, rank) · (rank, row) float32, C-contiguous.

    Each sum is of products in the order of the rank, one rounding an operation, then added to its weight: the same
    bits by every variant, and without the kernels.
    """
    (n, row), rank = rows.shape, len(a)
    assert b.shape == (n, rank), f"b is {b.shape} for {n} rows of rank {rank}"
    assert a.shape == (rank, row), f"a is {a.shape} for rows of {row}"
    assert all(x.flags.c_contiguous and x.dtype == np.float32 for x in (rows, b, a)), "float32, row by row"
    library, name = _library(), variant or _fastest()
    if library is None or name not in variants():
        sums = np.zeros_like(rows)
        for k in range(rank):
            sums += b[:, k : k + 1] * a[k]
        rows += sums
        return
    library.lanes_add_low_rank(variants().index(name), rows.ctypes.data, b.ctypes.data, a.ctypes.data, n, rank, row)


def _fastest() -> str:
    return variants()[0] if variants() else ""


@cache
def _kernel(ggml_type: Type, variant: str) -> "ctypes._Pointer[Kernel] | None":
    library = _library()
    if library is None or variant not in variants():
        return None
    return library.lanes_kernel(variants().index(variant), ggml_type.ggml) or None


@cache
def _library() -> ctypes.CDLL | None:
    """Load the kernels; None if they were not built."""
    library = load_library(quantize.__path__, LIBRARY, "ggml is used", BackendWarning)
    if library is None:
        return None
    library.lanes_variant.argtypes, library.lanes_variant.restype = [ctypes.c_int], ctypes.c_char_p
    library.lanes_kernel.argtypes = [ctypes.c_int, ctypes.c_int]
    library.lanes_kernel.restype = ctypes.POINTER(Kernel)
    library.lanes_quantize.argtypes = [
        ctypes.POINTER(Kernel), ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p,
        ctypes.c_void_p,
    ]  # fmt: skip
    library.lanes_quantize.restype = None
    library.lanes_add_low_rank.argtypes = [ctypes.c_int, *[ctypes.c_void_p] * 3, *[ctypes.c_int64] * 3]
    library.lanes_add_low_rank.restype = None
    return library
