"""KL divergence of a model with quantized matrices from the model itself, with teacher forcing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from runtime_check.calibrate.forward import Forward
from runtime_check.run.compare.fidelity import Numbers

from .package import Whisper
from .speech import Spoken
from .whisper import END, TensorWeights, forward_of, mel_of


def forced(clip: Spoken, model: Whisper) -> Forward:
    """A clip with its text."""
    ids = model.tokenizer.encode(f" {clip.text}", add_special_tokens=False).ids
    return forward_of(mel_of(clip.wave), [*ids, END])


Replaced = Mapping[str, Tensor]  # matrices that are not the model's own, by name


@dataclass(frozen=True)
class Reference:
    """Clips with the states that the model itself has before each step, and the log-probabilities that it gives."""

    model: Whisper
    clips: Sequence[Forward]
    states: Sequence[Sequence[Tensor]]  # of each clip, before each step
    logs: Sequence[Tensor]  # of each clip, (tokens, vocabulary) float64

    def divergences(self, replaced: Replaced, first: int = 0) -> list[Numbers]:
        """D(the model ‖ the model with other matrices) of each token in nats, by clip; the steps before `first` read
        none of the matrices."""
        w = TensorWeights(self.model.weights, replaced)
        found = []
        with torch.no_grad():
            for clip, states, p in zip(self.clips, self.states, self.logs, strict=True):
                state = states[first]
                for step in clip.steps[first:]:
                    state = step(state, w)
                found.append((p.exp() * (p - state.double().log_softmax(-1))).sum(-1).clamp(min=0).numpy())
        return found

    def mean(self, replaced: Replaced, first: int = 0) -> float:
        """The mean over all tokens."""
        return float(np.concatenate(self.divergences(replaced, first)).mean())


def reference_of(clips: Sequence[Spoken], model: Whisper) -> Reference:
    """What the model itself makes of clips and their texts."""
    forwards, states, logs = [forced(clip, model) for clip in clips], [], []
    w = TensorWeights(model.weights)
    with torch.no_grad():
        for forward in forwards:
            before, state = [], forward.start
            for step in forward.steps:
                before.append(state)
                state = step(state, w)
            states.append(before)
            logs.append(state.double().log_softmax(-1))
    return Reference(model, forwards, states, logs)
