"""The record of a calibration: what each matrix of a model was multiplied with, and how much the model's output depends
on what came of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from quantize.kernels import Floats

CALIBRATION, SELECTION, HOLD_OUT = "calibration", "selection", "hold-out"
PARTS = (CALIBRATION, SELECTION, HOLD_OUT)  # that clips are split into


@dataclass(frozen=True, eq=False)
class ColumnSums:
    """Sums over the `count` positions x that a matrix was multiplied with, by column: `squares`, Σ x², and `sums`, Σ x,
    (columns,) float32; `sums` is empty where a file of another program lacks it."""

    squares: Floats
    sums: Floats
    count: int

    @property
    def is_reached(self) -> bool:
        """Whether any position reached the matrix with something other than zeros."""
        return self.count > 0 and bool(self.squares.any())


class CalibrationClip(NamedTuple):
    """A clip of a calibration: the name of its file, its hash, and which part of the split it is in."""

    name: str
    sha256: str
    part: str


@dataclass(frozen=True)
class Calibration:
    """What is known of a model's matrices, by the tensor's name in the GGUF file.

    `columns` are sums of what a matrix is multiplied with. `fisher` is the Fisher information of what it gives: of each
    row i the mean over positions of (∂ Σ log p / ∂ y_i)², p the probability of sampled tokens, (rows,) float32.
    `tokens` is the number of predicted tokens of the calibration clips; with `columns[name].count` it says at how many
    positions per token a matrix is used. `hessians` are hashes of the files of second moments, by file name.
    `is_synthetic`: no clip is a recording. `architecture` is that of the files it is for, and `model` what the
    checkpoint is called; both are empty in files of other programs, whose text `datasets` names, and whose number of
    pieces of it is `chunks`.
    """

    where: Path
    sha256: str
    architecture: str
    columns: Mapping[str, ColumnSums]
    fisher: Mapping[str, Floats] = field(default_factory=dict)
    clips: tuple[CalibrationClip, ...] = ()
    datasets: tuple[str, ...] = ()
    tokens: int = 0
    hessians: Mapping[str, str] = field(default_factory=dict)
    is_synthetic: bool = False
    model: str = ""
    chunks: int = 0
