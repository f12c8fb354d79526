"""A model step by step: all clips go through a step before any goes through the next, so that each tensor is read
once."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from mimo_convert.model.checkpoint import Checkpoint
from runtime_check.audio.clips import Clip
from runtime_check.pytorch.weights import Weights
from runtime_check.run.system import Task

Step = Callable[[Tensor, Weights], Tensor]  # the state of one clip → its next state


@dataclass(frozen=True)
class Forward:
    """The pass of a clip and its response through a model: the state before the first step, and the steps.

    Forwards of a model have as many steps each, which use the same weights in the same order. The last one gives the
    logits that predict each token of `response`, (S,), as (S, vocab_size); its product is the head's alone.
    """

    start: Tensor
    steps: Sequence[Step]
    response: Sequence[int]


class Forwards(Protocol):
    """A model whose forwards can be made; `checkpoint` holds what `weights` reads, by the names that its family's
    tensors have."""

    checkpoint: Checkpoint
    weights: Weights

    def response(self, text: str) -> list[int]:
        """The tokens with which the model answers if it hears `text`."""

    def features(self, clip: Clip) -> Tensor:
        """What the model's steps begin with: the clip's features, or its codes."""

    def forward_of(self, features: Tensor, response: Sequence[int]) -> Forward:
        """The forward of a clip's features with the token ids of its response. Raises InputError if the model's context
        does not hold them."""

    def forward(self, clip: Clip, response: Sequence[int]) -> Forward:
        """The forward of a clip. Raises as `forward_of`."""
        return self.forward_of(self.features(clip), response)


OpenForwards = Callable[[Mapping[str, Checkpoint], Task], Forwards]  # of checkpoints by role


class StepWeights(Weights):
    """Weights that are read once until `forget` is called; `clip` is the number of the forward that reads them."""

    def __init__(self, weights: Weights) -> None:
        self.weights, self.kept, self.clip = weights, dict[str, Tensor](), 0

    def __call__(self, name: str) -> Tensor:
        if name not in self.kept:
            self.kept[name] = self.weights(name)
        return self.kept[name]

    def rows(self, name: str, ids: Tensor) -> Tensor:
        """Rows `ids` (any shape) of a matrix: (*ids.shape, columns)."""
        return self.weights.rows(name, ids)

    def forget(self) -> None:
        """Drop what was read."""
        self.kept.clear()


def walk(forwards: Sequence[Forward], weights: StepWeights, states: list[Tensor], first: int = 0) -> Iterator[int]:
    """Take `states`, one a forward, from before step `first` to behind the last, in place; yields the number of each
    step that all are behind of."""
    for i in range(first, len(forwards[0].steps)):
        for weights.clip, forward in enumerate(forwards):
            states[weights.clip] = forward.steps[i](states[weights.clip], weights)
        weights.forget()
        yield i
