"""Files to publish, as they were when checked, and what each changes in the repository."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mimo_convert import numbers_text
from mimo_convert.sources.hub_listing import HubFile
from quantize.errors import InputError

from .remote import Remote

NEW, REPLACES, UNCHANGED, UNKNOWN = "new", "replaces", "unchanged", "unknown"  # kinds of change
SMALL = 10_000_000  # bytes of a file that is held in memory from the moment it is checked; the Hub's git takes no more


@dataclass(frozen=True)
class LocalFile:
    """A file to publish as `name`, with the `size` and `sha256` it had when checked; `header_bytes` are those before
    the tensor data of a GGUF file, 0 for any other."""

    name: str
    path: Path
    size: int
    sha256: str
    header_bytes: int = 0


@dataclass(frozen=True)
class Change:
    """The change of a file: NEW, REPLACES or UNCHANGED; UNKNOWN if the Hub was not asked."""

    file: LocalFile
    kind: str


def counted(sizes: Sequence[int]) -> str:
    """The number of files with their size together: `3 files, 1.20 GB`."""
    return f"{len(sizes)} {'file' if len(sizes) == 1 else 'files'}, {numbers_text.size(sum(sizes))}"


def compare(remote: Remote, files: Iterable[LocalFile]) -> list[Change]:
    """The change of each file."""
    if not remote.asked:
        return [Change(file, UNKNOWN) for file in files]
    return [Change(file, kind_of_change(file, remote.files.get(file.name))) for file in files]


def kind_of_change(file: LocalFile, there: HubFile | None) -> str:
    """NEW, REPLACES or UNCHANGED."""
    if there is None:
        return NEW
    return UNCHANGED if is_same(file, there) else REPLACES


def is_same(file: LocalFile, there: HubFile) -> bool:
    """Compare size and hash; small files by git's hash."""
    if file.size != there.size:
        return False
    return there.sha256 == file.sha256 if there.sha256 else there.etag == git_blob(file)


def git_blob(file: LocalFile) -> str:
    """The git SHA-1 of a small file (git-hash-object(1))."""
    return hashlib.sha1(b"blob %d\0" % file.size + read(file)).hexdigest()


def read(file: LocalFile) -> bytes:
    """Read a small file. Raises InputError if it has changed."""
    try:
        data = file.path.read_bytes()
    except OSError as error:
        raise InputError(file.path, f"cannot be read: {error.strerror}") from error
    check_hash(file, len(data), hashlib.sha256(data).hexdigest())
    return data


def check_hash(file: LocalFile, size: int, sha256: str) -> None:
    """Raise InputError unless size and sha256 are those of the checked file."""
    if (size, sha256) != (file.size, file.sha256):
        raise InputError(
            file.path, f"has changed since it was checked: {size} bytes with SHA-256 {sha256}",
            expected=f"{file.size} bytes with SHA-256 {file.sha256}", todo="run the command again",
        )  # fmt: skip


def identity(file: LocalFile) -> tuple[int, ...]:
    """A value that changes with the file."""
    try:
        status = file.path.stat()
    except OSError as error:
        raise InputError(file.path, f"cannot be read: {error.strerror}") from error
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
