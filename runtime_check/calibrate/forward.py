"""A model step by step: all clips go through a step before any goes through the next, so that each tensor is read
once."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Any, Protocol

import torch
from torch import Tensor

from mimo_convert.model.checkpoint import Checkpoint
from runtime_check.audio.clips import Clip
from runtime_check.pytorch.weights import Weights
from runtime_check.run.system import Task

from .together import Ask, groups_of, together

POSITIONS = 768  # of clips that go through a step together

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
    """Weights that are read once until `forget` is called."""

    def __init__(self, weights: Weights) -> None:
        self.weights, self.kept, self.reading = weights, dict[str, Tensor](), Lock()

    def __call__(self, name: str) -> Tensor:
        with self.reading:
            if name not in self.kept:
                self.kept[name] = self.weights(name)
            return self.kept[name]

    def rows(self, name: str, ids: Tensor) -> Tensor:
        """Rows `ids` (any shape) of a matrix: (*ids.shape, columns)."""
        return self.weights.rows(name, ids)

    def forget(self) -> None:
        """Drop what was read."""
        self.kept.clear()


def walk(forwards: Sequence[Forward], weights: StepWeights, states: list[Tensor]) -> Iterator[int]:
    """Take `states`, one a forward, from before the first step to behind the last, in place; yields the number of each
    step that all are behind of."""
    for i in range(len(forwards[0].steps)):
        through(i, forwards, weights, states)
        weights.forget()
        yield i


class Records(Protocol):
    """What is recorded of one clip."""

    def record(self, name: str, x: Tensor) -> None:
        """Record an input, (…, columns), of a matrix."""


def through(
    i: int, forwards: Sequence[Forward], weights: Weights, states: list[Tensor], clips: Sequence[int] | None = None,
    records: Sequence[Records] = (),
) -> None:  # fmt: skip
    """Take `states`, one a forward, from before step `i` to behind it, in place, of all clips or those of these
    numbers. `weights.linear` gets the positions of several clips at once, one behind the other, in their order;
    `records`, one for each of them, get a clip's own."""
    products, numbers = _Products(weights), range(len(states)) if clips is None else clips
    for some in list(groups_of([states[j] for j in numbers], POSITIONS)):  # which keeps no state that is replaced
        jobs = [
            partial(_of_clip, forwards[numbers[k]].steps[i], states[numbers[k]], weights, (*records[k : k + 1],))
            for k in some
        ]
        for k, state in zip(some, together(jobs, products.compute), strict=True):
            states[numbers[k]] = state


def _of_clip(step: Step, state: Tensor, weights: Weights, records: Sequence[Records], ask: Ask) -> Tensor:
    return step(state, OfClip(weights, ask, records))


@dataclass
class OfClip(Weights):
    """Weights as one clip sees them: its products are computed with those of other clips, its inputs recorded."""

    weights: Weights
    ask: Ask
    records: Sequence[Records] = ()

    def __call__(self, name: str) -> Tensor:
        return self.weights(name)

    def rows(self, name: str, ids: Tensor) -> Tensor:
        """As of any weights."""
        return self.weights.rows(name, ids)

    def linear(self, name: str, x: Tensor, bias: str | None = None) -> Tensor:
        """As of any weights."""
        for one in self.records:
            one.record(name, x)
        return self.ask((name, bias), x)


class _Products:
    """Products of several clips at once."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.xs: list[Tensor] = []  # the last inputs, and these together
        self.x = torch.empty(0)

    def compute(self, key: Any, xs: list[Tensor]) -> list[Tensor]:
        """Products with a matrix, (…, columns) → (…, rows) each. Inputs that several matrices share stay one tensor."""
        name, bias = key
        if len(xs) != len(self.xs) or any(x is not old for x, old in zip(xs, self.xs, strict=True)):
            self.xs, self.x = xs, torch.cat([x.flatten(0, -2) for x in xs])
        y = self.weights.linear(name, self.x, bias)
        parts = y.split([x.numel() // x.shape[-1] for x in xs])
        return [part.unflatten(0, x.shape[:-1]) for part, x in zip(parts, xs, strict=True)]
