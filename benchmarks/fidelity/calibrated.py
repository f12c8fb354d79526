"""What the model's matrices are multiplied with on clips, collected by the engines of mimo-calibrate."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mimo_convert.budget.divergence import Sensitivity, sensitivity_of
from mimo_convert.formats.calibration import Calibration, ColumnSums
from quantize.kernels import Floats
from runtime_check.calibrate.collect import Recorder, collect
from runtime_check.calibrate.forward import Forward, StepWeights, walk
from runtime_check.calibrate.hessians import InputSums, Sample
from runtime_check.calibrate.per_clip.sums import AllSums
from runtime_check.calibrate.sensitivity.back import walk_back

from .package import Whisper, matrices, padded
from .whisper import TensorWeights

WALKED_BACK = 12  # clips that the Fisher information is of
SEED = 0  # of the inputs that are sampled


@dataclass(frozen=True)
class Known:
    """What is known of a matrix: of padded columns what quantizes and predicts (`sensitivity`), second moments of the
    calibration clips' inputs, (columns, columns), and inputs of the selection clips, (at most 256, columns)."""

    sensitivity: Sensitivity
    moments: Floats
    inputs: Floats


class Inputs(StepWeights):
    """Weights that add up second moments of what the `names` are multiplied with, or sample it."""

    def __init__(self, model: Whisper, names: Sequence[str]) -> None:
        super().__init__(TensorWeights(model.weights))
        columns = {name: model.weights[name].shape[1] for name in names}
        self.sums = {name: InputSums(n) for name, n in columns.items()}
        self.samples = {name: Sample(n, SEED) for name, n in columns.items()}
        self.samples_only = False

    def linear(self, name: str, x: Tensor, bias: str | None = None) -> Tensor:
        """As of any weights, and x recorded."""
        if name in self.sums:
            if self.samples_only:
                self.samples[name].add(x)
            else:
                self.sums[name].add(x)
        return super().linear(name, x, bias)


def known_of(model: Whisper, calibration: Sequence[Forward], selection: Sequence[Forward]) -> dict[str, Known]:
    """What is known of each matrix after clips to calibrate with and clips to select with."""
    names, found = list(matrices(model)), calibration_of(model, calibration)
    inputs = Inputs(model, names)
    with torch.no_grad():
        for forwards in (calibration, selection):
            for _ in walk(forwards, inputs, [forward.start for forward in forwards]):
                pass
            inputs.samples_only = True
    known = {}
    for name in names:
        sensitivity = sensitivity_of(found, name)
        assert sensitivity is not None, name
        known[name] = Known(sensitivity, square(inputs.sums[name].packed()), padded(inputs.samples[name].rows))
    return known


def calibration_of(model: Whisper, clips: Sequence[Forward]) -> Calibration:
    """The sums of columns and the Fisher information, as mimo-calibrate collects them; of columns as padded."""
    weights = TensorWeights(model.weights)
    states: list[list[Tensor]] = [[clip.start for clip in clips]]
    sums = AllSums()
    collect(clips, Recorder(weights, sums), list(states[0]), 0, lambda _, after: states.append(list(after)))
    some = slice(WALKED_BACK)
    before = [lambda i=i: states[i][some] for i in range(len(states))]
    *_, back = walk_back(clips[some], range(WALKED_BACK), before, weights)
    names = matrices(model)
    columns = {name: one.columns for name, one in sums.items() if name in names}
    return Calibration(
        where=Path("calibration"),
        sha256="",
        architecture="whisper",
        columns={
            name: ColumnSums(padded(one.squares[None])[0], padded(one.sums[None])[0], one.count)
            for name, one in columns.items()
        },
        fisher=back.squares.means(),
        tokens=sum(len(clip.response) for clip in clips),
        is_synthetic=True,
    )


def square(packed: Floats) -> Floats:
    """A packed lower triangle as a padded symmetric matrix."""
    n = int((2 * len(packed)) ** 0.5)
    lower = np.zeros((n, n), np.float32)
    lower[np.tril_indices(n)] = packed
    half = padded(lower + np.tril(lower, -1).T)
    return padded(np.ascontiguousarray(half.T))
