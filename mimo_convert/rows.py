"""The rows of a chunk, as stored → rows of the planned type, or the reason why not."""

from collections.abc import Iterator, Sequence

import numpy as np

from quantize import simd
from quantize.errors import WorthlessError
from quantize.kernels import Bytes, Scratch, is_float, peak, quantize_rows, to_float32
from quantize.quantizer import SIMD
from quantize.types import F32, Type

from .plan import PlannedTensor
from .request import Chunk

FLOATS, BLOCKS = Scratch(), Scratch()


class OverflowingWeightError(Exception):
    """A finite weight has no finite value in its type; the plan must keep its tensor in F32."""


def convert_rows(chunk: Chunk, rows: Bytes, targets: Sequence[PlannedTensor]) -> Iterator[Bytes]:
    """Stored rows as rows of each target's type, one after the other: as they are where they are that already.

    What this yields must be used up before it is asked for more. Raises WorthlessError for NaN and infinity,
    OverflowingWeightError for a weight that would become infinite.
    """
    stored = chunk.source.type
    if not is_float(stored) and all(target.type is stored for target in targets):
        yield from [rows] * len(targets)
        return
    floats, type = as_floats(chunk, rows)
    top = check_floats(chunk, floats, type)
    for target in targets:
        if target.type is stored:
            yield rows
        elif top >= target.type.overflow:
            raise OverflowingWeightError
        elif SIMD in target.quantizers:
            yield simd.quantize_rows(floats, type, target.type, BLOCKS)
        else:
            if type is not F32:  # once, for all that need it
                floats, type = to_float32(floats, type, FLOATS).view(np.uint8), F32
            yield quantize_rows(floats.view(np.float32), target.type, BLOCKS)


def check_numbers(chunk: Chunk, rows: Bytes) -> float:
    """The greatest magnitude in stored rows; WorthlessError if a weight is NaN or infinite."""
    return check_floats(chunk, *as_floats(chunk, rows))


def as_floats(chunk: Chunk, rows: Bytes) -> tuple[Bytes, Type]:
    """Stored rows and their type, if that is one of floats; what they stand for, as F32, if they are blocks."""
    stored = chunk.source.type
    return (rows, stored) if is_float(stored) else (to_float32(rows, stored, FLOATS).view(np.uint8), F32)


def check_floats(chunk: Chunk, floats: Bytes, type: Type) -> float:
    """`check_numbers` of what `as_floats` gave."""
    top = peak(floats, type)
    if np.isfinite(top):
        return top
    numbers = to_float32(floats, type)
    row = int(np.argmin(np.isfinite(numbers).all(axis=1)))
    what = "NaN" if np.isnan(numbers[row]).any() else "infinity"
    raise WorthlessError(
        chunk.source.file, f"tensor {chunk.source.name} holds {what} in row {chunk.first + row}",
        todo="the file is damaged: get it again",
    )  # fmt: skip
