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

# The integer whose order is that of the magnitudes, once the sign is masked.
BITS = {"f32": np.uint32, "f16": np.uint16, "bf16": np.uint16}


class Scratch(threading.local):
    """Memory of each thread's own, for results that are used up before the next: pages that the system need not
    clear anew for every chunk, which would take it longer than the conversion."""

    buffer = np.empty(0, np.uint8)

    def take(self, nbytes: int) -> Bytes:
        if self.buffer.nbytes < nbytes:
            self.buffer = np.empty(nbytes, np.uint8)
        return self.buffer[:nbytes]


def to_float32(rows: Bytes, type: Type, scratch: Scratch | None = None) -> Floats:
    """(n, row bytes) uint8 → (n, row) float32: floats exactly, blocks as ggml dequantizes them."""
    if type is F32:
        return rows.view(np.float32)
    n, row_bytes = rows.shape
    row = row_bytes // type.block_bytes * type.block
    out = memory(n, 4 * row, scratch).view(np.float32)
    widen: Callable[..., None] = WIDEN.get(type.name) or ggml.ggml_get_type_traits(type.ggml).contents.to_float
    widen(rows.ctypes.data, out.ctypes.data_as(ctypes.POINTER(ctypes.c_float)), out.size)
    return out


def quantize_rows(rows: Floats, type: Type, scratch: Scratch | None = None) -> Bytes:
    """(n, row) float32 → (n, row bytes) uint8, the bytes `ggml_quantize_chunk` gives.

    The row must be a multiple of the type's block, the values finite.
    """
    n, row = rows.shape
    rows = np.ascontiguousarray(rows, dtype=np.float32)
    if type is F32:
        return rows.view(np.uint8)
    out = memory(n, type.nbytes(row), scratch)
    if type.name in NARROW:
        NARROW[type.name](rows.ctypes.data, out.ctypes.data, rows.size)
        return out
    written = ggml.ggml_quantize_chunk(
        type.ggml,
        rows.ctypes.data_as(ctypes.POINTER(ctypes.c_float)),
        out.ctypes.data_as(ctypes.c_void_p),
        0,
        n,
        row,
        None,
    )
    assert written == out.nbytes, f"ggml wrote {written} of {out.nbytes} bytes of {type.name}"
    return out


def peak(rows: Bytes, type: Type) -> float:
    """The greatest magnitude in rows of a float type; NaN or infinity if that is among them.

    Of floats, the order of the bits without their sign is that of the magnitudes, with infinity and NaN above all
    numbers (IEEE 754-2008, 5.10): two integer maxima find it, without a float for each weight.
    """
    bits = rows.view(BITS[type.name])
    sign = 1 << (8 * bits.itemsize - 1)
    positive = int(bits.view(f"i{bits.itemsize}").max(initial=0))
    negative = int(bits.max(initial=0))
    top = max(positive, negative - sign)
    return float(to_float32(np.array([[top]], bits.dtype).view(np.uint8), type)[0, 0])


def memory(n: int, row_bytes: int, scratch: Scratch | None) -> Bytes:
    """(n, row bytes) to write a result into; of `scratch`, where that is given."""
    if scratch is None:
        return np.empty((n, row_bytes), np.uint8)
    return scratch.take(n * row_bytes).reshape(n, row_bytes)


def is_float(type: Type) -> bool:
    """Whether rows of `type` are plain floats, and no blocks."""
    return type.name in BITS
