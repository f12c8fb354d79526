"""Choose the quantization backend of a type: the SIMD kernels where their error does not exceed ggml's, else ggml."""

import warnings
from functools import cache

import numpy as np

from . import kernels, simd
from .backends import AUTO, CONTRACTED, GGML, SIMD, BackendWarning
from .errors import InputError
from .kernels import Bytes, Floats
from .types import BF16, F32, Type

# A kernel that is wrong has at least twice ggml's error for some kind of weights. A ggml that was compiled to contract
# a × b + c, as on ARM, breaks ties in other ways, and differs by up to 4 % for some; elsewhere all are equal.
TOLERANCE = 1.1
SAMPLE_BLOCKS = 2048
ROW_BLOCKS = 4  # of a row with an imatrix
WEIGHTED_ROWS = 16  # of each kind of weights: a quarter of the sample, since ggml's search with an imatrix is slower


def choose_backend(ggml_type: Type, requested: str) -> str:
    """Choose the backend that quantizes to the block type `ggml_type`: SIMD, GGML, or CONTRACTED for a ggml whose
    blocks differ from the kernel's because it contracts a × b + c.

    Types without a SIMD kernel are quantized by ggml. Each kernel is compared with ggml at its first use; one with more
    error is not used: AUTO warns (BackendWarning), SIMD raises InputError. SIMD also raises it where there are no
    kernels.
    """
    if requested == SIMD and not simd.variants():
        raise InputError(
            "--quantizer simd", "there are no kernels for this processor or platform", expected=f"{AUTO} or {GGML}"
        )
    if requested == GGML or not simd.has_kernel(ggml_type):
        return CONTRACTED if _is_contracted(ggml_type) else GGML
    problem = _problem(ggml_type)
    if not problem:
        return SIMD
    if requested == SIMD:
        raise InputError("--quantizer simd", problem, expected=f"{AUTO} or {GGML}", todo="please report this")
    warnings.warn(f"{problem}; ggml is used: please report this", BackendWarning, stacklevel=2)
    return GGML


@cache
def _is_contracted(ggml_type: Type) -> bool:
    """Whether ggml makes other blocks of the sample than the kernel of `ggml_type`; False without a good kernel."""
    return (
        simd.has_kernel(ggml_type)
        and not _problem(ggml_type)
        and not all(
            np.array_equal(
                simd.quantize_rows(rows.view(np.uint8), F32, ggml_type), kernels.quantize_rows(rows, ggml_type)
            )
            for rows in sample(ggml_type.block).values()
        )
    )


@cache
def _problem(ggml_type: Type) -> str:
    """Compare the kernel of `ggml_type` with ggml on the sample, then, if it takes an imatrix, with one: a message if
    its error is larger, else empty."""
    rows_of = sample(ggml_type.block)
    problem = _larger_error(ggml_type, rows_of, None)
    if problem or not simd.takes_imatrix(ggml_type):
        return problem
    rows_of = {kind: rows.reshape(-1, ROW_BLOCKS * ggml_type.block)[:WEIGHTED_ROWS] for kind, rows in rows_of.items()}
    return _larger_error(ggml_type, rows_of, sample_imatrix(ROW_BLOCKS * ggml_type.block))


def _larger_error(ggml_type: Type, rows_of: dict[str, Floats], imatrix: Floats | None) -> str:
    """The first kind of rows for which the kernel's error is larger than ggml's, as a message; else empty."""
    for kind, rows in rows_of.items():
        stored = kernels.quantize_rows(rows, BF16)
        by_kernel = simd.quantize_rows(stored, BF16, ggml_type, imatrix=imatrix)
        ours = weighted_error(rows, by_kernel, ggml_type, imatrix)
        theirs = weighted_error(rows, kernels.quantize_rows(rows, ggml_type, imatrix=imatrix), ggml_type, imatrix)
        if not ours <= theirs * TOLERANCE:  # NaN is worse, too
            kernel = f"the {simd.variants()[0]} kernel of {ggml_type.name}"
            of = f"{kind} weights" if imatrix is None else f"{kind} weights and an imatrix"
            return f"{kernel} has an error of {ours:.6g} for {of}, where ggml's is {theirs:.6g}"
    return ""


@cache
def sample(block: int) -> dict[str, Floats]:
    """Sample weights of eight distributions, 256 blocks each: kind → (n, block) float32, exact in bf16."""
    random = np.random.default_rng(0)
    n = SAMPLE_BLOCKS // 8
    normal = random.standard_normal((8, n, block), np.float32)
    kinds = {
        "ordinary": normal[0] * np.float32(0.02),
        "heavy-tailed": normal[1] ** 3,
        "positive": np.abs(normal[2]),
        "negative": -np.abs(normal[3]),
        "sparse": normal[4] * (random.random((n, block)) < 0.05),
        "constant": np.repeat(normal[5, :, :1], block, axis=1),
        "tiny": normal[6] * np.float32(1e-6),
        "huge": normal[7] * np.float32(60000 / 8),
    }
    return {kind: kernels.to_float32(kernels.quantize_rows(rows, BF16), BF16) for kind, rows in kinds.items()}


def sample_imatrix(row: int) -> Floats:
    """An importance matrix, (row,) float32 > 0, as spread as the squares of activations are."""
    return np.square(np.random.default_rng(1).standard_t(3, row)).astype(np.float32)


def weighted_error(rows: Floats, blocks: Bytes, ggml_type: Type, imatrix: Floats | None = None) -> float:
    """Sum of error² × (|x| + RMS of the row) × importance of the column (1 without `imatrix`) over all weights, rows
    normalized to an RMS of 1.

    This is the objective of ggml's search for Q4_K scales (`make_qkx2_quants` in ggml-quants.c), but for
    √(x² + mean square) in place of |x| + RMS with an imatrix.
    """
    exact = rows.astype(np.float64)
    size = np.sqrt(np.mean(exact**2, axis=1, keepdims=True))
    size[size == 0] = 1
    errors = ((kernels.to_float32(blocks, ggml_type) - exact) / size) ** 2 * (np.abs(exact) / size + 1)
    return float(np.sum(errors if imatrix is None else errors * imatrix))
