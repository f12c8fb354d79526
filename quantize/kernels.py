"""Rows in one ggml type → rows in another, by ggml's own code.

Rows are uint8 arrays (n, row bytes), as they lie in files. Every call releases the GIL, so threads of Python keep every
core busy; rows are independent, so any cut of a tensor into runs of rows gives the same bytes.
"""

import ctypes
import threading
from collections.abc import Callable

import ggml
import numpy as np
import numpy.typing as npt

from .types import F32, Type

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

# ggml's vectorised conversions. ggml_quantize_chunk gives the same halves, by scalar code that is 20 times slower.
WIDEN = {"f16": ggml.lib.ggml_cpu_fp16_to_fp32, "bf16": ggml.lib.ggml_cpu_bf16_to_fp32}
NARROW = {"f16": ggml.lib.ggml_cpu_fp32_to_fp16}
ggml.ggml_cpu_init()  # fills the tables that some processors need for them
for function in (*WIDEN.values(), *NARROW.values()):
    function.argtypes, function.restype = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64), None

# Unsigned integers of the floats' width: with the sign bit masked, they order as absolute values do.
BITS = {"f32": np.uint32, "f16": np.uint16, "bf16": np.uint16}


class Scratch(threading.local):
    """A buffer per thread for results that are used up before the next call. Fresh pages would have to be cleared by
    the system for every chunk, which takes longer than the conversion."""

    buffer = np.empty(0, np.uint8)

    def take(self, nbytes: int) -> Bytes:
        """The first `nbytes` bytes of this thread's buffer."""
        if self.buffer.nbytes < nbytes:
            self.buffer = np.empty(nbytes, np.uint8)
        return self.buffer[:nbytes]


def to_float32(rows: Bytes, ggml_type: Type, scratch: Scratch | None = None) -> Floats:
    """Dequantize (n, row bytes) uint8 of `ggml_type` to (n, row) float32: floats exactly, blocks as ggml does."""
    if ggml_type is F32:
        return rows.view(np.float32)
    n, row_bytes = rows.shape
    row = row_bytes // ggml_type.block_bytes * ggml_type.block
    out = memory(n, 4 * row, scratch).view(np.float32)
    widen: Callable[..., None] = (
        WIDEN.get(ggml_type.name) or ggml.ggml_get_type_traits(ggml_type.ggml).contents.to_float
    )
    widen(rows.ctypes.data, out.ctypes.data_as(ctypes.POINTER(ctypes.c_float)), out.size)
    return out


def quantize_rows(
    rows: Floats, ggml_type: Type, scratch: Scratch | None = None, *, imatrix: Floats | None = None
) -> Bytes:
    """Quantize (n, row) float32 to (n, row bytes) uint8 by `ggml_quantize_chunk`.

    The row must be a multiple of the type's block, the values finite. `imatrix` is the importance matrix, (row,)
    float32 ≥ 0.
    """
    n, row = rows.shape
    rows = np.ascontiguousarray(rows, dtype=np.float32)
    if ggml_type is F32:
        return rows.view(np.uint8)
    pointer = ctypes.POINTER(ctypes.c_float)
    if imatrix is not None:
        assert imatrix.shape == (row,), f"an imatrix of shape {imatrix.shape} for rows of {row}"
        imatrix = np.ascontiguousarray(imatrix, dtype=np.float32)
    out = memory(n, ggml_type.nbytes(row), scratch)
    if ggml_type.name in NARROW:
        NARROW[ggml_type.name](rows.ctypes.data, out.ctypes.data, rows.size)
        return out
    written = ggml.ggml_quantize_chunk(
        ggml_type.ggml,
        rows.ctypes.data_as(pointer),
        out.ctypes.data_as(ctypes.c_void_p),
        0,
        n,
        row,
        None if imatrix is None else imatrix.ctypes.data_as(pointer),
    )
    assert written == out.nbytes, f"ggml wrote {written} of {out.nbytes} bytes of {ggml_type.name}"
    return out


def absmax_of(rows: Bytes, ggml_type: Type) -> float:
    """The absmax (largest absolute value) of (n, row bytes) uint8 of a float type; NaN or infinity if a row holds one.

    With the sign bit masked, floats order as their bits do as integers, infinity and NaN above all finite values
    (IEEE 754-2008, 5.10), so two integer maxima find it without converting any weight.
    """
    bits = rows.view(BITS[ggml_type.name])
    sign = 1 << (8 * bits.itemsize - 1)
    positive = int(bits.view(f"i{bits.itemsize}").max(initial=0))
    negative = int(bits.max(initial=0))
    top = max(positive, negative - sign)
    return float(to_float32(np.array([[top]], bits.dtype).view(np.uint8), ggml_type)[0, 0])


def memory(n: int, row_bytes: int, scratch: Scratch | None) -> Bytes:
    """Allocate (n, row bytes) uint8, from `scratch` if it is given."""
    if scratch is None:
        return np.empty((n, row_bytes), np.uint8)
    return scratch.take(n * row_bytes).reshape(n, row_bytes)


def is_float(ggml_type: Type) -> bool:
    """Whether `ggml_type` is F32, F16 or BF16 rather than a block type."""
    return ggml_type.name in BITS
