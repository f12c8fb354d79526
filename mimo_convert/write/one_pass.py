"""One pass over a model: one thread reads chunks in order, others process them in any order."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from mimo_convert.disk import forget
from mimo_convert.sources.shards import LocalShards
from quantize.kernels import Bytes

from .chunks import Chunk
from .shard_hashes import ShardHashes

FORGET_BYTES = 1 << 24  # read before the system is asked to forget them
LATE_HASHES = 8  # chunks that are done and may wait for their hashing, of which one thread does the oldest first


def one_pass(
    work: Callable[[Chunk, Bytes], Any],
    chunks: Sequence[Chunk],
    shards: LocalShards,
    threads: int,
    hashes: ShardHashes | None = None,
) -> Generator[tuple[Chunk, Any], None, None]:
    """Read every chunk and yield it with the result of `work(chunk, rows)`, in order of completion.

    The rows, (n, row bytes) uint8 as stored, are valid only during the call. After close or an error no thread is
    running. `hashes` gets all that is read.
    """
    buffers = Buffers()

    def job(read: Read) -> tuple[Read, Any]:
        return read, work(read.chunk, read.rows)

    with closing(over_threads(job, read(chunks, shards, buffers, hashes), threads)) as done:
        for read_before, result in when_hashed(done):
            buffers.give_back(read_before.rows)
            yield read_before.chunk, result


class Read(NamedTuple):
    """A chunk with its rows as stored, and the future of their hashing, if they are hashed."""

    chunk: Chunk
    rows: Bytes
    hashed: Future[None] | None

    @property
    def is_hashed(self) -> bool:
        """Whether the rows need not be kept for their hash."""
        return self.hashed is None or self.hashed.done()


def when_hashed(done: Iterable[tuple[Read, Any]]) -> Iterator[tuple[Read, Any]]:
    """Yield what is done when its rows are hashed, too: they, and the file, are used up only then."""
    waiting: deque[tuple[Read, Any]] = deque()
    for one in done:
        waiting.append(one)
        while waiting and (len(waiting) > LATE_HASHES or waiting[0][0].is_hashed):
            yield hashed(*waiting.popleft())
    for one in waiting:
        yield hashed(*one)


def hashed(read: Read, result: Any) -> tuple[Read, Any]:
    """The same, hashed. Raises what the hashing does."""
    if read.hashed:
        read.hashed.result()
    return read, result


class Buffers:
    """Reusable buffers for rows: fresh pages would cost more time than reading into them."""

    def __init__(self) -> None:
        self.free: list[Bytes] = []

    def take(self, nbytes: int) -> Bytes:
        """A flat buffer of at least `nbytes` bytes."""
        buffer = self.free.pop() if self.free else np.empty(0, np.uint8)
        return buffer if buffer.nbytes >= nbytes else np.empty(nbytes, np.uint8)

    def give_back(self, rows: Bytes) -> None:
        """Return the buffer of rows that are used up."""
        assert isinstance(rows.base, np.ndarray)
        self.free.append(rows.base)


def read(chunks: Sequence[Chunk], shards: LocalShards, buffers: Buffers, hashes: ShardHashes | None) -> Iterator[Read]:
    """Read each chunk's rows; waits for files that are being downloaded."""
    for chunk in chunks:
        if not chunk.source.is_stored:
            rows = chunk.source.read(chunk.first, chunk.n, buffers.take(chunk.n * chunk.source.row_bytes))
            yield Read(chunk, rows, None)
    stored = [chunk for chunk in chunks if chunk.source.is_stored]
    shards.expect(list(dict.fromkeys(chunk.source.file for chunk in stored)))
    for file, group in groupby(stored, key=lambda chunk: chunk.source.file):
        shards.fetch(file)
        forgotten = 0
        its_chunks = list(group)
        for chunk in its_chunks:
            nbytes = chunk.n * chunk.source.row_bytes
            rows = chunk.source.read(chunk.first, chunk.n, buffers.take(nbytes))
            begin = chunk.source.begin + chunk.first * chunk.source.row_bytes
            hashed = hashes.add(file, begin, rows, last=chunk is its_chunks[-1]) if hashes else None
            yield Read(chunk, rows, hashed)
            end = begin + nbytes
            if end - forgotten >= FORGET_BYTES:
                forget(file, end)
                forgotten = end


def over_threads(work: Callable[[Any], Any], jobs: Iterator[Any], threads: int) -> Generator[Any, None, None]:
    """Run `work` on jobs in a thread pool and yield results in order of completion; at most two jobs per thread are in
    flight, and the first error cancels the rest."""
    with ThreadPoolExecutor(threads) as pool:
        pending: set[Future[Any]] = set()
        try:
            for job in jobs:
                pending.add(pool.submit(work, job))
                if len(pending) >= 2 * threads:
                    done, pending = wait(pending, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            yield from (future.result() for future in pending)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
