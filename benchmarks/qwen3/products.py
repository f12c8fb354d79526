"""The matrix products of graphs by themselves: what is left of a graph without norms, attention and activations."""

import ctypes
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import ggml
import numpy as np

from runtime_check.ggml.graph import Backend, Graph, TensorPtr, Weights


class Multiplied(NamedTuple):
    """A product of a graph: its weight, a file's tensor or the shape of one that the graph computes; activations by
    their address and shape, since several products may share them."""

    weight: TensorPtr | tuple[int, int]
    address: int
    shape: tuple[int, int]


@contextmanager
def recording(weights: Weights) -> Iterator[dict[Graph, list[Multiplied]]]:
    """The products of each graph that is built meanwhile; the graphs are kept, so that addresses stay their own."""
    graphs: dict[Graph, list[Multiplied]] = {}
    multiply, of_file = Graph._multiply, {ctypes.addressof(t.contents) for t in weights.tensors.values()}

    def record(g: Graph, weight: TensorPtr, x: TensorPtr, bias: str, **options: Any) -> TensorPtr:
        row = int(x.contents.ne[0])
        known = ctypes.addressof(weight.contents) in of_file
        matrix = weight if known else (ggml.ggml_nelements(weight) // row, row)
        shape = (ggml.ggml_nrows(x), row)
        graphs.setdefault(g, []).append(Multiplied(matrix, ctypes.addressof(x.contents), shape))
        return multiply(g, weight, x, bias, **options)

    Graph._multiply = record  # type: ignore[method-assign]
    try:
        yield graphs
    finally:
        Graph._multiply = multiply  # type: ignore[method-assign]


class Alone:
    """The products of a graph, with Gaussian activations and nothing between them."""

    def __init__(self, backend: Backend, weights: Weights, products: list[Multiplied]) -> None:
        self.g = g = Graph(backend, weights)
        inputs: dict[str, Any] = {}

        def gaussian(name: str, shape: tuple[int, int]) -> TensorPtr:
            if name not in inputs:
                inputs[name] = np.random.default_rng(len(inputs)).standard_normal(shape, np.float32)
                # an output's memory is given to nothing else: a second run finds it as it was
                ggml.ggml_set_output(g.input(name, shape))
            return g.inputs[name]

        for i, (weight, address, shape) in enumerate(products):
            if isinstance(weight, tuple):  # own kernels take it if the graph computes it
                weight = ggml.ggml_cont(g.ctx, gaussian(f"weight{i}", weight))
            g.expand(g._multiply(weight, gaussian(f"x{address}", shape), bias=""))
        g.run(inputs)
        self.flops = 2 * sum(math.prod(p.shape) * rows_of(p.weight) for p in products)

    def run(self) -> None:
        """Multiply, without filling the inputs again."""
        status = ggml.ggml_backend_graph_compute(self.g.backend.handle, self.g.graph)
        assert status == ggml.GGML_STATUS_SUCCESS, f"ggml status {status}"


def rows_of(weight: TensorPtr | tuple[int, int]) -> int:
    """Rows of a matrix."""
    return weight[0] if isinstance(weight, tuple) else int(ggml.ggml_nrows(weight))
