"""What of a `.part` file is safely on the disk, so that a conversion that was killed goes on where it stopped.

A journal is lines of JSON. The first says what the file is being made from; each of the others, which chunks of it are
done. A line is appended only after the chunks it names were flushed, and a last line that was cut short is no line:
whenever the power fails, what the journal says is true.
"""

import errno
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quantize.errors import InputError

from .files import NO_OTHER, read_bytes

DISK_FAILED = (errno.EIO, errno.ESTALE)
MOST_BYTES = 1 << 24  # of a journal; one of a conversion with the smallest chunks takes less than a megabyte
MOST_CHUNKS = 1 << 24  # of a file: of 2 MB each, more than any disk holds


@dataclass(frozen=True)
class Origin:
    """What decides every byte of a file: who writes it, from what, and the plan.

    `version`, `checkpoint` and `options` are texts or hashes that differ whenever those do; `peaks` are what was found
    out about weights too large for their type, which the plan follows.
    """

    version: str
    checkpoint: str
    options: str
    peaks: Mapping[str, float]

    def difference(self, other: "Origin") -> str:
        """What of this is not so in `other`, which is now, in words; empty if nothing."""
        words = {
            "version": f"by {self.version}, and this is {other.version}",
            "checkpoint": "from a checkpoint that has changed since",
            "options": "with other options, or from other config or tokenizer files",
        }
        return next((text for part, text in words.items() if getattr(self, part) != getattr(other, part)), "")


@dataclass
class Journal:
    """The journal of one `.part` file, `length` bytes long as far as it is whole.

    `complete`: all chunks are done, and the files of the run, by name and inode, are being given their names.
    """

    path: Path
    origin: Origin
    done: set[int] = field(default_factory=set)
    complete: Mapping[str, int] = field(default_factory=dict)
    length: int = 0

    @classmethod
    def read(cls, path: Path) -> "Journal | None":
        """The journal at `path`, as far as it is whole; None if there is none that makes sense.

        Raises InputError if the disk fails to give it: what it says is done is not to be done again.
        """
        journal = None
        with suppress(OSError, ValueError, TypeError, AttributeError, RecursionError):
            if path.is_symlink():
                return None  # of no run's: it is never written through one
            for line in content_of(path).splitlines(keepends=True):
                if not line.endswith(b"\n"):
                    break
                record = json.loads(line)
                if journal is None:
                    journal = cls(path, checked_origin(record))
                done, complete = checked_ranges(record.get("done", [])), checked_inodes(record.get("complete", {}))
                for chunks in done:
                    journal.done.update(chunks)
                journal.complete = complete or journal.complete
                journal.length += len(line)
        return journal

    def begin(self) -> None:
        """Write the first line, in place of whatever was there."""
        self.length = 0
        self._append(vars(self.origin))

    def add(self, chunks: Iterable[int]) -> None:
        """Say that these chunks are done. They must be on the disk."""
        new = sorted(set(chunks) - self.done)
        if new:
            self._append({"done": ranges(new)})
            self.done.update(new)

    def finish(self, inodes: Mapping[str, int]) -> None:
        """Say that all is done, here and in the other files of the run, which will have the names of `inodes`."""
        self._append({"complete": dict(inodes)})

    def remove(self) -> None:
        """There is no journal any more."""
        with suppress(FileNotFoundError):
            self.path.unlink()

    def _append(self, record: Mapping[str, Any]) -> None:
        """Write a line behind what is whole, and see it onto the disk."""
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


def content_of(path: Path) -> bytes:
    """All of a journal; nothing if there is none. Raises InputError if the disk fails."""
    try:
        return read_bytes(path, MOST_BYTES)
    except InputError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in DISK_FAILED:
            raise
        return b""


def checked_origin(record: Mapping[str, Any]) -> Origin:
    """The first line's record. Raises ValueError or TypeError for any other."""
    origin = Origin(**record)
    texts = (origin.version, origin.checkpoint, origin.options)
    if not all(isinstance(text, str) for text in texts) or not isinstance(origin.peaks, dict):
        raise TypeError
    if not all(isinstance(peak, float) for peak in origin.peaks.values()):
        raise TypeError
    return origin


def checked_ranges(found: Any) -> list[range]:
    """Ranges of chunks as `ranges` gives them. Raises ValueError or TypeError for anything else."""
    checked = [range(begin, end) for begin, end in found]
    if not all(0 <= one.start < one.stop <= MOST_CHUNKS for one in checked):
        raise ValueError
    return checked


def checked_inodes(found: Any) -> dict[str, int]:
    """Files by name and inode. Raises TypeError for anything else."""
    if not isinstance(found, dict) or not all(type(inode) is int for inode in found.values()):
        raise TypeError
    return found


def ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Ascending numbers as ranges [begin, end)."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and found[-1][1] == number:
            found[-1] = (found[-1][0], number + 1)
        else:
            found.append((number, number + 1))
    return found
