"""The sensitivity of a model on some clips, with states and gradients in a folder: memory holds those of one step, and
an interrupted walk is resumed."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mimo_convert.files import write_whole
from mimo_convert.listener import phase
from quantize.kernels import Floats
from runtime_check.pytorch.weights import Weights

from .forward import Forward
from .sensitivity import DRAWS, Back, Squares, walk_back

STATES, GRADIENTS, SQUARES = "sensitivity-{:03d}.safetensors", "sensitivity-back.safetensors", "squares "
STEP = "step"  # header entry of the gradients: before which step they are; others are numbers of positions by matrix


class Backward:
    """The walk back of clips whose `forwards` are given, with the seeds of their draws; `folder` is the work folder of
    a run that is resumed only with the same clips."""

    def __init__(self, folder: Path, forwards: Sequence[Forward], seeds: Sequence[int], draws: int = DRAWS) -> None:
        self.folder, self.forwards, self.seeds, self.draws = folder, forwards, seeds, draws

    def keep(self, step: int, states: Sequence[Tensor]) -> None:
        """Keep the states of the clips before a step, which the way forward has reached."""
        tensors = {str(i): state.contiguous() for i, state in enumerate(states)}
        write_whole(self.folder / STATES.format(step), safetensors.torch.save(tensors))

    def run(self, weights: Weights, nbytes: int) -> Mapping[str, Floats]:
        """The Fisher information of every matrix, by its name in the checkpoint, (rows,) float32. All states but the
        first must have been kept; `nbytes` are read of the weights."""
        n, begun = len(self.forwards[0].steps), self._begun()
        states = [partial(self._states, i) for i in range(n)]
        with phase("sensitivity", nbytes):
            for back in walk_back(self.forwards, self.seeds, states, weights, self.draws, begun):
                self._keep_gradients(back)
                begun = back
        assert begun is not None
        return begun.squares.means()

    def _states(self, step: int) -> list[Tensor]:
        if step == 0:
            return [forward.start for forward in self.forwards]
        found = safetensors.torch.load_file(self.folder / STATES.format(step))
        return [found[str(i)] for i in range(len(found))]

    def _keep_gradients(self, back: Back) -> None:
        tensors = {str(i): x.contiguous() for i, x in enumerate(back.gradients)}
        tensors |= {f"{SQUARES}{name}": total for name, total in back.squares.sums.items()}
        about = {STEP: str(back.step)} | {name: str(n) for name, n in back.squares.positions.items()}
        write_whole(self.folder / GRADIENTS, safetensors.torch.save(tensors, about))

    def _begun(self) -> Back | None:
        """Where an interrupted walk was; None if there was none, or its file is damaged."""
        path = self.folder / GRADIENTS
        with suppress(OSError, SafetensorError):
            found = safetensors.torch.load_file(path)
            with safe_open(path, "pt") as file:
                about = dict(file.metadata())
            step = int(about.pop(STEP))
            sums = {name.removeprefix(SQUARES): x for name, x in found.items() if name.startswith(SQUARES)}
            gradients = [found[str(i)] for i in range(len(found) - len(sums))]
            return Back(step, gradients, Squares(sums, {name: int(n) for name, n in about.items()}))
        return None
