"""The importance of columns: how much the squared error of a weight counts in the output of its matrix."""

import math

import numpy as np

from .kernels import Floats, is_float
from .types import Type

PRIOR = 1  # positions that are added, at which each column is as large as the mean of them
UNWEIGHTED = frozenset({"q8_0"})  # block types that ggml quantizes alike with an importance matrix and without


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
