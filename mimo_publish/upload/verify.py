"""Compare what is on the Hub with what was to be published."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from mimo_convert.sources.hub_listing import HubFile, list_repo, read_range
from quantize.errors import InputError

from .changes import SMALL, LocalFile
from .remote import Remote, read_small


def check_published(remote: Remote, files: Iterable[LocalFile]) -> None:
    """Raise InputError unless each GGUF file is in the repository, with the hash that it was checked with."""
    for file in files:
        there = remote.files.get(file.name)
        where = f"{remote.repo}/{file.name}"
        if there is None:
            raise InputError(where, "is not published", todo="publish it first, without --card-only")
        found = f"has {there.size} bytes" if there.size != file.size else f"has the SHA-256 {sha256_of(remote, there)}"
        expected = f"{file.size} bytes" if there.size != file.size else file.sha256
        if not found.endswith(expected):
            raise InputError(
                where, f"is not the file that was checked: it {found}", expected=expected,
                todo="give a report on the published file, or publish this one without --card-only",
            )  # fmt: skip


def sha256_of(remote: Remote, file: HubFile) -> str:
    """The SHA-256 of a remote file; a small one, which git stores, is read for it."""
    return file.sha256 or hashlib.sha256(read_small(remote, file.name) or b"").hexdigest()


def verify(repo: str, commit: str, files: Iterable[LocalFile], deleted: Sequence[HubFile] = ()) -> list[str]:
    """Verify the files at a commit; returns one sentence per error.

    Sizes and hashes are those the Hub lists. Headers of GGUF files and whole small files are downloaded and compared.
    Raises InputError if something cannot be read.
    """
    with still_published(repo, commit, "could not be verified", "it verifies them"):
        there = list_repo(repo, commit).files
        left = [f"{file.name}: is still in {repo} at {commit[:7]}" for file in deleted if file.name in there]
        found = (problem_with(repo, commit, file, there.get(file.name)) for file in files)
        return [*filter(None, found), *left]


@contextmanager
def still_published(repo: str, commit: str, failed: str, again: str) -> Iterator[None]:
    """Add to an InputError of the block that the files are published nevertheless; `failed` is what was not done, and
    `again` what happens if the command is run once more."""
    try:
        yield
    except InputError as error:
        what = f"the files are published, but {failed}: {error.where}: {error.what}"
        raise InputError(f"{repo}@{commit[:7]}", what, todo=f"run the command again, and {again}") from error


def problem_with(repo: str, commit: str, file: LocalFile, there: HubFile | None) -> str:
    """The error of one file; empty if there is none. Raises InputError if something cannot be read."""
    if there is None:
        return f"{file.name}: is not in {repo} at {commit[:7]}"
    if there.size != file.size:
        return f"{file.name}: has {there.size} bytes in {repo}; expected {file.size}"
    if there.sha256 not in ("", file.sha256):
        return f"{file.name}: has the SHA-256 {there.sha256} in {repo}; expected {file.sha256}"
    try:
        size = file.header_bytes or min(file.size, SMALL)
        return difference(file, read_range(repo, commit, file.name, 0, size), beginning(file, size))
    except InputError as error:
        if error.__cause__:  # the network, or the disk
            raise
        return str(error)  # the Hub sent something else than was asked for


def beginning(file: LocalFile, size: int) -> bytes:
    """The first `size` bytes of a file. Raises InputError if it cannot be read."""
    try:
        with file.path.open("rb") as opened:
            return opened.read(size)
    except OSError as error:
        raise InputError(file.path, f"cannot be read: {error.strerror}") from error


def difference(file: LocalFile, found: bytes, expected: bytes) -> str:
    """Describe the first byte that differs; empty if none does."""
    if found == expected:
        return ""
    both = zip(found, expected, strict=False)
    at = next((i for i, (a, b) in enumerate(both) if a != b), min(len(found), len(expected)))
    return f"{file.name}: byte {at} is {found[at : at + 1].hex()} on the Hub; expected {expected[at : at + 1].hex()}"
