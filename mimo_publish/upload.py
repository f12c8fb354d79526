"""Upload to a repository of the Hub: its state, the changes, one commit, and verification of the result.

The token is the one that `huggingface_hub` finds, in HF_TOKEN or from `hf auth login`.
"""

import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
    validate_repo_id,
)

from mimo_convert import numbers_text as page_numbers
from mimo_convert.sources.hub_errors import checked_response, is_of_network, raising_input_error, retry, status_of
from mimo_convert.sources.hub_listing import HubFile, Listing, list_repo, read_range
from quantize.errors import InputError

NEW, REPLACES, UNCHANGED, UNKNOWN = "new", "replaces", "unchanged", "unknown"  # kinds of change
BRANCH = "main"
SMALL = 10_000_000  # bytes of a file that is held in memory from the moment it is checked; the Hub's git takes no more
Tell = Callable[[str], None]


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


@dataclass(frozen=True)
class Remote:
    """The state of the repository OWNER/NAME; `listing` is None if it does not exist, or was not `asked` for."""

    repo: str
    listing: Listing | None
    asked: bool = True

    @property
    def exists(self) -> bool:
        """Whether the repository exists."""
        return self.listing is not None

    @property
    def private(self) -> bool:
        """Whether the repository is private."""
        return self.listing is not None and self.listing.private

    @property
    def head(self) -> str:
        """The last commit, or empty."""
        return self.listing.commit if self.listing else ""

    @property
    def files(self) -> Mapping[str, HubFile]:
        """Its files by path; empty if it does not exist."""
        return self.listing.files if self.listing else {}


# Before the upload.


def look(repo: str) -> Remote:
    """The repository's state, if the user may write to it.

    Raises InputError for an invalid name, a missing or invalid token, or one without rights to it.
    """
    check_name(repo)
    with raising_input_error(repo, "cannot be published to"), checked_response(repo):
        user = retry(lambda: HfApi().whoami())
        check_may_write(repo, user)
        exists = retry(lambda: HfApi().repo_exists(repo))
    return Remote(repo, list_repo(repo, BRANCH) if exists else None)


def check_name(repo: str) -> None:
    """Raise InputError for an invalid repository name."""
    if repo.count("/") != 1:
        raise InputError(repo, "is not a repository's name", expected="OWNER/NAME")
    with raising_input_error(repo, "cannot be published to"):
        validate_repo_id(repo)


def check_may_write(repo: str, user: Mapping[str, Any]) -> None:
    """Raise InputError unless the repository is the user's or an organization's, and the token may write.

    `user` is the Hub's record of the token's owner. Fine-grained tokens are checked by the Hub at the first write.
    """
    role = ((user.get("auth") or {}).get("accessToken") or {}).get("role")
    if role not in ("read", "write"):
        return
    owners = [str(user.get("name", "")), *(str(one.get("name", "")) for one in user.get("orgs") or [])]
    owner = repo.split("/")[0]
    if owner.casefold() not in map(str.casefold, owners):
        raise InputError(
            repo, f"{owners[0]}'s token may not write under the name {owner}", expected=" or ".join(owners)
        )
    if role == "read":
        raise InputError(repo, "the token is for reading alone", todo="make one that may write, and log in with it")


def check_visibility(remote: Remote, private: bool) -> None:
    """Raise InputError if private files would become public."""
    if private and remote.exists and not remote.private:
        raise InputError(
            remote.repo, "--private was given, and the repository is public",
            todo="make it private in its settings, or leave out --private",
        )  # fmt: skip


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


def read_small(remote: Remote, name: str) -> bytes | None:
    """The content of a small remote file; None if there is none."""
    file = remote.files.get(name)
    return read_range(remote.repo, remote.head, name, 0, file.size) if file else None


# The upload.


def upload(remote: Remote, changes: Sequence[Change], message: str, private: bool, tell: Tell) -> str:
    """Commit the changes on top of `remote`; returns the commit.

    A missing repository is created, `private` or not. Large files are uploaded first, one by one; the Hub keeps them,
    so that the same command resumes after an interrupt. Raises InputError if the Hub or the network keeps failing, a
    file has changed, or the repository has; nothing is committed then.
    """
    check_visibility(remote, private)
    files = [change.file for change in changes if change.kind != UNCHANGED]
    if not files:
        tell(f"{remote.repo}: all files are up to date, nothing is uploaded")
        return remote.head
    with raising_input_error(remote.repo, "cannot be published"), bars_only_on_a_terminal():
        parent = remote.head or create(remote.repo, private, tell)
        additions = [send(remote.repo, file, tell) for file in files]
        return commit(remote.repo, parent, files, additions, message, tell)


def create(repo: str, private: bool, tell: Tell) -> str:
    """Create a repository; returns its first commit."""
    tell(f"{repo}: creating the repository, {'private' if private else 'public'}")
    with checked_response(repo):
        retry(lambda: HfApi().create_repo(repo, private=private, exist_ok=True), tell)
    made = list_repo(repo, BRANCH)
    if set(made.files) - {".gitattributes"} or (private and not made.private):
        raise InputError(
            repo,
            "somebody else has made it meanwhile",
            todo="run the command again, and it shows what would change now",
        )
    return made.commit


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


def send(repo: str, file: LocalFile, tell: Tell) -> CommitOperationAdd:
    """Prepare a file for the commit, uploading its content if it is large.

    Content that the Hub has is not sent again. Raises InputError if the file has changed. Small files are held in
    memory.
    """
    tell(f"{repo}: uploading {file.name}, {page_numbers.size(file.size)}")
    if file.size <= SMALL:
        added = CommitOperationAdd(file.name, read(file))
        preupload(repo, added, tell)
        return added
    before = identity(file)
    added = CommitOperationAdd(file.name, str(file.path))
    check_hash(file, added.upload_info.size, added.upload_info.sha256.hex())  # reads it once more
    preupload(repo, added, tell)
    if identity(file) != before:
        raise InputError(file.path, "changed while it was uploaded", todo="run the command again")
    return added


def preupload(repo: str, added: CommitOperationAdd, tell: Tell) -> None:
    """Upload the content of a large file before the commit."""
    with checked_response(repo):
        retry(lambda: HfApi().preupload_lfs_files(repo, [added], revision=BRANCH, free_memory=False), tell)


def identity(file: LocalFile) -> tuple[int, ...]:
    """A value that changes with the file."""
    try:
        status = file.path.stat()
    except OSError as error:
        raise InputError(file.path, f"cannot be read: {error.strerror}") from error
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def commit(
    repo: str,
    parent: str,
    files: Sequence[LocalFile],
    additions: Sequence[CommitOperationAdd],
    message: str,
    tell: Tell,
) -> str:
    """Create the commit on top of `parent`, once: if the response is lost, the head shows whether it was made."""

    def attempt() -> str:
        try:
            with checked_response(repo):
                made = HfApi().create_commit(
                    repo, additions, commit_message=message, revision=BRANCH, parent_commit=parent, num_threads=1
                )
        except Exception as error:
            status = status_of(error)
            if isinstance(error, InputError) or is_of_network(error) or status in (409, 412) or status >= 500:
                head = list_repo(repo, BRANCH)
                if head.commit != parent:
                    return check_is_ours(head, files)
            raise
        return str(made.oid)

    return retry(attempt, tell)


def check_is_ours(head: Listing, files: Iterable[LocalFile]) -> str:
    """Return the head if it contains all files: then the commit was made. Raises InputError otherwise."""
    for file in files:
        there = head.files.get(file.name)
        if there is None or not is_same(file, there):
            raise InputError(
                head.repo, f"somebody else has committed to it ({head.commit[:7]}), and nothing was published",
                todo="run the command again, and it shows what would change now",
            )  # fmt: skip
    return head.commit


@contextmanager
def bars_only_on_a_terminal() -> Iterator[None]:
    """Disable the Hub library's progress bars unless stderr is a terminal."""
    if sys.stderr.isatty() or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


# After the upload.


def verify(repo: str, commit: str, files: Iterable[LocalFile]) -> list[str]:
    """Verify the files at a commit; returns one sentence per error.

    Sizes and hashes are those the Hub lists. Headers of GGUF files and whole small files are downloaded and compared.
    Raises InputError if something cannot be read.
    """
    with not_verified(repo, commit):
        there = list_repo(repo, commit).files
        return [problem for file in files if (problem := problem_with(repo, commit, file, there.get(file.name)))]


@contextmanager
def not_verified(repo: str, commit: str) -> Iterator[None]:
    """Add to an InputError of the block that the files are published nevertheless."""
    try:
        yield
    except InputError as error:
        what = f"the files are published, but could not be verified: {error.where}: {error.what}"
        raise InputError(f"{repo}@{commit[:7]}", what, todo="run the command again, and it verifies them") from error


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
