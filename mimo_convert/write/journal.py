"""The journal of a `.part` file: what of it is safely on disk, so that an interrupted conversion can be resumed.

A journal is JSON lines. The first is the file's origin; each other line lists chunks that are done. A line is appended
only after its chunks were flushed, and a truncated last line is ignored: after a power loss, everything that the
journal says is true.
"""

import errno
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mimo_convert.files import NO_OTHER, read_bytes
from quantize.errors import InputError

from .origin import Origin, checked_origin

DISK_FAILED = (errno.EIO, errno.ESTALE)
MOST_BYTES = 1 << 24  # of a journal; one of a conversion with the smallest chunks takes less than a megabyte
MOST_CHUNKS = 1 << 24  # of a file: of 2 MB each, more than any disk holds


@dataclass
class Journal:
    """The journal of one `.part` file, `length` bytes long without a truncated last line.

    `complete`: all chunks are done, and the files of the run, by name and inode, are being renamed.
    """

    path: Path
    origin: Origin
    done: set[int] = field(default_factory=set)
    complete: Mapping[str, int] = field(default_factory=dict)
    length: int = 0
    state: tuple[int, ...] = field(default=(), compare=False)  # of the file when it was read

    @classmethod
    def read(cls, path: Path) -> "Journal | None":
        """Read the journal at `path`; None if there is no valid one.

        Raises InputError for a disk error: chunks that are done must not be written again because of it.
        """
        journal = None
        with suppress(OSError, ValueError, TypeError, AttributeError, RecursionError):
            if path.is_symlink():
                return None  # of no run's: it is never written through one
            state = state_of(path)
            for line in content_of(path).splitlines(keepends=True):
                if not line.endswith(b"\n"):
                    break
                record = json.loads(line)
                if journal is None:
                    journal = cls(path, checked_origin(record), state=state)
                done, complete = checked_ranges(record.get("done", [])), checked_inodes(record.get("complete", {}))
                for chunks in done:
                    journal.done.update(chunks)
                journal.complete = complete or journal.complete
                journal.length += len(line)
        return journal

    @property
    def is_current(self) -> bool:
        """Whether the file has not changed since it was read."""
        return bool(self.state) and state_of(self.path) == self.state

    def begin(self) -> None:
        """Write the first line, replacing the file."""
        self.length = 0
        self._append(self.origin.record)

    def add(self, chunks: Iterable[int]) -> None:
        """Record chunks as done; they must have been flushed."""
        new = sorted(set(chunks) - self.done)
        if new:
            self._append({"done": ranges(new)})
            self.done.update(new)

    def finish(self, inodes: Mapping[str, int]) -> None:
        """Record that this file and those of `inodes`, by final name, are complete."""
        self._append({"complete": dict(inodes)})

    def remove(self) -> None:
        """Delete the journal."""
        with suppress(FileNotFoundError):
            self.path.unlink()

    def _append(self, record: Mapping[str, Any]) -> None:
        """Append a line after the last complete one, and flush it."""
        line = json.dumps(record).encode() + b"\n"
        fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | NO_OTHER, 0o644)
        try:
            os.ftruncate(fd, self.length)
            if os.pwrite(fd, line, self.length) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(fd)
        finally:
            os.close(fd)
        self.length += len(line)


def state_of(path: Path) -> tuple[int, ...]:
    """A value that changes when a file is written or replaced; empty if there is none."""
    with suppress(OSError):
        status = os.lstat(path)
        return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    return ()


def content_of(path: Path) -> bytes:
    """The bytes of a journal; empty if there is none. Raises InputError for a disk error."""
    try:
        return read_bytes(path, MOST_BYTES)
    except InputError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in DISK_FAILED:
            raise
        return b""


def checked_ranges(found: Any) -> list[range]:
    """Ranges of chunks as `ranges` writes them. Raises ValueError or TypeError for anything else."""
    checked = [range(begin, end) for begin, end in found]
    if not all(0 <= one.start < one.stop <= MOST_CHUNKS for one in checked):
        raise ValueError
    return checked


def checked_inodes(found: Any) -> dict[str, int]:
    """Inodes by file name. Raises TypeError for anything else."""
    if not isinstance(found, dict) or not all(type(inode) is int for inode in found.values()):
        raise TypeError
    return found


def ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Ascending numbers as half-open ranges [begin, end)."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and found[-1][1] == number:
            found[-1] = (found[-1][0], number + 1)
        else:
            found.append((number, number + 1))
    return found
