"""Round rows of weights to the codes of a block type with error feedback."""

import ctypes

import numpy as np

from quantize.kernels import Bytes, Floats, Scratch
from quantize.types import Type

from .factor import Factor
from .library import CRounding, library, takes

SWEEPS = 1  # of refinement
WORK = Scratch()


def with_feedback(rows: Floats, blocks: Bytes, ggml_type: Type, factor: Factor, sweeps: int = SWEEPS) -> Bytes:
    """Quantize (n, columns) float32 to (n, row bytes) uint8 of `ggml_type`, a k-quant or IQ4_XS.

    Scales and minima are those of `blocks`, (n, row bytes) uint8, whose codes are not looked at; codes are chosen
    column by column in the order of the factor, each making up for the errors of those before, and then moved to their
    optimum given all others, `sweeps` times. Rows are independent of one another.
    """
    assert takes(ggml_type), f"no error feedback for {ggml_type.name}"
    n, columns = rows.shape
    assert columns == len(factor.a), f"a factor of {len(factor.a)} columns for rows of {columns}"
    rows, blocks = np.ascontiguousarray(rows, np.float32), np.array(blocks, order="C")
    kernels = library()
    work = WORK.take(4 * kernels.feedback_work_size(factor.variant, columns, n))
    rounding = CRounding(
        factor.in_c(), factor.moments.ctypes.data, factor.order.ctypes.data, factor.places.ctypes.data,
        rows.ctypes.data, n, sweeps, blocks.ctypes.data, work.ctypes.data,
    )  # fmt: skip
    kernels.feedback_round_rows(factor.variant, ggml_type.ggml, ctypes.byref(rounding))
    return blocks
