"""The rows of a chunk, as stored → rows of the planned type, or the reason why not."""

import numpy as np

from quantize.errors import WorthlessError
from quantize.kernels import Bytes, Scratch, is_float, peak, quantize_rows, to_float32
from quantize.types import F32, Type

from .request import Chunk

FLOATS, BLOCKS = Scratch(), Scratch()


class OverflowingWeightError(Exception):
    """A finite weight has no finite value in its type; the plan must keep its tensor in F32."""


def convert_rows(chunk: Chunk, rows: Bytes, type: Type) -> Bytes:
    """Stored rows as rows of `type`: as they are if they are that already.

    Raises WorthlessError for NaN and infinity, OverflowingWeightError for a weight that would become infinite.
    """
    stored = chunk.source.type
    if stored is type and not is_float(type):
        return rows
    top = check_numbers(chunk, rows)
    if stored is type:
        return rows
    if top >= type.overflow:
        raise OverflowingWeightError
    return quantize_rows(to_float32(rows, stored, FLOATS), type, BLOCKS)


def check_numbers(chunk: Chunk, rows: Bytes) -> float:
    """The greatest magnitude in stored rows; WorthlessError if a weight is NaN or infinite."""
    type = chunk.source.type
    top = peak(rows, type) if is_float(type) else peak(to_float32(rows, type).view(np.uint8), F32)
    if np.isfinite(top):
        return top
    floats = to_float32(rows, type)
    row = int(np.argmin(np.isfinite(floats).all(axis=1)))
    what = "NaN" if np.isnan(floats[row]).any() else "infinity"
    raise WorthlessError(
        chunk.source.file, f"tensor {chunk.source.name} holds {what} in row {chunk.first + row}",
        todo="the file is damaged: get it again",
    )  # fmt: skip
