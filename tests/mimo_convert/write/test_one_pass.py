"""A chunk is done when its rows are converted and hashed, whichever is later."""

from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mimo_convert.formats.tensor import TensorSlice
from mimo_convert.write.chunks import Chunk
from mimo_convert.write.one_pass import LATE_HASHES, Read, when_hashed
from quantize.errors import InputError
from quantize.types import F32

SOURCE = TensorSlice("weight", Path("model.safetensors"), F32, (1, 1), 0)
ROWS = np.zeros((1, 4), np.uint8)


def reads(n: int, hashes: "dict[int, Future[None]]") -> list[tuple[Read, int]]:
    """Chunks that are converted, with what came of each; those of `hashes` are hashed by these."""
    return [(Read(Chunk(i, 0, SOURCE, 0, 1, 0), ROWS, hashes.get(i)), i) for i in range(n)]


def numbers(done: Iterator[tuple[Read, Any]]) -> list[int]:
    return [result for _, result in done]


def test_what_is_not_hashed_is_done_at_once_and_in_order() -> None:
    assert numbers(when_hashed(reads(30, {}))) == list(range(30))


def test_a_chunk_is_done_only_when_it_is_hashed() -> None:
    late: Future[None] = Future()
    taken: list[int] = []

    def converted() -> Iterator[tuple[Read, int]]:
        for one in reads(5, {2: late}):
            assert 2 not in taken
            yield one
        late.set_result(None)

    for _, result in when_hashed(converted()):
        taken.append(result)
        assert late.done() or result < 2
    assert taken == list(range(5))


def test_few_chunks_wait_for_the_hash_of_another() -> None:
    late: Future[None] = Future()
    given: list[int] = []

    def converted() -> Iterator[tuple[Read, int]]:
        for one in reads(100, {0: late}):
            given.append(one[1])
            if len(given) > LATE_HASHES:
                late.set_result(None) if not late.done() else None
            yield one

    first = next(iter(when_hashed(converted())))
    assert first[1] == 0
    assert len(given) == LATE_HASHES + 1


def test_an_error_of_the_hashing_is_that_of_the_pass() -> None:
    failed: Future[None] = Future()
    failed.set_exception(InputError("model.safetensors", "cannot be read"))
    with pytest.raises(InputError, match="cannot be read"):
        numbers(when_hashed(reads(3, {1: failed})))
