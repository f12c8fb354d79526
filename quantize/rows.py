"""Convert rows of one ggml type to another: the only implementation, used by the writer and by the check."""

import numpy as np

from . import simd
from .backends import SIMD
from .kernels import Bytes, Floats, Scratch, is_float, quantize_rows, to_float32
from .types import F32, Type


def convert(
    rows: Bytes,
    stored: Type,
    ggml_type: Type,
    backend: str,
    *,
    floats: Floats | None = None,
    imatrix: Floats | None = None,
    scratch: Scratch | None = None,
) -> Bytes:
    """Convert (n, row bytes) uint8 of type `stored` to (n, row bytes) uint8 of `ggml_type`.

    `backend` quantizes: SIMD, or ggml for any other name. `floats` are the same rows as float32, if the caller has
    them. `imatrix` is the importance matrix, (row,) float32 ≥ 0; Q8_0 ignores it, as ggml's does. Rows of the requested
    type are returned as they are.
    """
    if ggml_type is stored:
        return rows
    by_simd = backend == SIMD and not is_float(ggml_type)
    if by_simd and not simd.takes_imatrix(ggml_type):
        imatrix = None
    if by_simd and is_float(stored):
        return simd.quantize_rows(rows, stored, ggml_type, scratch, imatrix=imatrix)
    if floats is None:
        floats = to_float32(rows, stored)
    if by_simd:
        return simd.quantize_rows(floats.view(np.uint8), F32, ggml_type, scratch, imatrix=imatrix)
    return quantize_rows(floats, ggml_type, scratch, imatrix=imatrix)
