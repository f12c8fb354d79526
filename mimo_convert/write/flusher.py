"""Flush written data, then journals, in a background thread."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from mimo_convert.sources.shards import LocalShards

from .chunks import Chunk
from .part_file import PartFile

FLUSH_BYTES = 1 << 25  # written before the next flush begins: what a killed run does again, and an interrupt waits for


class Flusher:
    """Flushes what was written to disk and then records it in the journals, in a background thread.

    `uses` counts the chunks of each source file; a file without remaining chunks is released.
    """

    def __init__(self, parts: Sequence[PartFile], shards: LocalShards, uses: Counter[Path]) -> None:
        self.parts, self.shards, self.uses = parts, shards, uses
        self.pool = ThreadPoolExecutor(1)
        self.running: Future[None] | None = None
        self.written: list[Chunk] = []
        self.nbytes = 0

    def __enter__(self) -> "Flusher":
        self._release()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._start()
                self._wait()
        finally:
            self.pool.shutdown()

    def add(self, chunk: Chunk, nbytes: int) -> None:
        """Record a written chunk. When this returns, at most about 2 × FLUSH_BYTES are not flushed."""
        self.written.append(chunk)
        self.nbytes += nbytes
        if self.nbytes >= FLUSH_BYTES:
            self._start()

    def _start(self) -> None:
        self._wait()
        self.running = self.pool.submit(self._flush, self.written)
        self.written, self.nbytes = [], 0

    def _wait(self) -> None:
        if self.running:
            self.running.result()

    def _flush(self, written: list[Chunk]) -> None:
        for part in self.parts:
            part.flush([chunk.number for chunk in written])
        self.uses.subtract(chunk.source.file for chunk in written if chunk.source.is_stored)
        self._release()

    def _release(self) -> None:
        for file in [file for file, n in self.uses.items() if n == 0]:
            del self.uses[file]
            self.shards.release(file)
