"""Chunks: runs of rows of bounded size, the unit of reading, converting and journaling."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from mimo_convert.formats.tensor import TensorSlice
from mimo_convert.plan.plan import PlannedTensor

CHUNK_WEIGHTS = 1 << 19  # 2 MB as float32: of the size of a core's cache, and large enough to drown the calls' cost


class Chunk(NamedTuple):
    """`n` rows of one source of the plan's tensor number `tensor`, after `n_before` weights of it; those numbered
    `also` have the same sources.

    `number` counts the chunks of a plan; it is the same in all plans of a request.
    """

    number: int
    tensor: int
    source: TensorSlice
    first: int
    n: int
    n_before: int
    also: tuple[int, ...] = ()

    @property
    def tensors(self) -> tuple[int, ...]:
        """The numbers of all tensors that it is a part of."""
        return (self.tensor, *self.also)


def chunks(tensors: Iterable[PlannedTensor]) -> Iterator[Chunk]:
    """Cut the rows of all tensors into chunks, source by source. Tensors of the same sources share their chunks."""
    number = 0
    planned = list(tensors)
    same: dict[tuple[TensorSlice, ...], list[int]] = {}
    for i, tensor in enumerate(planned):
        same.setdefault(tensor.sources, []).append(i)
    for i, *also in same.values():
        tensor, n_before = planned[i], 0
        for source in tensor.sources:
            step = max(1, CHUNK_WEIGHTS // source.row)
            for first in range(0, source.n_rows, step):
                n = min(step, source.n_rows - first)
                yield Chunk(number, i, source, first, n, n_before, tuple(also))
                n_before += n * source.row
                number += 1


def by_place(chunks: Iterable[Chunk]) -> list[Chunk]:
    """Sort chunks by file and offset."""
    return sorted(chunks, key=lambda chunk: (chunk.source.file, chunk.source.begin, chunk.first))
