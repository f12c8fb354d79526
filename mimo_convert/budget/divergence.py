"""The KL divergence that a tensor adds to a model's output by its type, in nats a token.

With ε = ΔW x the error of a matrix's output, KL ≈ ½ E[εᵀ F ε] a position, F the Fisher information of the output
distribution with respect to it. With rows taken as independent and second moments as a diagonal, of T positions and S
predicted tokens,

    KL ≈ (T / 2S) Σ_i G_i Σ_j ΔW_ij² E[x_j²],    G_i = E[(∂ Σ log p / ∂ y_i)²].
"""

from typing import NamedTuple

import numpy as np

from mimo_convert.formats.calibration import Calibration
from quantize.kernels import Floats
from quantize.rows import importance


class Sensitivity(NamedTuple):
    """What a calibration knows of a tensor: `importance` of its columns, which quantizes it, (columns,) float32;
    E[x²] of them, `squares`, (columns,) float32; the Fisher information of its rows times T / 2S, `rows`, (rows,)
    float64."""

    importance: Floats
    squares: Floats
    rows: np.ndarray

    def divergence(self, error: Floats, first: int) -> float:
        """The KL divergence of a run of rows, from row `first` on, whose weights are off by `error`, (n, columns)
        float32, which is overwritten."""
        np.multiply(error, error, out=error)
        by_row = np.einsum("ij,j->i", error, self.squares).astype(np.float64)  # a BLAS has threads of its own
        return float(np.dot(by_row, self.rows[first : first + len(error)]))


def sensitivity_of(calibration: Calibration, name: str) -> Sensitivity | None:
    """What is known of a tensor; None where no position reached it, or its Fisher information is not known."""
    columns, fisher = calibration.columns.get(name), calibration.fisher.get(name)
    if columns is None or fisher is None or not columns.is_reached or not calibration.tokens:
        return None
    return Sensitivity(
        importance(columns.squares, columns.count),
        (columns.squares / columns.count).astype(np.float32),
        fisher.astype(np.float64) * (columns.count / (2 * calibration.tokens)),
    )
