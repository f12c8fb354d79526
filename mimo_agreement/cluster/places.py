"""Files of a machine in a cluster, found by their SHA-256 alone: in folders that its operator allows, or in its cache,
where those lie that were sent."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from mimo_convert.disk import free_bytes, sha256_of
from mimo_convert.files import input_errors, write_whole
from mimo_convert.numbers_text import size
from mimo_convert.own_files import open_own
from mimo_convert.sources.shards import LocalShards
from quantize.errors import InputError
from quantize.quoting import quoted

from .datasets import HubDataset

MEMO, PART = ".json", ".part"


class FileFacts(NamedTuple):
    """A file that jobs are about: its name, for messages, and its bytes."""

    name: str
    bytes: int


@dataclass
class HashedPlaces:
    """The `files` of a run, by their SHA-256, in the folders `roots`, the folder `cache`, and `datasets` of the Hub,
    from which they are fetched into the cache. What was hashed once is noted there with its state, and hashed again
    when that changes."""

    roots: tuple[Path, ...]
    cache: Path
    files: Mapping[str, FileFacts]
    datasets: tuple[HubDataset, ...] = ()
    _by_size: dict[int, list[Path]] | None = field(default=None, repr=False, compare=False)

    def path(self, sha256: str) -> Path:
        if (path := self.find(sha256)) is None:
            facts = self.files.get(sha256)
            raise InputError(facts.name if facts else sha256, "is not on this machine any more, or has changed")
        return path

    def lacking(self, hashes: Iterable[str]) -> list[str]:
        """Those of the files that are not here, each once."""
        return [sha256 for sha256 in dict.fromkeys(hashes) if self.find(sha256) is None]

    def find(self, sha256: str) -> Path | None:
        """The path of a file; None if it is not here, or is not one of the run's."""
        if sha256 not in self.files:
            return None
        if noted := self._noted(sha256):
            return noted
        for path in self._candidates(sha256):
            with suppress(InputError):  # it went away
                state = LocalShards().state(path)
                if sha256_of(path) == sha256:
                    self._note(sha256, path, state)
                    return path
        return None

    def receive(self, sha256: str, begin: int, data: bytes) -> None:
        """Take the bytes of a file from `begin` on, which come in order; the last of them make it a file of the cache.

        Raises InputError for what is not a file of the run, if the disk has no room for it, and if it has another hash
        in the end.
        """
        facts = self.files.get(sha256)
        if facts is None or begin + len(data) > facts.bytes:
            raise InputError(sha256, "is not a file of this run")
        self.cache.mkdir(parents=True, exist_ok=True)
        if not begin and facts.bytes > (free := free_bytes(self.cache)):
            what = f"has {size(facts.bytes)}, and {quoted(self.cache)} of a worker has room for {size(free)}"
            raise InputError(facts.name, what, todo="have it below a --root of the worker, or give it another --cache")
        part = self.cache / f"{sha256}.{os.getpid()}{PART}"
        flags = os.O_WRONLY | os.O_CREAT | (0 if begin else os.O_TRUNC)
        with input_errors(part, "cannot be written"), open_own(part, flags, "wb") as file:
            file.seek(begin)
            file.write(data)
        if begin + len(data) == facts.bytes:
            if sha256_of(part) != sha256:
                part.unlink(missing_ok=True)
                raise InputError(facts.name, "was changed while it was sent", todo="let nothing write to it")
            part.replace(self.cache / sha256)

    def _noted(self, sha256: str) -> Path | None:
        """A path that had the hash, and has not changed since."""
        with suppress(OSError, ValueError, TypeError, KeyError, InputError):
            memo = json.loads((self.cache / f"{sha256}{MEMO}").read_text("utf-8"))
            path = Path(memo["path"])
            if self._is_allowed(path) and LocalShards().state(path) == memo["state"]:
                return path
        return None

    def _note(self, sha256: str, path: Path, state: str) -> None:
        self.cache.mkdir(parents=True, exist_ok=True)
        write_whole(self.cache / f"{sha256}{MEMO}", json.dumps({"path": str(path), "state": state}).encode())

    def _candidates(self, sha256: str) -> Iterator[Path]:
        """Files that may have the hash: one of the cache, those of the same size, the ones of its name first, and one
        of a dataset."""
        facts = self.files[sha256]
        if (self.cache / sha256).exists():
            yield self.cache / sha256
        yield from sorted(self._of_size(facts.bytes), key=lambda path: (path.name != facts.name, str(path)))
        for dataset in self.datasets:
            if fetched := dataset.fetch(sha256, *facts, self.cache):
                yield fetched

    def _of_size(self, nbytes: int) -> list[Path]:
        """The files of `roots` of that size; they are listed once."""
        if self._by_size is None:
            self._by_size = {}
            wanted = {facts.bytes for facts in self.files.values()}
            for path in (path for root in self.roots for path in files_in(root)):
                with suppress(OSError):
                    if (found := path.stat().st_size) in wanted and self._is_allowed(path):
                        self._by_size.setdefault(found, []).append(path)
        return self._by_size.get(nbytes, [])

    def _is_allowed(self, path: Path) -> bool:
        """Whether a path lies in a root or in the cache, where its links lead, too."""
        real = Path(os.path.realpath(path))
        return any(real.is_relative_to(os.path.realpath(folder)) for folder in (*self.roots, self.cache))


def files_in(root: Path) -> Iterator[Path]:
    """Every file below a folder; links to folders are not followed."""
    for folder, _, names in os.walk(root):
        for name in names:
            yield Path(folder, name)
