"""The structure of a model's pass, step by step: which matrices are multiplied, and which of them with the same
input."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from mimo_convert.formats.tensor import TensorSlice
from runtime_check.pytorch.weights import Weights

from .forward import Forward


class Input(NamedTuple):
    """An input of `matrices`, by their names in the checkpoint, in the order in which they are multiplied with it:
    (positions, columns), of one clip."""

    matrices: tuple[str, ...]
    positions: int
    columns: int


@dataclass
class _Shapes(Weights):
    """Weights of the right shapes that are all zero, and take no memory; records the inputs of products."""

    tensors: Mapping[str, TensorSlice]
    inputs: list[tuple[Tensor, list[str]]] = field(default_factory=list)

    def __call__(self, name: str) -> Tensor:
        return torch.zeros(()).expand(self.tensors[name].shape)

    def rows(self, name: str, ids: Tensor) -> Tensor:
        """Rows of a matrix, all zero."""
        return torch.zeros(()).expand(*ids.shape, self.tensors[name].row)

    def linear(self, name: str, x: Tensor, bias: str | None = None) -> Tensor:
        """Record the input, and multiply nothing."""
        if self.inputs and self.inputs[-1][0] is x:
            self.inputs[-1][1].append(name)
        else:
            self.inputs.append((x, [name]))
        return torch.zeros(()).expand(*x.shape[:-1], self.tensors[name].n_rows)


def inputs_of(forward: Forward, tensors: Mapping[str, TensorSlice]) -> list[tuple[Input, ...]]:
    """The inputs of each step of a forward, found without reading a weight: matrices share an input if one tensor is
    multiplied with them one after the other. `tensors` are the checkpoint's."""
    steps, x = [], forward.start
    with torch.no_grad():
        for step in forward.steps:
            weights = _Shapes(tensors)
            x = step(x, weights)
            found: dict[tuple[str, ...], Input] = {}
            for y, names in weights.inputs:  # the same matrices several times, where a clip is computed in parts
                of, n = tuple(names), y.shape[-1]
                before = found[of].positions if of in found else 0
                found[of] = Input(of, before + y.numel() // n, n)
            steps.append(tuple(found.values()))
    return steps
