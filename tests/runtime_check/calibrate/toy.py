"""A toy language model of four steps, in float64, whose every gradient can be computed as a whole."""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from runtime_check.calibrate.forward import Forward, Step
from runtime_check.pytorch.weights import Weights

D, INNER, VOCABULARY = 8, 12, 11
SHAPES = {
    "in.weight": (D, D), "in.bias": (D,), "q.weight": (D, D), "k.weight": (D, D), "v.weight": (D, D),
    "o.weight": (D, D), "gate.weight": (INNER, D), "up.weight": (INNER, D), "down.weight": (D, INNER),
    "norm.weight": (D,), "head.weight": (VOCABULARY, D), "embed.weight": (5, D),
}  # fmt: skip
MATRICES = [name for name in SHAPES if name.endswith("weight") and name not in ("norm.weight", "embed.weight")]


class ToyWeights(Weights):
    """Random weights; `noise` is added to the products of a matrix, by its name."""

    def __init__(self, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.tensors = {name: torch.from_numpy(random.standard_normal(shape) * 0.5) for name, shape in SHAPES.items()}
        self.noise: dict[str, Tensor] = {}
        self.read: list[str] = []

    def __call__(self, name: str) -> Tensor:
        self.read.append(name)
        return self.tensors[name]

    def rows(self, name: str, ids: Tensor) -> Tensor:
        return self.tensors[name][ids]

    def linear(self, name: str, x: Tensor, bias: str | None = None) -> Tensor:
        y = super().linear(name, x, bias)
        return y + self.noise[name] if name in self.noise else y

    def row_blocks(self, name: str) -> Iterator[Tensor]:
        self.read.append(name)
        yield from self.tensors[name].split(4)


def forward_of(ids: Tensor, response: list[int]) -> Forward:
    """A pass over the embeddings of `ids`; the last positions predict the tokens of the response."""

    def embed(x: Tensor, w: Weights) -> Tensor:
        return w.rows("embed.weight", x)

    def enter(x: Tensor, w: Weights) -> Tensor:
        return F.gelu(w.linear("in.weight", x, "in.bias"))

    def block(x: Tensor, w: Weights) -> Tensor:
        h = x / x.square().mean(-1, keepdim=True).sqrt()
        q, k, v = (w.linear(f"{c}.weight", h) for c in "qkv")
        mask = torch.full((len(x), len(x)), -torch.inf).triu(1)
        x = x + w.linear("o.weight", (q @ k.T + mask).softmax(-1) @ v)
        return x + w.linear("down.weight", F.silu(w.linear("gate.weight", x)) * w.linear("up.weight", x))

    def head(x: Tensor, w: Weights) -> Tensor:
        return w.linear("head.weight", x[-len(response) :] * w("norm.weight"))

    steps: list[Step] = [embed, enter, block, head]
    return Forward(ids, steps, response)


def toy_forwards() -> list[Forward]:
    """Three clips of different lengths."""
    return [
        forward_of(torch.tensor(ids), response)
        for ids, response in (([0, 1, 2, 3], [4, 5]), ([4, 3, 2, 1, 0, 2], [1, 2, 3, 4]), ([1, 1, 4], [7]))
    ]
