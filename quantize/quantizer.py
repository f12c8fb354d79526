"""Which code makes the blocks of a type: our own kernels, where they are no worse than ggml, which is the judge."""

import warnings
from functools import cache

import numpy as np

from . import kernels, simd
from .errors import InputError
from .kernels import Bytes, Floats
from .simd import QuantizerWarning
from .types import BF16, F32, Type

GGML, SIMD, AUTO = "ggml", "simd", "auto"
CONTRACTED = "ggml-contracted"  # by a ggml that rounds a × b + c once, as on ARM: some blocks differ
QUANTIZERS = (AUTO, GGML, SIMD)

# A kernel that is wrong has at least twice ggml's error for some kind of weights. A ggml that was compiled to contract
# a × b + c, as on ARM, breaks ties in other ways, and differs by up to 4 % for some; elsewhere all are equal.
TOLERANCE = 1.1
SAMPLE_BLOCKS = 2048


def quantizer_of(type: Type, requested: str) -> str:
    """`simd` or `ggml`, whichever makes the blocks of `type`, which is one of blocks; of a ggml whose blocks are not
    those of the kernel, `ggml-contracted`.

    Types without a kernel are made by ggml. At its first use each kernel is compared with ggml; one that is worse is
    not used, which `auto` warns of (QuantizerWarning) and `simd` raises InputError for, as it does where there are no
    kernels at all.
    """
    if requested == SIMD and not simd.variants():
        raise InputError(
            "--quantizer simd", "there are no kernels for this processor or platform", expected=f"{AUTO} or {GGML}"
        )
    if requested == GGML or not simd.has_kernel(type):
        return CONTRACTED if _is_contracted(type) else GGML
    problem = _problem(type)
    if not problem:
        return SIMD
    if requested == SIMD:
        raise InputError("--quantizer simd", problem, expected=f"{AUTO} or {GGML}", todo="please report this")
    warnings.warn(f"{problem}; ggml is used: please report this", QuantizerWarning, stacklevel=2)
    return GGML


@cache
def _is_contracted(type: Type) -> bool:
    """Whether ggml makes other blocks of the sample than the kernel of `type`; not where that is none, or wrong."""
    return (
        simd.has_kernel(type)
        and not _problem(type)
        and not all(
            np.array_equal(simd.quantize_rows(rows.view(np.uint8), F32, type), kernels.quantize_rows(rows, type))
            for rows in sample(type.block).values()
        )
    )


@cache
def _problem(type: Type) -> str:
    """What is wrong with the kernel of `type`, if anything is."""
    for kind, rows in sample(type.block).items():
        stored = kernels.quantize_rows(rows, BF16)
        ours = weighted_error(rows, simd.quantize_rows(stored, BF16, type), type)
        theirs = weighted_error(rows, kernels.quantize_rows(rows, type), type)
        if not ours <= theirs * TOLERANCE:  # NaN is worse, too
            kernel = f"the {simd.variants()[0]} kernel of {type.name}"
            return f"{kernel} has an error of {ours:.6g} for {kind} weights, where ggml's is {theirs:.6g}"
    return ""


def sample(block: int) -> dict[str, Floats]:
    """A few thousand blocks of weights as they are and as they hardly are: kind → (n, block) float32, exact in bf16."""
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


def weighted_error(rows: Floats, blocks: Bytes, type: Type) -> float:
    """Sum of error² × (|x| + root mean square of the row) over all weights, which is what ggml's search for Q4_K makes
    small; each row counts alike, as if its root mean square were 1."""
    exact = rows.astype(np.float64)
    size = np.sqrt(np.mean(exact**2, axis=1, keepdims=True))
    size[size == 0] = 1
    return float(np.sum(((kernels.to_float32(blocks, type) - exact) / size) ** 2 * (np.abs(exact) / size + 1)))
