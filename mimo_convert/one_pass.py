"""One pass over a model: its chunks are read in order by one thread, and worked on by others, in any order."""

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from quantize.kernels import Bytes

from .disk import forget
from .request import Chunk
from .shard_hashes import ShardHashes
from .shards import LocalShards

FORGET_BYTES = 1 << 24  # read before the system is asked to forget them


def one_pass(
    work: Callable[[Chunk, Bytes], Any],
    chunks: Sequence[Chunk],
    shards: LocalShards,
    threads: int,
    hashes: ShardHashes | None = None,
) -> Generator[tuple[Chunk, Any], None, None]:
    """`work` of each chunk and its rows as stored, which are its own until it returns; with the chunk, as they end.

    When this is closed, or an error ends it, no thread is at work any more. `hashes` is given all that is read.
    """
    buffers = Buffers()

    def job(read: Read) -> tuple[Chunk, Bytes, Any]:
        result = work(read.chunk, read.rows)
        if read.hashed:
            read.hashed.result()  # the rows, and the file, are used up only then
        return read.chunk, read.rows, result

    with closing(over_threads(job, read(chunks, shards, buffers, hashes), threads)) as done:
        for chunk, rows, result in done:
            buffers.give_back(rows)
            yield chunk, result


class Read(NamedTuple):
    """A chunk with its rows as stored, which are being hashed if they are to be."""

    chunk: Chunk
    rows: Bytes
    hashed: Future[None] | None


class Buffers:
    """Memory for rows, used over and over: fresh pages would cost the system more time than reading into them."""

    def __init__(self) -> None:
        self.free: list[Bytes] = []

    def take(self, nbytes: int) -> Bytes:
        """A flat buffer of at least so many bytes."""
        buffer = self.free.pop() if self.free else np.empty(0, np.uint8)
        return buffer if buffer.nbytes >= nbytes else np.empty(nbytes, np.uint8)

    def give_back(self, rows: Bytes) -> None:
        """Rows that were read into a buffer are used up."""
        assert isinstance(rows.base, np.ndarray)
        self.free.append(rows.base)


def read(chunks: Sequence[Chunk], shards: LocalShards, buffers: Buffers, hashes: ShardHashes | None) -> Iterator[Read]:
    """Each chunk with its rows as stored; waits for a file that has yet to arrive."""
    shards.expect(list(dict.fromkeys(chunk.source.file for chunk in chunks)))
    for file, group in groupby(chunks, key=lambda chunk: chunk.source.file):
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
    """`work` of each job, in any order, never more than two jobs a thread in flight; the first error stops the rest."""
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
