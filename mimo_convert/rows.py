"""The rows of a chunk, as stored → rows of the planned type, or the reason why not."""

from collections.abc import Iterator, Sequence

import numpy as np

from quantize import simd
from quantize.errors import WorthlessError
from quantize.kernels import Bytes, Scratch, is_float, peak, quantize_rows, to_float32
from quantize.quantizer import SIMD
from quantize.types import F32

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
    top = check_numbers(chunk, rows)
    floats = None  # widened once, for all that need it
    for target in targets:
        type = target.type
        if type is stored:
            yield rows
        elif top >= type.overflow:
            raise OverflowingWeightError
        elif SIMD in target.quantizers and is_float(stored):
            yield simd.quantize_rows(rows, stored, type, BLOCKS)
        else:
            floats = to_float32(rows, stored, FLOATS) if floats is None else floats
            if SIMD in target.quantizers:
                yield simd.quantize_rows(floats.view(np.uint8), F32, type, BLOCKS)
            else:
                yield quantize_rows(floats, type, BLOCKS)


def check_numbers(chunk: Chunk, rows: Bytes) -> float:
    """The greatest magnitude in stored rows; WorthlessError if a weight is NaN or infinite."""
    type = chunk.source.type
    top = peak(rows, type) if is_float(type) else peak(to_float32(rows, type, FLOATS).view(np.uint8), F32)
    if np.isfinite(top):
        return top
    floats = to_float32(rows, type)
    row = int(np.argmin(np.isfinite(floats).all(axis=1)))
    what = "NaN" if np.isnan(floats[row]).any() else "infinity"
    raise WorthlessError(
        chunk.source.file, f"tensor {chunk.source.name} holds {what} in row {chunk.first + row}",
        todo="the file is damaged: get it again",
    )  # fmt: skip
