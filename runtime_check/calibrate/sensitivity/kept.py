"""The sensitivity of a model on some clips, with states and gradients in a folder: memory holds those of one step, and
an interrupted walk is resumed."""

from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mimo_convert.formats.tensor import TensorSlice
from mimo_convert.listener import Phase
from mimo_convert.terminal import warn
from quantize.errors import InputError
from quantize.kernels import Floats
from runtime_check.pytorch.weights import Weights

from ..forward import Forward
from ..structure import inputs_of
from ..work import get, put
from .back import DRAWS, Back, Squares, walk_back

STATES, GRADIENTS = "sensitivity-{:03d}.npz", "sensitivity-back.npz"
MOST_CLIPS = 12  # of which fewer give sums that depend on which clips they are
SQUARES, POSITIONS, STEP = "squares ", "positions ", "step"


class Backward:
    """The walk back of some of the clips whose `forwards` are given by name: MOST_CLIPS, chosen by a hash of the name,
    from which and `seed` draws come, too. `tensors` are the checkpoint's; `folder` is the work folder of the run."""

    def __init__(
        self, folder: Path, forwards: Mapping[str, Forward], seed: int, tensors: Mapping[str, TensorSlice],
        draws: int = DRAWS,
    ) -> None:  # fmt: skip
        hashes = {name: sha256(f"{seed} {name}".encode()).hexdigest() for name in forwards}
        names = sorted(forwards, key=hashes.__getitem__)[:MOST_CLIPS]
        self.chosen = [list(forwards).index(name) for name in names]
        self.forwards = [forwards[name] for name in names]
        self.seeds = [int(hashes[name][:16], 16) for name in names]
        self.folder, self.tensors, self.draws = folder, tensors, draws

    def warn_if_few(self) -> None:
        """Warn of so few clips that the result depends on which they are."""
        if len(self.forwards) < MOST_CLIPS:
            n = len(self.forwards)
            warn(f"sensitivities of {n} clip{'s' * (n > 1)}: expected {MOST_CLIPS} or more, which say more of a model")

    def keep(self, step: int, states: Sequence[Tensor]) -> None:
        """Keep the states of the chosen clips before a step, of those of all clips."""
        put(self.folder / STATES.format(step), {str(i): states[clip].numpy() for i, clip in enumerate(self.chosen)})

    def run(self, weights: Weights) -> dict[str, Floats]:
        """The Fisher information of every matrix, by its name in the checkpoint, (rows,) float32. All states but those
        before the first step must have been kept."""
        begun = back = self._begun()
        states = [partial(self._states, i) for i in range(len(self.forwards[0].steps))]
        nbytes = self._bytes_of_steps()
        done = 0 if begun is None else sum(nbytes[begun.step :])
        running = Phase("sensitivity", sum(nbytes), done=done)  # by steps: what is read depends on clips and draws
        for back in walk_back(self.forwards, self.seeds, states, weights, self.draws, begun):
            self._keep_gradients(back)
            running.reach(sum(nbytes[back.step :]))
        running.end()
        assert back is not None
        return back.squares.means()

    def _bytes_of_steps(self) -> list[int]:
        """The bytes of the matrices that each step multiplies; that of the head, the last step, counts twice."""
        steps = inputs_of(self.forwards[0], self.tensors)
        steps[-1] *= 2
        return [sum(self.tensors[name].nbytes for one in step for name in one.matrices) for step in steps]

    def _states(self, step: int) -> list[Tensor]:
        """The states of the chosen clips before a step."""
        if step == 0:
            return [forward.start for forward in self.forwards]
        found = get(self.folder / STATES.format(step))
        if found is None:
            raise InputError(self.folder, f"holds no states before step {step}", todo="delete it, and begin anew")
        return [torch.from_numpy(found[str(i)]) for i in range(len(found))]

    def _keep_gradients(self, back: Back) -> None:
        """Keep how far the walk is, in the place of what was kept before."""
        arrays = {str(i): x.numpy() for i, x in enumerate(back.gradients)}
        arrays |= {f"{SQUARES}{name}": total.numpy() for name, total in back.squares.sums.items()}
        arrays |= {f"{POSITIONS}{name}": np.array(n) for name, n in back.squares.positions.items()}
        put(self.folder / GRADIENTS, arrays | {STEP: np.array(back.step)})

    def _begun(self) -> Back | None:
        """Where an interrupted walk was; None if there was none."""
        found = get(self.folder / GRADIENTS)
        if found is None:
            return None
        arrays = {name: torch.from_numpy(array) for name, array in found.items()}
        gradients = [arrays[str(i)] for i in range(sum(name.isdecimal() for name in arrays))]
        names = [name.removeprefix(SQUARES) for name in arrays if name.startswith(SQUARES)]
        sums = {name: arrays[f"{SQUARES}{name}"] for name in names}
        return Back(int(arrays[STEP]), gradients, Squares(sums, {n: int(arrays[f"{POSITIONS}{n}"]) for n in names}))
