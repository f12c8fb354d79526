"""The last step of a model backwards: draws of tokens, and the gradients of their log-probability.

Its matrix is as large as a dozen others: a block of its rows is in memory at a time, for the clips of some hundred
positions together.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from runtime_check.pytorch.weights import Weights

from ..forward import Forward, Step, StepWeights
from ..together import groups_of

POSITIONS = 512  # whose probabilities are in memory together, 0.6 MB each with 151,680 tokens


class HeadGradients(NamedTuple):
    """Gradients of each clip's state before the head, (draws, *state.shape), and the head's own Fisher information: the
    sum of p (1 - p) over `positions`, (vocab_size,) float64, by the name of its matrix."""

    gradients: list[Tensor]
    matrix: str
    squares: Tensor
    positions: int


class _Inputs(StepWeights):
    """Weights whose one product, the head's, is not computed: it gives its input."""

    matrix = bias = ""

    def linear(self, name: str, x: Tensor, bias: str | None = None) -> Tensor:
        """The input, (S, columns)."""
        self.matrix, self.bias = name, bias or ""
        return x


def head_gradients(
    forwards: Sequence[Forward], seeds: Sequence[int], states: Sequence[Tensor], weights: Weights, draws: int
) -> HeadGradients:
    """Draw `draws` responses of each clip, each token from the distribution at its position, and take the gradients of
    their log-probability back through the last step. A clip's draws depend on its seed alone."""
    kept, gradients, squares, positions = _Inputs(weights), list[Tensor](), torch.zeros(()), 0
    everyone = [
        torch.func.vjp(partial(_input, forward.steps[-1], kept), state)
        for forward, state in zip(forwards, states, strict=True)
    ]
    for some in groups_of([x for x, _ in everyone], POSITIONS):
        ways = [everyone[i] for i in some]
        p = _probabilities(torch.cat([x for x, _ in ways]), kept)
        expected, of_group = _expected(p, kept)
        squares, positions, begin = squares + of_group, positions + len(p), 0
        for i, (x, back) in zip(some, ways, strict=True):
            own = slice(begin, begin := begin + len(x))
            drawn = weights.rows(kept.matrix, _drawn(p[own], draws, seeds[i]))  # (draws, S, columns)
            gradients += torch.func.vmap(back)(drawn - expected[own])
    return HeadGradients(gradients, kept.matrix, squares, positions)


def _input(step: Step, head: _Inputs, state: Tensor) -> Tensor:
    """What a clip's state gives to the head's matrix, (S, columns)."""
    return step(state, head)


def _probabilities(x: Tensor, head: _Inputs) -> Tensor:
    """The head's inputs (S, columns) → the distribution of the next token at each, (S, vocab_size)."""
    logits = torch.cat([x @ rows.T for rows in head.weights.row_blocks(head.matrix)], -1)
    if head.bias:
        logits += head.weights(head.bias)
    return logits.softmax(-1)


def _expected(p: Tensor, head: _Inputs) -> tuple[Tensor, Tensor]:
    """Distributions (S, vocab_size) → the expected row of the matrix at each position, (S, columns), and the sum of
    p (1 - p) over positions, (vocab_size,) float64."""
    rows_of, squares, begin = list[Tensor](), list[Tensor](), 0
    for rows in head.weights.row_blocks(head.matrix):
        part = p[:, begin : begin + len(rows)]
        rows_of.append(part @ rows)
        squares.append((part * (1 - part)).sum(0, dtype=torch.float64))
        begin += len(rows)
    return torch.stack(rows_of).sum(0), torch.cat(squares)


def _drawn(p: Tensor, draws: int, seed: int) -> Tensor:
    """Tokens drawn from distributions (S, vocab_size): (draws, S)."""
    cumulative = p.double().cumsum(-1)
    chances = torch.from_numpy(np.random.default_rng(seed).random((len(p), draws)))
    tokens = torch.searchsorted(cumulative, chances * cumulative[:, -1:], right=True)
    return tokens.clamp(max=p.shape[-1] - 1).T
