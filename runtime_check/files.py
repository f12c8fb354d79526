"""Small files, written whole or not at all."""

import os
from contextlib import suppress
from pathlib import Path

from quantize.errors import InputError


def check_can_write(path: Path | None) -> None:
    """Whether the file (None: none is wanted) can be written, asked before long work. Raises InputError."""
    if path is None:
        return
    if path.is_dir() or not path.name:
        raise InputError(path, "is a folder", expected="a file's name")
    if not (path.parent.is_dir() and os.access(path.parent, os.W_OK)):
        raise InputError(path, "cannot be written: its folder is not there, or is closed to you")


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` under a name beside `path`, then give it that name. Raises InputError if it cannot be written."""
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise InputError(path, f"cannot be written: {error.strerror}") from error
