"""Numbers of a calibration file, validated before they are used."""

from pathlib import Path

import numpy as np

from mimo_convert.formats.calibration import ColumnSums
from mimo_convert.formats.tensor import shape_text
from quantize.errors import InputError
from quantize.kernels import Floats
from quantize.quoting import quoted

NOTHING = np.empty(0, np.float32)


def checked_numbers(path: Path, name: str, values: Floats, *, least: float = -np.inf) -> Floats:
    """One row of numbers. Raises InputError unless all are finite, and not below `least`."""
    row = values.ravel()
    wrong = ~(np.isfinite(row) & (row >= least))
    if wrong.any():
        first = int(np.argmax(wrong))
        expected = "a finite number" if least == -np.inf else f"a finite number from {least:g}"
        raise InputError(path, f"{quoted(name)} holds {row[first]:g} at {first}", expected=expected)
    return row


def checked_sums(path: Path, name: str, squares: Floats, sums: Floats | None, count: int) -> ColumnSums:
    """The sums of a weight, of one row each. Raises InputError for sums of several matrices, of different lengths,
    negative squares, and what is not finite."""
    if squares.size != squares.shape[-1]:
        what = f"sums of {quoted(name)} have shape {shape_text(squares.shape)}"
        raise InputError(path, what, expected=f"1×{squares.shape[-1]}: of a matrix, not of experts")
    if sums is not None and sums.size != squares.size:
        what = f"has {sums.size} sums and {squares.size} sums of squares of {quoted(name)}"
        raise InputError(path, what, expected="as many of both")
    return ColumnSums(
        checked_numbers(path, name, squares, least=0),
        NOTHING if sums is None else checked_numbers(path, name, sums),
        count,
    )
