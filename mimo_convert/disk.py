"""Disk operations: free space, preallocation, flushing, hashing, and dropping pages from the page cache."""

import errno
import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from .files import input_errors, open_regular
from .listener import advance, phase

HASH_BLOCK = 1 << 24  # bytes read at once


def nearest(folder: Path) -> Path:
    """The folder itself, or its nearest existing ancestor, which is on the same disk."""
    while not os.path.exists(folder):
        folder = folder.resolve().parent
    return folder


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk of `folder`, which need not exist yet."""
    status = os.statvfs(nearest(folder))
    return status.f_bavail * status.f_frsize


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal. Raises InputError if it cannot be read."""
    with (
        open_regular(path) as file,
        input_errors(path, "cannot be read"),
        phase(f"hashing {path.name}", os.fstat(file.fileno()).st_size),
    ):
        return sha256_of_open(file)


def sha256_of_open(file: BinaryIO) -> str:
    """The sha256 of a whole open file, in hexadecimal."""
    digest = hashlib.sha256()
    file.seek(0)
    while block := file.read(HASH_BLOCK):
        digest.update(block)
        advance(len(block))
    return digest.hexdigest()


def flush_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, so that renames survive a power loss. Raises InputError."""
    with input_errors(folder, "cannot be written"):
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        except OSError as error:
            if error.errno != errno.EINVAL:  # some network file systems cannot
                raise
        finally:
            os.close(fd)


def reserve(fd: int, size: int) -> None:
    """Preallocate `size` bytes for a file, so that a disk that is too small fails at once."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(fd, 0, size)
            return
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # a file system that cannot
                raise
    os.ftruncate(fd, size)


def forget(file: Path, end: int) -> None:
    """Drop the first `end` bytes of a file from the page cache (POSIX_FADV_DONTNEED).

    A checkpoint is read once and exceeds most machines' memory; reclaiming its pages one by one took a third of the
    time of a conversion to Q8_0.
    """
    with suppress(OSError):
        fd = os.open(file, os.O_RDONLY)
        try:
            forget_open(fd, end)
        finally:
            os.close(fd)


def forget_open(fd: int, end: int) -> None:
    """Drop the first `end` bytes of an open, flushed file from the page cache."""
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):
            os.posix_fadvise(fd, 0, end, os.POSIX_FADV_DONTNEED)
