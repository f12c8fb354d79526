"""Collect what each matrix of a model is multiplied with: Σ x², Σ x and the number of positions x, by column.

Sums are float64, of each clip by itself, and added in the order of the clips; what comes of them is float32, as files
have it. Clips go through the model in packs, and products are of clips of one pack: so a clip gives the same sums, bit
for bit, on whichever machine its pack is run. A matrix is multiplied in one step alone. The product of a head is not
computed: nothing follows it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from mimo_convert.formats.calibration import CALIBRATION, SELECTION
from mimo_convert.listener import Phase
from runtime_check.pytorch.weights import Weights

from .forward import Forward, StepWeights, through
from .per_clip.sums import AllSums, Sums, add_up, sums_of


class ClipSums:
    """The sums of one clip."""

    def __init__(self) -> None:
        self.sums = AllSums()
        self._x: Tensor | None = None  # that `_of` are of: matrices one after the other share their input
        self._of: Sums | None = None

    def record(self, name: str, x: Tensor) -> None:
        """Record an input, (…, columns), of a matrix."""
        if self._of is None or self._x is not x:
            self._x, self._of = x, sums_of(x.detach().flatten(0, -2).numpy())
        add_up(self.sums, [{name: self._of}])

    def end(self) -> None:
        """The clip is behind a step: drop the input."""
        self._x = self._of = None


class Recorder(StepWeights):
    """Weights of a calibration, which adds up in `sums` what their matrices are multiplied with."""

    def __init__(self, weights: Weights, sums: AllSums) -> None:
        super().__init__(weights)
        self.sums, self.part, self.multiplies = sums, CALIBRATION, True

    def begin(self, step: int, *, is_last: bool) -> None:
        """All clips go through a step now; the product of the last one is not computed."""
        self.multiplies = not is_last

    def end(self, step: int) -> None:
        """All clips are behind a step: drop what was read."""
        self.forget()

    def linear(self, name: str, x: Tensor, bias: str | None = None) -> Tensor:
        """As of any weights; of the last step x itself."""
        self.record(name, x)
        return super().linear(name, x, bias) if self.multiplies else x

    def record(self, name: str, x: Tensor) -> None:
        """An input, (…, columns), of a matrix, of one or several clips of `part`."""


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
    forwards: Sequence[Forward], recorder: Recorder, states: list[Tensor], first: int, done: Done, n_selected: int = 0,
    packs: Sequence[int] = (),
) -> None:  # fmt: skip
    """Record what every matrix is multiplied with, from `states` before step `first` on. `done` is told after each step
    but the last. The last `n_selected` forwards are of the part for selection; `packs` are the numbers of forwards in
    each pack of the others, in order (empty: one pack)."""
    n_steps, n = len(forwards[0].steps), len(forwards) - n_selected
    running = Phase("calibrating", n_steps, "steps", first)
    with torch.no_grad():
        for i in range(first, n_steps):
            recorder.begin(i, is_last=i == n_steps - 1)
            recorder.part = CALIBRATION
            for pack in (range(*ends) for ends in pairwise(accumulate(packs or [n], initial=0))):
                clips = [ClipSums() for _ in pack]
                through(i, forwards, recorder, states, pack, clips)
                add_up(recorder.sums, (clip.sums for clip in clips))
            recorder.part = SELECTION
            through(i, forwards, recorder, states, range(n, len(states)))
            recorder.end(i)
            if i + 1 < n_steps:
                done(i + 1, states)
            running.reach(i + 1)
    running.end()


def collect_pack(forwards: Sequence[Forward], weights: Weights) -> list[AllSums]:
    """The sums of each clip of one pack, which goes through all steps by itself."""
    recorder, clips = Recorder(weights, {}), [ClipSums() for _ in forwards]
    states = [forward.start for forward in forwards]
    n_steps = len(forwards[0].steps)
    with torch.no_grad():
        for i in range(n_steps):
            recorder.begin(i, is_last=i == n_steps - 1)
            through(i, forwards, recorder, states, records=clips)
            recorder.end(i)
            for clip in clips:
                clip.end()
    return [clip.sums for clip in clips]
