"""Files as nightly runs open them: those that others give are regular ones of a bounded size; those that only nightly
runs write are never reached through a symbolic link, which somebody may have put there."""

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from quantize.errors import InputError

KINDS = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device", stat.S_IFLNK: "a symbolic link",
}  # fmt: skip
QUIETLY = os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY  # a pipe does not wait for its other end, a terminal is not taken


def open_given(path: Path, expected: str) -> BinaryIO:
    """A regular file to read. Raises InputError for anything else, without waiting for it; OSError if there is none."""
    descriptor = os.open(path, os.O_RDONLY | QUIETLY)
    try:
        check_regular(path, descriptor, expected)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_given(path: Path, most: int, expected: str) -> bytes:
    """A regular file of at most so many bytes, whole. Raises InputError for anything else, without waiting for it."""
    try:
        with open_given(path, expected) as file:
            data = file.read(most + 1)
    except (OSError, ValueError) as error:  # ValueError: a name with a null byte
        raise InputError(path, f"cannot be read: {reason(error)}", expected=expected) from error
    if len(data) > most:
        raise InputError(path, f"has more than {most:,} bytes", expected=expected)
    return data


def open_own(path: Path, flags: int, mode: str) -> BinaryIO:
    """Open a file that only nightly runs write, as `os.open` does with `flags`, as a stream of that `mode`.

    Raises InputError if something else is there, such as a symbolic link; OSError, with the name, if it cannot be.
    """
    if path.is_symlink():
        raise not_ours(path, stat.S_IFLNK)
    descriptor = os.open(path, flags | os.O_NOFOLLOW | QUIETLY, 0o666)
    try:
        check_regular(path, descriptor, "a file that only nightly runs write")
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
    try:
        with open_own(path, os.O_RDONLY, "rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise InputError(path, f"cannot be read: {reason(error)}") from error
    if len(data) > most:
        raise InputError(path, f"has more than {most:,} bytes")
    return data


def check_regular(path: Path, descriptor: int, expected: str) -> None:
    """Raises InputError if what was opened is not a regular file."""
    kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
    if kind != stat.S_IFREG:
        raise InputError(path, f"is {KINDS.get(kind, 'not a regular file')}", expected=expected)


def check_own(path: Path) -> None:
    """Raises InputError if there is something at `path` that is not a regular file; it may be that there is nothing."""
    with suppress(FileNotFoundError):
        kind = stat.S_IFMT(path.lstat().st_mode)
        if kind != stat.S_IFREG:
            raise not_ours(path, kind)


def not_ours(path: Path, kind: int) -> InputError:
    return InputError(
        path, f"is {KINDS.get(kind, 'not a regular file')}", expected="a file that only nightly runs write",
        todo="delete it",
    )  # fmt: skip


def reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
