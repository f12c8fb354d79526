"""A repository of the Hub as it is, what would change in it, the upload in one commit, and the proof of what arrived.

The token is the one that `huggingface_hub` finds, in HF_TOKEN or where `hf auth login` left it.
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

from mimo_convert.gguf_file import read_gguf
from mimo_convert.hub_errors import is_of_network, one_line, persistently, status_of, understood
from mimo_convert.hub_listing import HubFile, Listing, list_repo, read_range
from quantize.errors import InputError
from runtime_check import page_numbers

NEW, REPLACES, UNCHANGED = "new", "replaces", "unchanged"  # kinds of change
BRANCH = "main"
SMALL = 10_000_000  # bytes of a file that is held in memory from the moment it is checked; the Hub's git takes no more
Tell = Callable[[str], None]


@dataclass(frozen=True)
class LocalFile:
    """A file to publish under `name`, as it was when `size` and `sha256` were taken."""

    name: str
    path: Path
    size: int
    sha256: str


@dataclass(frozen=True)
class Change:
    """What publishing does with a file: it is NEW, REPLACES another, or is there already (UNCHANGED)."""

    file: LocalFile
    kind: str


@dataclass(frozen=True)
class Remote:
    """The repository OWNER/NAME as it was looked at; `listing` is None if there is none."""

    repo: str
    listing: Listing | None

    @property
    def exists(self) -> bool:
        return self.listing is not None

    @property
    def private(self) -> bool:
        return self.listing is not None and self.listing.private

    @property
    def head(self) -> str:
        """Its last commit, or empty."""
        return self.listing.commit if self.listing else ""

    @property
    def files(self) -> Mapping[str, HubFile]:
        return self.listing.files if self.listing else {}


# Before the upload.


def look(repo: str) -> Remote:
    """The repository as it is now, if the user may write to it, as far as the Hub tells beforehand.

    Raises InputError if the name is none, there is no valid token, or it is for other repositories.
    """
    check_name(repo)
    with one_line(repo, "cannot be published to"), understood(repo):
        user = persistently(lambda: HfApi().whoami())
        check_may_write(repo, user)
        exists = persistently(lambda: HfApi().repo_exists(repo))
    return Remote(repo, list_repo(repo, BRANCH) if exists else None)


def check_name(repo: str) -> None:
    """Raises InputError for what is no repository's name."""
    if repo.count("/") != 1:
        raise InputError(repo, "is not a repository's name", expected="OWNER/NAME")
    with one_line(repo, "cannot be published to"):
        validate_repo_id(repo)


def check_may_write(repo: str, user: Mapping[str, Any]) -> None:
    """Whether the repository is the user's or his organisations', and the token is not for reading alone.

    `user` is what the Hub says of the token's owner. A token with rights of its own is judged by the Hub, at the first
    write.
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
    """Raises InputError if files that are to be private would become public."""
    if private and remote.exists and not remote.private:
        raise InputError(
            remote.repo, "--private was given, and the repository is public",
            todo="make it private in its settings, or leave out --private",
        )  # fmt: skip


def compare(remote: Remote, files: Iterable[LocalFile]) -> list[Change]:
    """What publishing the files would change, in their order."""
    return [Change(file, kind_of_change(file, remote.files.get(file.name))) for file in files]


def kind_of_change(file: LocalFile, there: HubFile | None) -> str:
    if there is None:
        return NEW
    return UNCHANGED if is_same(file, there) else REPLACES


def is_same(file: LocalFile, there: HubFile) -> bool:
    """By size and hash: of a small file, the Hub knows git's."""
    if file.size != there.size:
        return False
    return there.sha256 == file.sha256 if there.sha256 else there.etag == git_blob(file)


def git_blob(file: LocalFile) -> str:
    """The SHA-1 of a small file by which git knows it (git-hash-object(1))."""
    return hashlib.sha1(b"blob %d\0" % file.size + read(file)).hexdigest()


def read_small(remote: Remote, name: str) -> bytes | None:
    """A small file that is there already; None if there is none."""
    file = remote.files.get(name)
    return read_range(remote.repo, remote.head, name, 0, file.size) if file else None


# The upload.


def upload(remote: Remote, changes: Sequence[Change], message: str, private: bool, tell: Tell) -> str:
    """Publish what has changed, in one commit on top of what `remote` was; the commit that then holds all the files.

    A repository that is not there is made, `private` or not. Large files go first, one after another; the Hub keeps
    those that arrived, so that the same command, after an interrupt, goes on with the others. Raises InputError if the
    Hub or the network fails for longer than a few tries, a file is not what it was, or the repository is not what it
    was; then there is no commit.
    """
    check_visibility(remote, private)
    files = [change.file for change in changes if change.kind != UNCHANGED]
    if not files:
        tell(f"{remote.repo}: all files are there already, nothing is uploaded")
        return remote.head
    with one_line(remote.repo, "cannot be published"), bars_only_on_a_terminal():
        parent = remote.head or create(remote.repo, private, tell)
        additions = [send(remote.repo, file, tell) for file in files]
        return commit(remote.repo, parent, files, additions, message, tell)


def create(repo: str, private: bool, tell: Tell) -> str:
    """Make a repository; its first commit, which the Hub makes."""
    tell(f"{repo}: making the repository, {'private' if private else 'public'}")
    with understood(repo):
        persistently(lambda: HfApi().create_repo(repo, private=private, exist_ok=True), tell)
    made = list_repo(repo, BRANCH)
    if set(made.files) - {".gitattributes"} or (private and not made.private):
        raise InputError(
            repo,
            "somebody else has made it meanwhile",
            todo="run the command again, and it shows what would change now",
        )
    return made.commit


def read(file: LocalFile) -> bytes:
    """A small file whole. Raises InputError if it is not what it was."""
    try:
        data = file.path.read_bytes()
    except OSError as error:
        raise InputError(file.path, f"cannot be read: {error.strerror}") from error
    check_hash(file, len(data), hashlib.sha256(data).hexdigest())
    return data


def check_hash(file: LocalFile, size: int, sha256: str) -> None:
    if (size, sha256) != (file.size, file.sha256):
        raise InputError(
            file.path, f"has changed since it was checked: {size} bytes with SHA-256 {sha256}",
            expected=f"{file.size} bytes with SHA-256 {file.sha256}", todo="run the command again",
        )  # fmt: skip


def send(repo: str, file: LocalFile, tell: Tell) -> CommitOperationAdd:
    """The file as it is to be committed, its content on the Hub if it is a large one.

    Content that is there is not sent again. Raises InputError if the file is not what it was. A small one is held in
    memory, and cannot change any more.
    """
    tell(f"{repo}: uploading {file.name}, {page_numbers.size(file.size)}")
    if file.size <= SMALL:
        added = CommitOperationAdd(file.name, read(file))
        bring(repo, added, tell)
        return added
    before = identity(file)
    added = CommitOperationAdd(file.name, str(file.path))
    check_hash(file, added.upload_info.size, added.upload_info.sha256.hex())  # reads it once more
    bring(repo, added, tell)
    if identity(file) != before:
        raise InputError(file.path, "changed while it was uploaded", todo="run the command again")
    return added


def bring(repo: str, added: CommitOperationAdd, tell: Tell) -> None:
    with understood(repo):
        persistently(lambda: HfApi().preupload_lfs_files(repo, [added], revision=BRANCH, free_memory=False), tell)


def identity(file: LocalFile) -> tuple[int, ...]:
    """What changes with a file's content."""
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
    """Make the commit on top of `parent`, once: if the answer is lost, the head tells whether it was made."""

    def attempt() -> str:
        try:
            with understood(repo):
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

    return persistently(attempt, tell)


def check_is_ours(head: Listing, files: Iterable[LocalFile]) -> str:
    """The head that is not the one that the user was shown, if all files are in it: then the commit was made."""
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
    """The Hub's library shows bars also where nobody can see them move."""
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
    """What is wrong with the files at a commit: one sentence each; none, if all is as it should be.

    Sizes and hashes are the Hub's own. Of a GGUF file, all before the tensor data is downloaded and compared; of a
    small file, all. Raises InputError if the commit cannot be listed.
    """
    there = list_repo(repo, commit).files
    return [problem for file in files if (problem := problem_with(repo, commit, file, there.get(file.name)))]


def problem_with(repo: str, commit: str, file: LocalFile, there: HubFile | None) -> str:
    """Empty if there is none."""
    if there is None:
        return f"{file.name}: is not in {repo} at {commit[:7]}"
    if there.size != file.size:
        return f"{file.name}: has {there.size} bytes in {repo}; expected {file.size}"
    if there.sha256 not in ("", file.sha256):
        return f"{file.name}: has the SHA-256 {there.sha256} in {repo}; expected {file.sha256}"
    try:
        size = bytes_to_compare(file)
        return difference(file, read_range(repo, commit, file.name, 0, size), beginning(file, size))
    except InputError as error:
        return str(error)


def bytes_to_compare(file: LocalFile) -> int:
    """Those before the tensor data of a GGUF file; otherwise, all that are not too many."""
    if file.path.suffix != ".gguf":
        return min(file.size, SMALL)
    return min((tensor.begin for tensor in read_gguf(file.path).tensors.values()), default=file.size)


def beginning(file: LocalFile, size: int) -> bytes:
    try:
        with file.path.open("rb") as opened:
            return opened.read(size)
    except OSError as error:
        raise InputError(file.path, f"cannot be read: {error.strerror}") from error


def difference(file: LocalFile, found: bytes, expected: bytes) -> str:
    if found == expected:
        return ""
    both = zip(found, expected, strict=False)
    at = next((i for i, (a, b) in enumerate(both) if a != b), min(len(found), len(expected)))
    return f"{file.name}: byte {at} is {found[at : at + 1].hex()} on the Hub; expected {expected[at : at + 1].hex()}"
