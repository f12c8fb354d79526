"""Chunks: runs of rows of bounded size, the unit of reading, converting and journaling."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from mimo_convert.formats.tensor import TensorSlice
from mimo_convert.plan.plan import PlannedTensor

CHUNK_WEIGHTS = 1 << 19  # 2 MB as float32: of the size of a core's cache, and large enough to drown the calls' cost


class Chunk(NamedTuple):
    """`n` rows of one source of the plan's tensor number `tensor`, after `n_before` weights of it.

    `number` counts the chunks of a plan; it is the same in all plans of a request.
    """

    number: int
    tensor: int
    source: TensorSlice
    first: int
    n: int
    n_before: int


def chunks(tensors: Iterable[PlannedTensor]) -> Iterator[Chunk]:
    """Cut the rows of all tensors into chunks, source by source."""
    number = 0
    for i, tensor in enumerate(tensors):
        n_before = 0
        for source in tensor.sources:
            step = max(1, CHUNK_WEIGHTS // source.row)
            for first in range(0, source.n_rows, step):
                n = min(step, source.n_rows - first)
                yield Chunk(number, i, source, first, n, n_before)
                n_before += n * source.row
                number += 1


def by_place(chunks: Iterable[Chunk]) -> list[Chunk]:
    """Sort chunks by file and offset."""
    return sorted(chunks, key=lambda chunk: (chunk.source.file, chunk.source.begin, chunk.first))
