"""Rows → blocks by the kernels of `quantize/lanes`, which do ggml's searches with a sub-block in each SIMD lane.

They are compiled for several instruction sets; this processor's fastest is the default. All give the same bytes. On a
processor or platform that they are not written for there are none, and ggml does the work. Calls release the GIL.
"""

import ctypes
import warnings
from functools import cache
from pathlib import Path

import numpy as np

import quantize

from .kernels import Bytes, Floats, Scratch, is_float, memory
from .types import Type

LIBRARY = "lanes/lanes.so"


class QuantizerWarning(UserWarning):
    """A type is quantized by ggml although there should be a kernel for it."""


class Kernel(ctypes.Structure):
    """`lanes::Kernel` of quantize/lanes/variant.h."""

    _fields_ = [("type", ctypes.c_int), ("takes_columns", ctypes.c_bool), ("quantize", ctypes.c_void_p)]


@cache
def variants() -> tuple[str, ...]:
    """The instruction sets that both this processor and the kernels have, the fastest first: `avx512`, `avx2`, …"""
    library = _library()
    names: list[str] = []
    while library and (name := library.lanes_variant(len(names))):
        names.append(name.decode())
    return tuple(names)


def has_kernel(type: Type, variant: str = "") -> bool:
    """Whether rows can become `type` here."""
    return _kernel(type, variant or _fastest()) is not None


def takes_columns(type: Type) -> bool:
    """Whether the kernel of `type` can be told how much each column matters."""
    kernel = _kernel(type, _fastest())
    return kernel is not None and bool(kernel.contents.takes_columns)


def quantize_rows(
    rows: Bytes,
    stored: Type,
    type: Type,
    scratch: Scratch | None = None,
    *,
    columns: Floats | None = None,
    variant: str = "",
) -> Bytes:
    """(n, row bytes) uint8 of a float type → (n, row bytes) uint8 of `type`, for which there must be a kernel.

    The row must be a multiple of the type's block, the values finite. `columns`, (row,) float32 of numbers that are not
    negative, says how much the errors in each column matter (ggml calls it imatrix); k-quants alone take it.
    """
    kernel = _kernel(type, variant or _fastest())
    assert kernel is not None, f"no kernel for {type.name}"
    assert is_float(stored), f"rows of {stored.name} are no floats"
    rows = np.ascontiguousarray(rows)
    n, row = len(rows), rows.shape[1] // stored.block_bytes
    assert row % type.block == 0, f"rows of {row} are no multiple of {type.block}"
    if columns is not None:
        assert kernel.contents.takes_columns, f"{type.name} takes no columns"
        assert columns.shape == (row,), f"{columns.shape} columns of {row}"
        columns = np.ascontiguousarray(columns, np.float32)
    out = memory(n, type.nbytes(row), scratch)
    library = _library()
    assert library is not None
    library.lanes_quantize(
        kernel, rows.ctypes.data, stored.ggml, n, row, None if columns is None else columns.ctypes.data, out.ctypes.data
    )
    return out


def _fastest() -> str:
    return variants()[0] if variants() else ""


@cache
def _kernel(type: Type, variant: str) -> "ctypes._Pointer[Kernel] | None":
    library = _library()
    if library is None or variant not in variants():
        return None
    return library.lanes_kernel(variants().index(variant), type.ggml) or None


@cache
def _library() -> ctypes.CDLL | None:
    """None where none was built. Of the package's folders, that of an editable install holds it alone."""
    path = next((path for path in (Path(folder) / LIBRARY for folder in quantize.__path__) if path.exists()), None)
    if path is None:
        return None
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        warnings.warn(f"{error}; ggml is used: install mimo-convert again", QuantizerWarning, stacklevel=2)
        return None
    library.lanes_variant.argtypes, library.lanes_variant.restype = [ctypes.c_int], ctypes.c_char_p
    library.lanes_kernel.argtypes = [ctypes.c_int, ctypes.c_int]
    library.lanes_kernel.restype = ctypes.POINTER(Kernel)
    library.lanes_quantize.argtypes = [
        ctypes.POINTER(Kernel), ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p,
        ctypes.c_void_p,
    ]  # fmt: skip
    library.lanes_quantize.restype = None
    return library
