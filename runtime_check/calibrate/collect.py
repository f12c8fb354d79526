"""Collect what each matrix of a model is multiplied with: Σ x², Σ x and the number of positions x, by column.

Sums are float64 over clips; what comes of them is float32, as files have it. The product of a head is not computed:
nothing follows it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mimo_convert.formats.calibration import CALIBRATION, SELECTION, ColumnSums
from mimo_convert.listener import Phase
from runtime_check.pytorch.weights import Weights

from .forward import Forward, StepWeights, through


@dataclass
class Sums:
    """Sums over the positions that a matrix was multiplied with: Σ x² and Σ x, (columns,) float64."""

    squares: Tensor
    sums: Tensor
    count: int

    def add(self, other: "Sums") -> None:
        """Add the sums over other positions."""
        self.squares, self.sums, self.count = (
            self.squares + other.squares, self.sums + other.sums, self.count + other.count
        )  # fmt: skip

    @property
    def columns(self) -> ColumnSums:
        """The sums as a file has them."""
        return ColumnSums(self.squares.float().numpy(), self.sums.float().numpy(), self.count)


AllSums = dict[str, Sums]  # by the matrix's name in the checkpoint


def sums_of(x: Tensor) -> Sums:
    """The sums over the positions of x, (…, columns). numpy takes a tenth of PyTorch's time for them."""
    rows = x.detach().flatten(0, -2).numpy()
    squares = np.einsum("ij,ij->j", rows, rows, dtype=np.float64)
    return Sums(torch.from_numpy(squares), torch.from_numpy(rows.sum(0, dtype=np.float64)), len(rows))


class Recorder(StepWeights):
    """Weights that add up in `sums` what their matrices are multiplied with, on clips of the `part` for calibration."""

    def __init__(self, weights: Weights, sums: AllSums) -> None:
        super().__init__(weights)
        self.sums, self.part, self.multiplies = sums, CALIBRATION, True
        self._x: Tensor | None = None  # that `_sums` are of: matrices one after the other share their input
        self._sums: Sums | None = None

    def begin(self, step: int, *, is_last: bool) -> None:
        """All clips go through a step now; the product of the last one is not computed."""
        self.multiplies = not is_last

    def end(self, step: int) -> None:
        """All clips are behind a step: drop what was read, and the input."""
        self.forget()
        self._x = self._sums = None

    def linear(self, name: str, x: Tensor, bias: str | None = None) -> Tensor:
        """As of any weights, and x recorded; of the last step x itself."""
        self.record(name, x)
        return super().linear(name, x, bias) if self.multiplies else x

    def record(self, name: str, x: Tensor) -> None:
        """Record an input, (…, columns), of a matrix."""
        if self.part != CALIBRATION:
            return
        if self._sums is None or self._x is not x:
            self._x, self._sums = x, sums_of(x)
        if name in self.sums:
            self.sums[name].add(self._sums)
        else:
            self.sums[name] = Sums(self._sums.squares.clone(), self._sums.sums.clone(), self._sums.count)


@contextmanager
def using_threads(n: int) -> Iterator[None]:
    """Let PyTorch compute the block with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


Done = Callable[[int, Sequence[Tensor]], object]  # steps that are done, and the states behind them


def collect(
    forwards: Sequence[Forward], recorder: Recorder, states: list[Tensor], first: int, done: Done, n_selected: int = 0
) -> None:
    """Record what every matrix is multiplied with, from `states` before step `first` on. `done` is told after each step
    but the last. The last `n_selected` forwards are of the part for selection."""
    n_steps, n = len(forwards[0].steps), len(forwards) - n_selected
    running = Phase("calibrating", n_steps, "steps", first)
    with torch.no_grad():
        for i in range(first, n_steps):
            recorder.begin(i, is_last=i == n_steps - 1)
            for recorder.part, clips in ((CALIBRATION, range(n)), (SELECTION, range(n, len(states)))):
                through(i, forwards, recorder, states, clips)
            recorder.end(i)
            if i + 1 < n_steps:
                done(i + 1, states)
            running.reach(i + 1)
    running.end()
