"""Rows of floats → blocks of a ggml type, by ggml's own quantizers."""

import ctypes

import ggml
import numpy as np
import numpy.typing as npt

from .types import F32, Type

Bytes = npt.NDArray[np.uint8]


def quantize_rows(rows: npt.NDArray[np.float32], type: Type) -> Bytes:
    """(n, row) float32 → (n, row bytes) uint8, the bytes `ggml_quantize_chunk` gives.

    Rows are independent: any cut of a tensor into runs of rows gives the same bytes. The call releases the GIL, so
    threads of Python keep every core busy. The row must be a multiple of the type's block, the values finite.
    """
    n, row = rows.shape
    rows = np.ascontiguousarray(rows, dtype=np.float32)
    if type is F32:
        return rows.view(np.uint8)
    out = np.empty((n, type.nbytes(row)), np.uint8)
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
