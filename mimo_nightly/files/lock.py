"""A lock that the system releases when its process ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mimo_convert.own_files import open_own
from mimo_nightly.show.figures import printable_line
from quantize.errors import InputError

BEGIN = "process "  # of what a lock's file holds
LONGEST = 200  # bytes of it


@contextmanager
def locked(path: Path, since: str) -> Iterator[None]:
    """Hold the lock on `path`, in a file beside it, which stays. Raises InputError if another process holds it.

    `since` is the time that others are shown.
    """
    lock = path.with_name(path.name + ".lock")
    with cannot_be_written(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = open_own(lock, os.O_RDWR | os.O_CREAT, "r+b")
    with file:
        with cannot_be_written(lock):
            found = file.read(LONGEST)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = printable_line(found.decode(errors="replace")) if is_ours(found) else "another process"
                raise InputError(path, f"is in use by {holder}", todo="wait until that is done") from error
            if not is_ours(found):
                raise InputError(lock, "holds something else", expected="a lock of a nightly run", todo="move it away")
            file.seek(0)
            file.truncate(0)
            file.write(f"{BEGIN}{os.getpid()} since {since}\n".encode())
            file.flush()
        yield


def is_ours(found: bytes) -> bool:
    """Whether a lock file is empty or was written here."""
    return not found or found.startswith(BEGIN.encode())


@contextmanager
def cannot_be_written(lock: Path) -> Iterator[None]:
    """Turn OSErrors into InputErrors about the lock file."""
    try:
        yield
    except OSError as error:
        raise InputError(lock, f"cannot be written: {error.strerror}", todo="make room, or another folder") from error
