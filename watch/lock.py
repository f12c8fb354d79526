"""One run at a time: a lock that the system lets go of when the process that holds it ends, however it ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from quantize.errors import InputError


@contextmanager
def locked(path: Path, since: str) -> Iterator[None]:
    """Hold the lock on `path`, in a file beside it, which stays. Raises InputError if another process has it.

    `since` is the time that the other is told.
    """
    lock = path.with_name(path.name + ".lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("a+", encoding="utf-8")
    except OSError as error:
        raise InputError(lock, f"cannot be written: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise InputError(path, f"is in use by {holder}", todo="wait until that is done") from error
        file.truncate(0)
        file.write(f"process {os.getpid()} since {since}\n")
        file.flush()
        yield
