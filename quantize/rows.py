"""Convert rows of one ggml type to another, by the importance of their columns: the only implementation, used by the
writer and by the check."""

import math

import numpy as np

from . import simd
from .backends import SIMD
from .kernels import Bytes, Floats, Scratch, is_float, quantize_rows, to_float32
from .types import F32, Type

PRIOR = 1  # positions that are added, at which each column is as large as the mean of them
UNWEIGHTED = frozenset({"q8_0"})  # block types that ggml quantizes alike with an importance matrix and without


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
    if not takes_importance(ggml_type):
        imatrix = None
    if by_simd and is_float(stored):
        return simd.quantize_rows(rows, stored, ggml_type, scratch, imatrix=imatrix)
    if floats is None:
        floats = to_float32(rows, stored)
    if by_simd:
        return simd.quantize_rows(floats.view(np.uint8), F32, ggml_type, scratch, imatrix=imatrix)
    return quantize_rows(floats, ggml_type, scratch, imatrix=imatrix)


def importance(squares: Floats, count: int) -> Floats:
    """The importance of each column of a matrix: E[x²] of what it is multiplied with, (columns,) float32 > 0.

    `squares` are Σ x² over `count` > 0 positions, (columns,) float32, not all zero. Regularised as in llama.cpp's
    `--prior-weight`: (Σ x² + p · mean) / (count + p), the mean that of E[x²] over all columns, and p = 1: a column that
    was always zero still counts. The sum is exact, so that its bits are the same on every machine.
    """
    assert count > 0, "no position reached the matrix"
    exact = squares.astype(np.float64)
    mean = math.fsum(exact) / count / len(exact)
    return ((exact + PRIOR * mean) / (count + PRIOR)).astype(np.float32)


def takes_importance(ggml_type: Type) -> bool:
    """Whether blocks of `ggml_type` depend on an importance matrix."""
    return not is_float(ggml_type) and ggml_type.name not in UNWEIGHTED
