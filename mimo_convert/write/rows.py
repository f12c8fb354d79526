"""Convert the rows of a chunk to the planned types."""

from collections.abc import Iterator, Sequence

import numpy as np

from mimo_convert.plan.plan import PlannedTensor
from quantize.backends import GGML, SIMD
from quantize.errors import WorthlessError
from quantize.kernels import Bytes, Scratch, absmax_of, is_float, to_float32
from quantize.rows import convert
from quantize.types import F32, Type

from .chunks import Chunk

FLOATS, BLOCKS = Scratch(), Scratch()


class OverflowingWeightError(Exception):
    """A finite weight is infinite in its planned type: its tensor must be promoted to F32."""


def convert_rows(chunk: Chunk, rows: Bytes, targets: Sequence[PlannedTensor]) -> Iterator[Bytes]:
    """Convert stored rows to each target's type in turn, by the importance of its columns, yielding (n, row bytes)
    uint8.

    A yielded array is valid until the next one. Raises WorthlessError for NaN and infinity, OverflowingWeightError for
    a weight that overflows.
    """
    rows, stored = chunk.source.weights(chunk.first, rows)
    if not is_float(stored) and all(target.ggml_type is stored for target in targets):
        yield from [rows] * len(targets)
        return
    floats, ggml_type = as_floats(rows, stored)
    absmax = absmax_of_floats_if_finite(chunk, floats, ggml_type)
    as_float32 = floats.view(np.float32) if ggml_type is F32 else None
    for target in targets:
        backend = SIMD if SIMD in target.backends else GGML
        if target.ggml_type is not stored and absmax >= target.ggml_type.overflow:
            what = f"tensor {target.name} holds a weight that would become infinite in {target.ggml_type.name}"
            raise OverflowingWeightError(what)
        weights, rounding = target.importance_of(chunk.source), target.rounding_of(chunk.source)
        if as_float32 is None and (rounding or (target.ggml_type is not stored and backend != SIMD)):
            as_float32 = to_float32(floats, ggml_type, FLOATS)  # once, for all that need it
        blocks = convert(rows, stored, target.ggml_type, backend, floats=as_float32, imatrix=weights, scratch=BLOCKS)
        if rounding and as_float32 is not None:
            blocks = rounding.apply(as_float32, blocks, target.ggml_type)
        yield blocks


def absmax_if_finite(chunk: Chunk, rows: Bytes) -> float:
    """The absmax of stored rows. Raises WorthlessError if a weight is NaN or infinite."""
    return absmax_of_floats_if_finite(chunk, *as_floats(*chunk.source.weights(chunk.first, rows)))


def as_floats(rows: Bytes, stored: Type) -> tuple[Bytes, Type]:
    """Rows and their type if they are floats; blocks are dequantized to F32."""
    return (rows, stored) if is_float(stored) else (to_float32(rows, stored, FLOATS).view(np.uint8), F32)


def absmax_of_floats_if_finite(chunk: Chunk, floats: Bytes, ggml_type: Type) -> float:
    """`absmax_if_finite` of the result of `as_floats`."""
    absmax = absmax_of(floats, ggml_type)
    if np.isfinite(absmax):
        return absmax
    numbers = to_float32(floats, ggml_type)
    row = int(np.argmin(np.isfinite(numbers).all(axis=1)))
    what = "NaN" if np.isnan(numbers[row]).any() else "infinity"
    raise WorthlessError(
        chunk.source.read_from, f"tensor {chunk.source.name} holds {what} in row {chunk.first + row}",
        todo="the file is damaged: get it again",
    )  # fmt: skip
