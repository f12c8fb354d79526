"""How much a model's output depends on what each of its matrices gives: the Fisher information of their products.

For a matrix with the outputs y, G_i = E[(∂ Σ log p / ∂ y_i)²] over positions and over tokens drawn from the model's own
distribution p at each predicted token. A small error ε of y then changes the output by KL ≈ ½ Σ G_i ε_i² a position,
if errors of different rows are independent (Amari, Natural Gradient, 1998; the diagonal of K-FAC's output factor,
Martens & Grosse 2015).

The steps are walked backwards: the states before each were kept, a step is computed again, and only gradients with
respect to its state and its products are taken, for all draws at once. A matrix is read once for all clips.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from quantize.kernels import Floats
from runtime_check.pytorch.weights import Weights

from ..forward import Forward, OfClip, Step, StepWeights
from ..together import Ask, groups_of, together
from .head import head_gradients

DRAWS = 3  # responses drawn from the model's own distribution, for each clip
POSITIONS = 512  # of clips that are walked back together: what autograd keeps of a position has 0.5 MB at 8 B weights

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


class _Products(StepWeights):
    """The products of a step for several clips, and the squared gradients of what they give."""

    def __init__(self, weights: Weights, squares: Squares) -> None:
        super().__init__(weights)
        self.squares = squares

    def compute(self, key: Any, xs: list[Tensor]) -> list[Tensor]:
        """Several clips' products with a matrix, (…, columns) → (…, rows) each; or their gradients backwards."""
        name, bias, is_back = key
        x = torch.cat([x.flatten(0, -2) for x in xs])
        if is_back:
            squares = np.einsum("ij,ij->j", x.numpy(), x.numpy(), dtype=np.float64)  # a tenth of PyTorch's time
            self.squares.add(name, torch.from_numpy(squares), len(x))
            y = x @ self(name)
        else:
            y = F.linear(x, self(name), None if bias is None else self(bias))
        parts = y.split([x.numel() // x.shape[-1] for x in xs])
        return [part.unflatten(0, x.shape[:-1]) for part, x in zip(parts, xs, strict=True)]


class _OfClip(OfClip):
    """Weights as one clip sees them, whose products have gradients."""

    def linear(self, name: str, x: Tensor, bias: str | None = None) -> Tensor:
        """As of any weights."""
        y: Tensor = _Product.apply(x, self.ask, name, bias)
        return y


class _Product(torch.autograd.Function):  # type: ignore[misc]
    """A product that is asked for, forwards and backwards."""

    @staticmethod
    def forward(x: Tensor, ask: Ask, name: str, bias: str | None) -> Tensor:
        return ask((name, bias, False), x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.ask, ctx.name, _ = inputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return _Back.apply(gradient, ctx.ask, ctx.name), None, None, None


class _Back(torch.autograd.Function):  # type: ignore[misc]
    """The gradients of a product's input; all draws are one product."""

    @staticmethod
    def forward(gradient: Tensor, ask: Ask, name: str) -> Tensor:
        return ask((name, None, True), gradient)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Nothing is kept: there are no second derivatives."""

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], gradient: Tensor, ask: Ask, name: str) -> tuple[Tensor, int]:
        """The gradients of all draws."""
        return ask((name, None, True), gradient.movedim(in_dims[0], 0)), 0


@dataclass
class Back:
    """How far a walk back is: gradients of all clips' states before `step`, (draws, …) each, and what was added up
    behind it."""

    step: int
    gradients: list[Tensor]
    squares: Squares


def walk_back(
    forwards: Sequence[Forward], seeds: Sequence[int], states: Sequence[States], weights: Weights, draws: int = DRAWS,
    begun: Back | None = None,
) -> Iterator[Back]:  # fmt: skip
    """Walk back over the steps, from the last one or from where a walk had `begun`; yields where it is behind each.

    `states[i]` gives the states of all clips before step `i`; `seeds` are those of the clips' draws. When it is before
    step 0, `squares.means()` is the Fisher information of every matrix that is multiplied, by its name in the
    checkpoint. Of the head's matrix it is the expectation over all tokens, p (1 - p), not over those that were drawn.
    """
    back = begun
    if back is None:
        last = len(states) - 1
        head = head_gradients(forwards, seeds, states[last](), weights, draws)
        back = Back(last, head.gradients, Squares())
        back.squares.add(head.matrix, head.squares, head.positions)
        yield back
    while back.step:
        i = back.step - 1
        steps = [forward.steps[i] for forward in forwards]
        back = Back(i, step_back(steps, states[i](), back.gradients, weights, back.squares), back.squares)
        yield back


def step_back(
    steps: Sequence[Step], states: Sequence[Tensor], gradients: Sequence[Tensor], weights: Weights, squares: Squares
) -> list[Tensor]:
    """The gradients of all clips' states behind a step, (draws, …) each → of those before it; none where these are
    ids. Squared gradients of its products are added to `squares`."""
    products, before = _Products(weights, squares), list[Tensor]()
    if not all(state.is_floating_point() for state in states):
        return before
    for some in groups_of(states, POSITIONS):
        jobs = [partial(_clip_back, steps[i], states[i], gradients[i], products) for i in some]
        before += together(jobs, products.compute)
    return before


def _clip_back(step: Step, state: Tensor, gradients: Tensor, products: _Products, ask: Ask) -> Tensor:
    """Gradients of what a step gives for a clip, (draws, …) → of its state, (draws, *state.shape)."""
    weights = _OfClip(products, ask)
    _, back = torch.func.vjp(lambda x: step(x, weights), state)
    (before,) = torch.func.vmap(back)(gradients)
    return before
