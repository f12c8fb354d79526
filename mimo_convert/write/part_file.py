"""`NAME.part`: an output file in progress, preallocated, with a journal of what is done.

It is renamed when it is complete and flushed. An interrupted run leaves a `.part` that can be resumed; a run that fails
before anything is worth keeping leaves nothing.
"""

import errno
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mimo_convert.disk import flush_folder, forget_open, reserve
from mimo_convert.files import NO_OTHER, kind_of, target_of
from mimo_convert.plan.plan import Plan
from quantize.errors import InputError, WorthlessError, reason_of

from .journal import Journal
from .origin import Origin

try:
    from fcntl import LOCK_EX, LOCK_NB, flock
except ImportError:  # no such system was tried; two runs that write the same file at once are then not noticed
    flock = None  # type: ignore[assignment]

PART, JOURNAL = ".part", ".journal"
MAGIC_BYTES = 4  # "GGUF": written last, so that no reader takes a .part for a file
JOURNAL_ROOM = 1 << 16  # bytes; more than any journal grows to
Tell = Callable[[str], None]


def part_of(target: Path) -> Path:
    """The `.part` path of a file."""
    return target.with_name(target.name + PART)


def journal_of(part: Path) -> Path:
    """The journal path of a `.part`."""
    return part.with_name(part.name + JOURNAL)


def names_of(path: Path) -> tuple[Path, Path, Path]:
    """The final path of a file (links resolved), its `.part` and its journal."""
    target = target_of(path)
    return target, part_of(target), journal_of(part_of(target))


class PartFile:
    """The `.part` of one planned file with the final name `path`; the target of a symbolic link is replaced.

    `found` is its journal as read, perhaps of a run with another origin. As a context manager, it deletes a `.part`
    that is neither finalized nor worth keeping.
    """

    def __init__(self, path: Path, plan: Plan, origin: Origin, found: Journal | None) -> None:
        self.plan, self.origin, self.found = plan, origin, found
        self.path, self.part, journal = names_of(path)
        self.journal = Journal(journal, origin)
        self.journal = self._earlier() or self.journal  # not to be lost, even if this run ends before it opens it
        self.fd: int | None = None
        self.opening = self.locked = False
        self.finalized = self.made = False
        self.hashes: Mapping[str, str] = {}  # of the files that it is made of, when they are known

    def __enter__(self) -> "PartFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        worthless = not self.journal.done or (kind is not None and issubclass(kind, WorthlessError))
        if worthless:
            self.discard()
        self.close()

    @property
    def room(self) -> int:
        """Bytes of disk space that the file still needs."""
        if self.finalized:
            return 0
        with suppress(OSError):
            return max(0, self.plan.size - os.stat(self.part).st_blocks * 512) + JOURNAL_ROOM
        return self.plan.size + JOURNAL_ROOM

    def complete(self) -> Mapping[str, int]:
        """Inodes of the run's files by name, if an earlier run had completed them all."""
        return self.found.complete if self.found and self.found.origin == self.origin else {}

    @property
    def inode(self) -> int:
        """The inode of the file, under whatever name."""
        return os.fstat(self.fd).st_ino if self.fd is not None else os.stat(self.path).st_ino

    def open(self, tell: Tell) -> None:
        """Resume an earlier run of the same origin, or begin; `tell` gets a line about it.

        Raises InputError if another process is writing the file, or the disk fails.
        """
        self.opening = True
        self.fd = self._try(os.open, self.part, os.O_RDWR | os.O_CREAT | NO_OTHER, 0o644)
        self._check_is_a_part()
        self._lock()
        self.locked = True
        self._read_again()
        if earlier := self._earlier():
            self.journal = earlier
            if earlier.done:
                tell(f"{self.part}: resuming where an earlier run stopped")
            return
        if found := self.found:
            reason = found.origin.difference(self.origin)
            tell(f"{self.part}: was begun {reason}: starting over" if reason else f"{self.part}: starting over")
        self._begin()

    def write(self, data: Any, offset: int) -> None:
        """Write a buffer at an offset; thread-safe."""
        view = memoryview(data).cast("B")
        while view:
            written = self._try(os.pwrite, self.fd, view, offset)
            view, offset = view[written:], offset + written

    def flush(self, chunks: Sequence[int]) -> None:
        """Flush everything written so far, then record `chunks` in the journal."""
        assert self.fd is not None
        self._try(getattr(os, "fdatasync", os.fsync), self.fd)
        forget_open(self.fd, self.plan.size)
        self._try(self.journal.add, chunks)

    def complete_header(self) -> None:
        """Write the shard hashes and the magic number, which makes it a GGUF file; all else is flushed before."""
        if self.hashes:
            offset, text = self.plan.hashes_in_header(self.hashes)
            self.write(text, offset)
            self.flush([])
        self.write(self.plan.header[:MAGIC_BYTES], 0)
        self.flush([])

    def finish(self, inodes: Mapping[str, int]) -> None:
        """Record in the journal that all files of the run are complete."""
        self._try(self.journal.finish, inodes)

    def finalize(self) -> None:
        """Rename the file to its final name."""
        self._try(os.replace, self.part, self.path)
        self.finalized = True

    def supersede(self) -> None:
        """Take the file under the final name in place of this one; a `.part` that an earlier run of the same origin
        left beside it is deleted. Raises InputError if another run is writing that."""
        if self.found and self.found.origin == self.origin:
            if os.path.lexists(self.part):
                self.open(lambda line: None)
                self.discard()
            else:
                self.journal.remove()
        self.finalized = self.made = True

    def discard(self) -> None:
        """Close and delete the `.part` and its journal, unless it is finalized or another run's."""
        if not self.finalized and self._is_ours():
            self.journal.remove()
            self.journal.done.clear()
            with suppress(OSError):
                self.part.unlink()
        self.close()

    def close(self) -> None:
        """Close the file and release its lock."""
        fd, self.fd = self.fd, None
        self.opening = self.locked = False
        if fd is not None:
            self._try(os.close, fd)  # a network's disk may say only now that it is full

    def _check_is_a_part(self) -> None:
        """Raise InputError if the path holds something other than a `.part`, which would be overwritten."""
        assert self.fd is not None
        status, begin = os.fstat(self.fd), b""
        if stat.S_ISREG(status.st_mode):
            begin = os.pread(self.fd, MAGIC_BYTES, 0)
        what, path = "", self.part
        if self.journal.path.is_symlink():
            what, path = "is a symbolic link", self.journal.path
        elif not stat.S_ISREG(status.st_mode):
            what = f"is {kind_of(status.st_mode)}"
        elif status.st_nlink > 1:
            what = f"is one of {status.st_nlink} names of a file"
        elif any(begin) and not self._read_again():
            what = "has content, and no journal"
        if what:
            self.close()
            raise InputError(path, what, expected="a file of an earlier run's, or none", todo="move it away")

    def _is_ours(self) -> bool:
        """Whether this process owns the `.part`, also if it was interrupted right after creating it."""
        if self.opening and not self.locked:
            with suppress(OSError, InputError):
                if self.fd is None:
                    self.fd = os.open(self.part, os.O_RDWR | NO_OTHER)
                self._lock()
                return os.fstat(self.fd).st_size == 0
        return self.locked

    def _earlier(self) -> Journal | None:
        """The journal of an earlier run of the same origin, if its `.part` exists."""
        with suppress(OSError):
            if self.found and self.found.origin == self.origin and os.stat(self.part).st_size == self.plan.size:
                return self.found
        return None

    def _read_again(self) -> Journal | None:
        """The journal, read again if another run changed it before the `.part` was locked."""
        if not (self.found.is_current if self.found else not os.path.lexists(self.journal.path)):
            self.found = Journal.read(self.journal.path)
        return self.found

    def _begin(self) -> None:
        self.journal = Journal(self.journal.path, self.origin)
        self._try(self.journal.remove)  # on the disk, too, before a byte of the .part changes
        self._try(flush_folder, self.path.parent)
        self._try(os.ftruncate, self.fd, 0)
        self._try(reserve, self.fd, self.plan.size)
        self.write(self.plan.header[MAGIC_BYTES:], MAGIC_BYTES)
        self.flush([])  # a journal without a chunk says that the header is there
        self._try(self.journal.begin)
        self._try(flush_folder, self.path.parent)

    def _lock(self) -> None:
        if flock is None:
            return
        assert self.fd is not None
        try:
            flock(self.fd, LOCK_EX | LOCK_NB)
        except BlockingIOError as error:
            self.close()
            raise InputError(self.part, "another run is writing it", todo="wait for its end") from error
        except OSError:  # a file system without locks
            return
        if not os.path.exists(self.part) or os.stat(self.part).st_ino != os.fstat(self.fd).st_ino:
            self.close()
            raise InputError(self.part, "another run has just ended", todo="run the command again")

    def _try(self, call: Any, *arguments: Any) -> Any:
        """Call a function; an OSError becomes an InputError with the file's name."""
        try:
            return call(*arguments)
        except OSError as error:
            what = "is a symbolic link" if error.errno == errno.ELOOP else f"cannot be written: {reason_of(error)}"
            raise InputError(error.filename2 or error.filename or self.part, what) from error
