"""Open, read and replace small files: regular files are read whole and bounded, and replaced atomically.

A path is checked before it is opened: a FIFO without a writer would block, a device may never end, and a name can be a
link to another user's file.
"""

import os
import secrets
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from quantize.errors import InputError, reason_of
from quantize.quoting import quoted

MB = 1 << 20
MOST_NEIGHBOURS = 1000  # names of a folder that are compared with one that is not there
ALIKE = 0.8  # of two names, by `difflib`: one may be meant by the other
MOST_JSON_BYTES = 32 * MB  # of any JSON file of a checkpoint; the largest published, a tokenizer.json, has 11 MB
KINDS = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device", stat.S_IFSOCK: "a socket", stat.S_IFLNK: "a symbolic link",
}  # fmt: skip
STREAM = Path("-")  # standard input, or output
STREAMS = (stat.S_IFIFO, stat.S_IFCHR)  # what can be written to as it is
NO_OTHER = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # no link's target, no waiting for a pipe
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_OTHER


def kind_of(mode: int) -> str:
    """The kind of a file that is not regular, by its `st_mode`, as text."""
    return KINDS.get(stat.S_IFMT(mode), "not a regular file")


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────


def open_regular(path: Path, *, expected: str = "a regular file", todo: str = "") -> BinaryIO:
    """Open a regular file for reading, following links. Raises InputError for any other kind, without blocking."""
    with input_errors(path, "cannot be read", expected=expected, todo=todo):
        check_regular(path, os.stat(path).st_mode, expected)  # before it is opened: to open a device can be to use it
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        stream = os.fdopen(fd, "rb")
        try:
            check_regular(path, os.fstat(fd).st_mode, expected)
        except InputError:
            stream.close()
            raise
        return stream


def check_regular(path: Path, mode: int, expected: str = "a regular file") -> None:
    """Raise InputError unless `mode` is that of a regular file."""
    if not stat.S_ISREG(mode):
        raise InputError(path, f"is {kind_of(mode)}", expected=expected)


def read_bytes(path: Path, most: int, *, expected: str = "a regular file", todo: str = "") -> bytes:
    """Read a regular file, or standard input, of at most `most` bytes. Raises InputError for a larger file, or one of
    another kind."""
    if path == STREAM:
        data = sys.stdin.buffer.read(most + 1)
    else:
        with open_regular(path, expected=expected, todo=todo) as stream, input_errors(path, "cannot be read"):
            data = stream.read(most + 1)
    if len(data) > most:
        raise InputError(path, f"has more than {most:,} bytes", expected=expected, todo=todo)
    return data


def read_text(path: Path, most: int, *, expected: str = "a text file", todo: str = "", bom: bool = False) -> str:
    """Read a UTF-8 file of at most `most` bytes; with `bom`, a byte order mark is removed. Raises InputError."""
    data = read_bytes(path, most, expected=expected, todo=todo)
    try:
        return data.decode("utf-8-sig" if bom else "utf-8")
    except UnicodeDecodeError as error:
        raise InputError(path, f"is not UTF-8: byte {error.start}", expected=expected, todo=todo) from error


@contextmanager
def input_errors(path: Path, what: str, **more: str) -> Iterator[None]:
    """Turn OSErrors of the block into an InputError about `path`."""
    try:
        yield
    except FileNotFoundError as error:
        if path == STREAM:
            more["todo"] = "save it as a file first"
            raise InputError(path, "is standard input, which can only be read once and in order", **more) from error
        raise InputError(path, "no such file", **{"todo": did_you_mean(str(path)), **more}) from error
    except OSError as error:
        raise InputError(path, f"{what}: {reason_of(error)}", **more) from error
    except ValueError as error:  # a path with a NUL in it
        raise InputError(path, f"{what}: {error}", **more) from error


def did_you_mean(path: str, others: Iterable[str] = ()) -> str:
    """What may have been meant by the path of something that is not there: of the files beside it, or `others`; empty
    if no name is alike."""
    head, tail = os.path.split(path)
    names = list(others)
    with suppress(OSError, ValueError), os.scandir(head or ".") as entries:
        names += [entry.name for entry in islice(entries, MOST_NEIGHBOURS)]
    near = get_close_matches(tail[:100], names, 1, ALIKE)
    return f"did you mean {quoted(os.path.join(head, near[0]))}?" if near else ""


# ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────


def target_of(path: Path) -> Path:
    """The file that is replaced by writing to `path`: the target of a symbolic link, so that the link stays.

    Raises InputError for a link that leads to itself.
    """
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise InputError(path, "is a symbolic link that leads to itself", todo="remove it, or give another name")
    return target


def is_stream(path: Path) -> bool:
    """Whether a path is written in place: stdout, a pipe, a character device, or the file that stdout or stderr go
    to."""
    if path == STREAM:
        return True
    with suppress(OSError, ValueError):
        status = os.stat(path)
        return stat.S_IFMT(status.st_mode) in STREAMS or descriptor_of(status) is not None
    return False


def descriptor_of(status: os.stat_result) -> int | None:
    """The one of stdout and stderr that goes to this file; None if neither does."""
    for fd in (1, 2):
        with suppress(OSError):
            if os.path.samestat(os.fstat(fd), status):
                return fd
    return None


def check_can_write(path: Path | None) -> None:
    """Raise InputError if the file cannot be written; called before long work. `path` None: nothing is to be written.

    Regular files are replaced, pipes and character devices written in place; other kinds are rejected.
    """
    if path is None:
        return
    with input_errors(path, "cannot be written"):
        mode = os.stat(path).st_mode if os.path.exists(path) else stat.S_IFREG
        if stat.S_ISDIR(mode) or not path.name:
            raise InputError(path, "is a folder", expected="a file's name")
        if not is_stream(path):
            check_regular(path, mode, "the name of a regular file, or of none")
            folder = target_of(path).parent
            if not (folder.is_dir() and os.access(folder, os.W_OK)):
                raise InputError(path, "cannot be written: its folder does not exist or is not writable")


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A stream whose content replaces the file `path` atomically when the block ends, flushed.

    The target of a symbolic link is replaced; a pipe or device is written in place. Raises InputError.
    """
    check_can_write(path)
    with input_errors(path, "cannot be written"):
        if is_stream(path):
            with open_stream(path) as stream:
                yield stream
            return
        target = target_of(path)
        temporary = target.with_name(f".{secrets.token_hex(8)}.part")
        try:
            with os.fdopen(os.open(temporary, NEW, 0o666), "wb") as stream:
                yield stream
                stream.flush()
                with suppress(FileNotFoundError):
                    os.fchmod(stream.fileno(), stat.S_IMODE(os.stat(target).st_mode))
                os.fsync(stream.fileno())
            os.replace(temporary, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise


def open_stream(path: Path) -> BinaryIO:
    """Open a stream (`is_stream`) for writing. A pipe without a reader raises OSError rather than block."""
    fd = sys.stdout.fileno() if path == STREAM else descriptor_of(os.stat(path))
    if fd is not None:
        (sys.stderr if fd == sys.stderr.fileno() else sys.stdout).flush()
        return os.fdopen(os.dup(fd), "wb")
    fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    os.set_blocking(fd, True)
    return os.fdopen(fd, "wb")


def write_whole(path: Path, data: bytes | memoryview) -> None:
    """Write `data` to the file `path` atomically. Raises InputError if it cannot be written."""
    with replacing(path) as stream:
        stream.write(data)
