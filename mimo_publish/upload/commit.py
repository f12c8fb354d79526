"""Make one commit of the changes: large files are uploaded first, one by one, then all become visible together."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)

from mimo_convert import numbers_text
from mimo_convert.listener import timed_phase
from mimo_convert.sources.hub_errors import checked_response, is_of_network, raising_input_error, retry, status_of
from mimo_convert.sources.hub_listing import HubFile, Listing, list_repo
from quantize.errors import InputError

from ..destination import MAIN, Destination
from .changes import SMALL, UNCHANGED, Change, LocalFile, check_hash, identity, is_same, read
from .refs import PULL_REQUEST, Tell, create_branch, list_refs
from .remote import Remote, check_visibility

AGAIN = "run the command again, and it shows what would change now"


@dataclass(frozen=True)
class Published:
    """The commit of a publication, and the revision of the pull request that it became, `refs/pr/N`; empty if none."""

    commit: str
    pull_request: str = ""

    @property
    def page(self) -> str:
        """Its page on the Hub, relative to the repository's."""
        number = self.pull_request.removeprefix(PULL_REQUEST)
        return f"discussions/{number}" if number else f"tree/{self.commit}"


@dataclass(frozen=True)
class Upload:
    """What a commit does to a repository: the files that it writes, and those that it deletes."""

    remote: Remote
    to: Destination
    files: Sequence[LocalFile]
    deleted: Sequence[HubFile]
    message: str

    @property
    def repo(self) -> str:
        return self.remote.repo


def upload(
    remote: Remote, to: Destination, changes: Sequence[Change], deleted: Sequence[HubFile], message: str, tell: Tell
) -> Published:
    """Commit the changes on top of `remote`, on its branch or in a new pull request.

    A missing repository is created, and a missing branch. Large files are uploaded first, one by one; the Hub keeps
    them, so that the same command resumes after an interrupt. Raises InputError if the Hub or the network keeps
    failing, a file has changed, or the repository has; nothing is committed then.
    """
    check_visibility(remote, to.private)
    files = [change.file for change in changes if change.kind != UNCHANGED]
    new = Upload(remote, to, files, deleted, message)
    with raising_input_error(remote.repo, "cannot be published"), bars_only_on_a_terminal():
        if not files and not deleted:
            tell(f"{remote.repo}: all files are up to date, nothing is uploaded")
            if remote.new_branch:
                create_branch(remote.repo, remote.revision, remote.head, tell)
            return Published(remote.head)
        parent = remote.head or create(remote.repo, to.private, tell)
        additions = [send(new, file, tell) for file in files]
        if remote.new_branch:
            create_branch(remote.repo, remote.revision, parent, tell)
        return commit(new, parent, additions, tell)


def create(repo: str, private: bool, tell: Tell) -> str:
    """Create a repository; returns its first commit."""
    tell(f"{repo}: creating the repository, {'private' if private else 'public'}")
    with checked_response(repo):
        retry(lambda: HfApi().create_repo(repo, private=private, exist_ok=True), tell)
    made = list_repo(repo, MAIN)
    if set(made.files) - {".gitattributes"} or (private and not made.private):
        raise InputError(repo, "somebody else has made it meanwhile", todo=AGAIN)
    return made.commit


def send(new: Upload, file: LocalFile, tell: Tell) -> CommitOperationAdd:
    """Prepare a file for the commit, uploading its content if it is large.

    Content that the Hub has is not sent again. Raises InputError if the file has changed. Small files are held in
    memory.
    """
    tell(f"{new.repo}: uploading {file.name}, {numbers_text.size(file.size)}")
    with timed_phase(f"uploading {file.name}"):
        return _send(new, file, tell)


def _send(new: Upload, file: LocalFile, tell: Tell) -> CommitOperationAdd:
    if file.size <= SMALL:
        added = CommitOperationAdd(file.name, read(file))
        preupload(new, added, tell)
        return added
    before = identity(file)
    added = CommitOperationAdd(file.name, str(file.path))
    check_hash(file, added.upload_info.size, added.upload_info.sha256.hex())  # reads it once more
    preupload(new, added, tell)
    if identity(file) != before:
        raise InputError(file.path, "changed while it was uploaded", todo="run the command again")
    return added


def preupload(new: Upload, added: CommitOperationAdd, tell: Tell) -> None:
    """Upload the content of a large file before the commit."""
    how = {"revision": new.remote.present_branch, "create_pr": new.to.create_pr, "free_memory": False}
    with checked_response(new.repo):
        retry(lambda: HfApi().preupload_lfs_files(new.repo, [added], **how), tell)  # type: ignore[arg-type]


def commit(new: Upload, parent: str, additions: Sequence[CommitOperationAdd], tell: Tell) -> Published:
    """Create the commit on top of `parent`, once: if the response is lost, the repository shows whether it was made."""
    summary, _, description = new.message.strip().partition("\n")
    deletions = [CommitOperationDelete(file.name, is_folder=False) for file in new.deleted]

    def attempt() -> Published:
        try:
            with checked_response(new.repo):
                made = HfApi().create_commit(
                    new.repo, [*additions, *deletions], commit_message=summary.strip(),
                    commit_description=description.strip(), revision=new.remote.revision, create_pr=new.to.create_pr,
                    parent_commit=parent, num_threads=1,
                )  # fmt: skip
        except Exception as error:
            if may_have_been_made(error) and (found := made_before(new, parent)):
                return found
            raise
        return Published(str(made.oid), str(made.pr_revision or ""))

    return retry(attempt, tell)


def may_have_been_made(error: Exception) -> bool:
    """Whether a commit that ended with this error may exist nevertheless."""
    status = status_of(error)
    unclear = isinstance(error, (InputError, RuntimeError))  # the response of the Hub was malformed
    return unclear or is_of_network(error) or status in (409, 412) or status >= 500


def made_before(new: Upload, parent: str) -> Published | None:
    """The commit, if it is in the repository; None if nothing has happened.

    Raises InputError if somebody else has committed.
    """
    if new.to.create_pr:
        return opened_before(new)
    head = list_repo(new.repo, new.remote.revision)
    if head.commit == parent:
        return None
    if not is_ours(new, head):
        what = f"somebody else has committed to it ({head.commit[:7]}), and nothing was published"
        raise InputError(new.repo, what, todo=AGAIN)
    return Published(head.commit)


def opened_before(new: Upload) -> Published | None:
    """The pull request with the commit, if there is one that was not there before."""
    for ref in sorted(list_refs(new.repo).pull_requests.keys() - new.remote.refs.pull_requests.keys()):
        head = list_repo(new.repo, ref)
        if is_ours(new, head):
            return Published(head.commit, ref)
    return None


def is_ours(new: Upload, head: Listing) -> bool:
    """Whether a commit holds every file that is written, and none of those that are deleted."""
    there = [head.files.get(file.name) for file in new.files]
    written = all(found and is_same(file, found) for file, found in zip(new.files, there, strict=True))
    return written and not any(file.name in head.files for file in new.deleted)


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
