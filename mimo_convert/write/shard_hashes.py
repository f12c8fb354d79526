"""sha256 of source files, computed from what a conversion reads of them.

Rows arrive in file order; bytes between them (headers, skipped tensors) are read here. One background thread hashes, at
2 GB/s with SHA instructions.
"""

import hashlib
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mimo_convert.sources.shards import LocalShards
from quantize.errors import InputError, WorthlessError
from quantize.kernels import Bytes

BLOCK = 1 << 22  # bytes of what was skipped that are read at once


@dataclass
class Digest:
    """The hash of the first `at` bytes of a file."""

    sha256: Any = field(default_factory=hashlib.sha256)
    at: int = 0


class ShardHashes:
    """The hashes of a conversion's source files. A context manager: no thread runs after it ends."""

    def __init__(self, shards: LocalShards) -> None:
        self.shards = shards
        self.digests: dict[Path, Digest] = {}
        self.pool = ThreadPoolExecutor(1)

    def __enter__(self) -> "ShardHashes":
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown(cancel_futures=True)

    def add(self, file: Path, begin: int, rows: Bytes, *, last: bool) -> "Future[None]":
        """Hash `rows` at offset `begin`, and the rest of the file if they are its `last`.

        The rows and the file must stay until the future is done.
        """
        return self.pool.submit(self._add, file, begin, rows, last)

    def of(self, files: Iterable[Path]) -> dict[str, str]:
        """The sha256 of each file by name; files that were not read to the end are read now.

        Raises WorthlessError for a file that differs from the Hub's.
        """
        return {file.name: self._checked(file, self.pool.submit(self._whole, file).result()) for file in files}

    def sha256(self, file: Path) -> str:
        """The sha256 of a file; the rest of it is read now."""
        return self.pool.submit(self._whole, file).result()

    def _add(self, file: Path, begin: int, rows: Bytes, last: bool) -> None:
        digest = self.digests.setdefault(file, Digest())
        self._read_to(file, digest, begin)
        digest.sha256.update(rows)
        digest.at += rows.nbytes
        if last:
            self._read_to(file, digest, self.shards.size(file))

    def _whole(self, file: Path) -> str:
        """The hash of a whole file; of one that was released and deleted, the Hub's."""
        digest = self.digests.setdefault(file, Digest())
        size = self.shards.size(file)
        if digest.at < size and not self.shards.is_here(file):
            return self.shards.published_sha256(file)
        self._read_to(file, digest, size)
        return str(digest.sha256.hexdigest())

    def _read_to(self, file: Path, digest: Digest, end: int) -> None:
        if digest.at == end:
            return
        try:
            with file.open("rb") as stream:
                stream.seek(digest.at)
                while digest.at < end and (block := stream.read(min(BLOCK, end - digest.at))):
                    digest.sha256.update(block)
                    digest.at += len(block)
        except OSError as error:
            raise InputError(file, f"cannot be read: {error.strerror}") from error

    def _checked(self, file: Path, sha256: str) -> str:
        published = self.shards.published_sha256(file)
        if published and published != sha256:
            raise WorthlessError(
                file, f"has the sha256 {sha256}", expected=f"{published}, by the Hub",
                todo="it was damaged on the way: delete it, and run the command again",
            )  # fmt: skip
        return sha256
