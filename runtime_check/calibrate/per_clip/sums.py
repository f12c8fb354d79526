"""Sums over the positions that matrices are multiplied with, of each clip by itself, and those of all clips, which are
added in one order wherever the clips were run."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mimo_convert.formats.calibration import ColumnSums

Float64s = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums over the positions that a matrix was multiplied with: Σ x² and Σ x, (columns,) float64."""

    squares: Float64s
    sums: Float64s
    count: int

    def __add__(self, other: "Sums") -> "Sums":
        """The sums over these and other positions."""
        return Sums(self.squares + other.squares, self.sums + other.sums, self.count + other.count)

    @property
    def columns(self) -> ColumnSums:
        """The sums as a file has them."""
        return ColumnSums(self.squares.astype(np.float32), self.sums.astype(np.float32), self.count)


AllSums = dict[str, Sums]  # by the matrix's name in the checkpoint


def sums_of(rows: npt.NDArray[Any]) -> Sums:
    """The sums over positions, (positions, columns). numpy takes a tenth of PyTorch's time for them."""
    squares = np.einsum("ij,ij->j", rows, rows, dtype=np.float64)
    return Sums(squares, rows.sum(0, dtype=np.float64), len(rows))


def add_up(total: AllSums, clips: Iterable[AllSums]) -> None:
    """Add the sums of clips to a total, one clip after the other: float64 rounds by the order."""
    for clip in clips:
        for name, of in clip.items():
            total[name] = total[name] + of if name in total else of
