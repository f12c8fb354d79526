"""The sensitivity of a model on some clips, with states and gradients in a folder: memory holds those of one step, and
an interrupted walk is resumed."""

from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor

from mimo_convert.formats.tensor import TensorSlice
from mimo_convert.listener import phase
from mimo_convert.terminal import warn
from quantize.kernels import Floats
from runtime_check.pytorch.weights import Weights

from ..forward import Forward
from ..structure import inputs_of
from ..work import get, put
from .back import DRAWS, Back, Squares, walk_back

STATES, GRADIENTS = "sensitivity-{:03d}.safetensors", "sensitivity-back.safetensors"
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
        tensors = {str(i): states[clip].contiguous() for i, clip in enumerate(self.chosen)}
        put(self.folder / STATES.format(step), save(tensors))

    def run(self, weights: Weights) -> dict[str, Floats]:
        """The Fisher information of every matrix, by its name in the checkpoint, (rows,) float32. All states but those
        before the first step must have been kept."""
        begun = back = self._begun()
        states = [partial(self._states, i) for i in range(len(self.forwards[0].steps))]
        with phase("sensitivity", self._bytes_to_read(begun)):
            for back in walk_back(self.forwards, self.seeds, states, weights, self.draws, begun):
                self._keep_gradients(back)
        assert back is not None
        return back.squares.means()

    def _bytes_to_read(self, begun: Back | None) -> int:
        """Bytes of the matrices that are multiplied before where a walk has begun; that of the head is read twice."""
        steps = inputs_of(self.forwards[0], self.tensors)
        left = [*steps, steps[-1]] if begun is None else steps[: begun.step]
        return sum(self.tensors[name].nbytes for inputs in left for one in inputs for name in one.matrices)

    def _states(self, step: int) -> list[Tensor]:
        data = get(self.folder / STATES.format(step)) if step else None
        if data is None:
            return [forward.start for forward in self.forwards]
        found = load(data)
        return [found[str(i)] for i in range(len(found))]

    def _keep_gradients(self, back: Back) -> None:
        tensors = {str(i): x.contiguous() for i, x in enumerate(back.gradients)}
        tensors |= {f"{SQUARES}{name}": total for name, total in back.squares.sums.items()}
        tensors |= {f"{POSITIONS}{name}": torch.tensor(n) for name, n in back.squares.positions.items()}
        put(self.folder / GRADIENTS, save(tensors | {STEP: torch.tensor(back.step)}))

    def _begun(self) -> Back | None:
        """Where an interrupted walk was; None if there was none."""
        data = get(self.folder / GRADIENTS)
        if data is None:
            return None
        found = load(data)
        gradients = [found[str(i)] for i in range(sum(name.isdecimal() for name in found))]
        names = [name.removeprefix(SQUARES) for name in found if name.startswith(SQUARES)]
        sums = {name: found[f"{SQUARES}{name}"] for name in names}
        return Back(int(found[STEP]), gradients, Squares(sums, {n: int(found[f"{POSITIONS}{n}"]) for n in names}))
