"""Files that only this tool writes: never opened through a symbolic link, which another user may have placed."""

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from quantize.errors import InputError

from .files import NO_OTHER, check_regular, input_errors, kind_of

OURS = "a regular file that only mimo-convert writes"


def open_own(path: Path, flags: int, mode: str) -> BinaryIO:
    """Open a file that only this tool writes, with the `flags` of `os.open`, as a stream of that `mode`.

    Raises InputError if it is not a regular file, such as a symbolic link; OSError if it cannot be opened.
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
    """Create an empty file for writing; an existing one is unlinked first, a symbolic link without following it."""
    with suppress(FileNotFoundError):
        path.unlink()
    return open_own(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, "wb")


def read_own(path: Path, most: int) -> bytes:
    """Read such a file. Raises InputError if it does not exist or exceeds `most` bytes."""
    with input_errors(path, "cannot be read"), open_own(path, os.O_RDONLY, "rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise InputError(path, f"has more than {most:,} bytes")
    return data


def check_own(path: Path) -> None:
    """Raise InputError if `path` exists and is not a regular file."""
    with suppress(FileNotFoundError):
        mode = path.lstat().st_mode
        if not stat.S_ISREG(mode):
            raise InputError(path, f"is {kind_of(mode)}", expected=OURS, todo="delete it")
