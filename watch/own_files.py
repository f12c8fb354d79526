"""Files that only nightly runs write: never reached through a symbolic link, which somebody may have put there."""

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from mimo_convert.files import NO_OTHER, check_regular, input_errors, kind_of
from quantize.errors import InputError

OURS = "a file that only nightly runs write"


def open_own(path: Path, flags: int, mode: str) -> BinaryIO:
    """Open a file that only nightly runs write, as `os.open` does with `flags`, as a stream of that `mode`.

    Raises InputError if something else is there, such as a symbolic link; OSError, with the name, if it cannot be.
    """
    check_own(path)
    descriptor = os.open(path, flags | NO_OTHER | os.O_NOCTTY, 0o666)
    try:
        check_regular(path, os.fstat(descriptor).st_mode, OURS)
        return os.fdopen(descriptor, mode)  # type: ignore[return-value]
    except BaseException:
        os.close(descriptor)
        raise


def create_own(path: Path) -> BinaryIO:
    """A new, empty file to write to; one that is there is deleted before: of a link the name, not what it leads to."""
    with suppress(FileNotFoundError):
        path.unlink()
    return open_own(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, "wb")


def read_own(path: Path, most: int) -> bytes:
    """The content of such a file. Raises InputError if it is not there, or longer than so many bytes."""
    with input_errors(path, "cannot be read"), open_own(path, os.O_RDONLY, "rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise InputError(path, f"has more than {most:,} bytes")
    return data


def check_own(path: Path) -> None:
    """Raises InputError if there is something at `path` that is not a regular file; it may be that there is nothing."""
    with suppress(FileNotFoundError):
        mode = path.lstat().st_mode
        if not stat.S_ISREG(mode):
            raise InputError(path, f"is {kind_of(mode)}", expected=OURS, todo="delete it")
