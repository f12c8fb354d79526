"""How much a model's output depends on what each of its matrices gives: the Fisher information of their products.

For a matrix with the outputs y, G_i = E[(∂ Σ log p / ∂ y_i)²] over positions and over tokens drawn from the model's own
distribution p at each predicted token. A small error ε of y then changes the output by KL ≈ ½ Σ G_i ε_i² a position,
if errors of different rows are independent (Amari, Natural Gradient, 1998; the diagonal of K-FAC's output factor,
Martens & Grosse 2015).

The steps are walked backwards: the states before each were kept, a step is computed again, and only gradients with
respect to its state and its products are taken, for all draws at once. A matrix is read once for all clips.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from quantize.kernels import Floats
from runtime_check.pytorch.weights import Weights

from .forward import Forward, Step, StepWeights
from .head import head_gradients

DRAWS = 3  # responses drawn from the model's own distribution, for each clip
LEAST_CLIPS = 12  # fewer give sums that depend on which clips they are

States = Callable[[], Sequence[Tensor]]  # of all clips before a step, read when they are needed


@dataclass
class Squares:
    """Sums of squared gradients by matrix, (rows,) float64, and of how many positions they are."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    positions: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, squares: Tensor, positions: int) -> None:
        """Add a sum over positions."""
        self.sums[name] = self.sums[name] + squares if name in self.sums else squares
        self.positions[name] = self.positions.get(name, 0) + positions

    def means(self) -> dict[str, Floats]:
        """The Fisher information by matrix, (rows,) float32."""
        return {name: (total / self.positions[name]).float().numpy() for name, total in self.sums.items()}


class _Watched(StepWeights):
    """Weights that add up the squared gradients of their products."""

    def __init__(self, weights: Weights, squares: Squares) -> None:
        super().__init__(weights)
        self.squares = squares

    def linear(self, name: str, x: Tensor, bias: str | None = None) -> Tensor:
        """As of any weights."""
        y: Tensor = _Product.apply(x, self, name, bias)
        return y

    def back(self, name: str, gradients: Tensor) -> Tensor:
        """Gradients of a product, (…, rows) → of its input, (…, columns)."""
        rows = gradients.flatten(0, -2)
        self.squares.add(name, rows.square().sum(0, dtype=torch.float64), len(rows))
        return gradients @ self(name)


class _Product(torch.autograd.Function):  # type: ignore[misc]
    """A product whose gradient goes through `_Watched.back`."""

    @staticmethod
    def forward(x: Tensor, weights: _Watched, name: str, bias: str | None) -> Tensor:
        return F.linear(x, weights(name), None if bias is None else weights(bias))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.weights, ctx.name, _ = inputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return _Back.apply(gradient, ctx.weights, ctx.name), None, None, None


class _Back(torch.autograd.Function):  # type: ignore[misc]
    """The gradient of a product's input; all draws are one product."""

    @staticmethod
    def forward(gradient: Tensor, weights: _Watched, name: str) -> Tensor:
        return weights.back(name, gradient)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Nothing is kept: there are no second derivatives."""

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], gradient: Tensor, weights: _Watched, name: str) -> tuple[Tensor, int]:
        """The gradients of all draws."""
        return weights.back(name, gradient.movedim(in_dims[0], 0)), 0


def sensitivities(
    forwards: Sequence[Forward], seeds: Sequence[int], states: Sequence[States], weights: Weights, draws: int = DRAWS
) -> dict[str, Floats]:
    """The Fisher information of every matrix that is multiplied, by its name in the checkpoint, (rows,) float32.

    `states[i]` gives the states of all clips before step `i`; `seeds` are those of the clips' draws. Of the head's
    matrix it is the expectation over all tokens, p (1 - p), not over those that were drawn.
    """
    last = len(states) - 1
    head = head_gradients(forwards, seeds, states[last](), weights, draws)
    squares, gradients = Squares(), head.gradients
    squares.add(head.matrix, head.squares, head.positions)
    for i in reversed(range(last)):
        steps = [forward.steps[i] for forward in forwards]
        gradients = step_back(steps, states[i](), gradients, weights, squares)
    return squares.means()


def step_back(
    steps: Sequence[Step], states: Sequence[Tensor], gradients: Sequence[Tensor], weights: Weights, squares: Squares
) -> list[Tensor]:
    """The gradients of all clips' states behind a step, (draws, …) each → of those before it; none where these are
    ids. Squared gradients of its products are added to `squares`."""
    watched, before = _Watched(weights, squares), []
    for step, state, gradient in zip(steps, states, gradients, strict=True):
        if state.is_floating_point():
            _, back = torch.func.vjp(lambda x, step=step: step(x, watched), state)
            before += torch.func.vmap(back)(gradient)
    return before
