"""Which code makes the blocks of a type: our own kernels, where they are no worse than ggml, which is the judge."""

import warnings
from functools import cache

import numpy as np

from . import kernels, simd
from .errors import InputError
from .kernels import Bytes, Floats, is_float
from .types import F32, Type

GGML, SIMD, AUTO = "ggml", "simd", "auto"
QUANTIZERS = (AUTO, GGML, SIMD)

TOLERANCE = 1.0005  # how much more than ggml's error is taken for rounding
SAMPLE_BLOCKS = 2048


class QuantizerWarning(UserWarning):
    """A type is quantized by ggml although there is a kernel for it."""


def quantizer_of(type: Type, requested: str) -> str:
    """`simd` or `ggml`, whichever makes the blocks of `type`; empty for types of plain floats.

    Types without a kernel are made by ggml. At its first use each kernel is compared with ggml; one that is worse is
    not used, which `auto` warns of (QuantizerWarning) and `simd` raises InputError for, as it does where there are no
    kernels at all.
    """
    if is_float(type):
        return ""
    if requested == SIMD and not simd.variants():
        raise InputError(
            "--quantizer simd", "there are no kernels for this processor or platform", expected=f"{AUTO} or {GGML}"
        )
    if requested == GGML or not simd.has_kernel(type):
        return GGML
    problem = _problem(type)
    if not problem:
        return SIMD
    if requested == SIMD:
        raise InputError("--quantizer simd", problem, expected=f"{AUTO} or {GGML}", todo="please report this")
    warnings.warn(f"{problem}; ggml is used: please report this", QuantizerWarning, stacklevel=2)
    return GGML


@cache
def _problem(type: Type) -> str:
    """What is wrong with the kernel of `type`, if anything is."""
    rows = sample(type.block)
    ours = weighted_error(rows, simd.quantize_rows(rows.view(np.uint8), F32, type), type)
    theirs = weighted_error(rows, kernels.quantize_rows(rows, type), type)
    if ours <= theirs * TOLERANCE:  # false also for NaN
        return ""
    return f"the {simd.variants()[0]} kernel of {type.name} has a weighted error of {ours:.6g}, ggml of {theirs:.6g}"


def sample(block: int) -> Floats:
    """A few thousand blocks, a row each, as weights are and as they are not: (n, block) float32."""
    random = np.random.default_rng(0)
    rows = random.standard_normal((SAMPLE_BLOCKS, block), np.float32)
    kinds = np.array_split(rows, 8)
    kinds[1] *= np.float32(0.02)
    kinds[2] **= 3  # heavy tails
    np.abs(kinds[3], out=kinds[3])
    kinds[4] *= random.random(kinds[4].shape) < 0.05  # sparse
    kinds[5][:] = kinds[5][:, :1]  # constant
    kinds[6] *= np.float32(1e-6)
    kinds[7] *= np.float32(60000 / 8)
    return rows


def weighted_error(rows: Floats, blocks: Bytes, type: Type) -> float:
    """Sum over all weights of what ggml's search for Q4_K makes small: error² × (|x| + root mean square of its row),
    with each row scaled to a root mean square of 1, so that all count."""
    exact = rows.astype(np.float64)
    size = np.sqrt(np.mean(exact**2, axis=1, keepdims=True)) + 1e-300
    error = (kernels.to_float32(blocks, type) - exact) / size
    return float(np.sum(error**2 * (np.abs(exact) / size + 1)))
