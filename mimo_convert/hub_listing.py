"""What a repository of the Hugging Face Hub holds at one commit, and parts of its files, without downloading it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status  # type: ignore[attr-defined]

from quantize.errors import InputError

from .hub_errors import one_line, persistently

TIMEOUT = 60  # seconds without an answer
BLOCK = 1 << 20  # bytes of a range in memory before they are put together
PARTIAL = 206  # HTTP status


@dataclass(frozen=True)
class HubFile:
    """A file in a listing. `sha256` is that of a large file, and empty for a small one, which git stores.

    `etag` is what the Hub says when the file is asked for: the sha256, or the git blob's SHA-1.
    """

    name: str
    size: int
    sha256: str
    etag: str


@dataclass(frozen=True)
class Listing:
    """All files of `repo` at `commit`, those in folders as FOLDER/NAME."""

    repo: str
    commit: str
    private: bool
    files: Mapping[str, HubFile]


def list_repo(repo: str, revision: str = "main") -> Listing:
    """What `OWNER/NAME` holds at a branch, tag or commit, as of now.

    Raises InputError if there is no such repository or revision, or no way to ask.
    """
    with one_line(f"{repo}@{revision}", "cannot be listed"):
        info = persistently(lambda: HfApi().model_info(repo, revision=revision, timeout=TIMEOUT))
        commit = str(info.sha)
        entries = persistently(lambda: list(HfApi().list_repo_tree(repo, revision=commit, recursive=True)))
    files = [hub_file(entry) for entry in entries if isinstance(entry, RepoFile)]
    return Listing(repo, commit, bool(info.private), {file.name: file for file in files})


def hub_file(entry: RepoFile) -> HubFile:
    sha256 = entry.lfs.sha256 if entry.lfs else ""
    return HubFile(entry.path, entry.size, sha256, sha256 or entry.blob_id)


def read_range(repo: str, commit: str, name: str, begin: int, end: int) -> bytes:
    """The bytes from `begin` up to, not including, `end` of a file at a commit.

    Raises InputError if the Hub sends anything else: an error, the whole file, or fewer bytes.
    """
    if begin >= end:
        return b""
    where, url = f"{repo}/{name}", hf_hub_url(repo, name, revision=commit)

    def ask() -> bytes:
        with stream(url, begin, BLOCK, end) as (is_part, blocks):
            if not is_part:  # seen before the body, which may be of any size, is read
                raise InputError(
                    where, "the Hub sends the whole file where a part was asked for", todo="try again later"
                )
            return b"".join(blocks)

    with one_line(where, "cannot be read"):
        data = persistently(ask)
    if len(data) != end - begin:
        raise InputError(where, f"bytes {begin} to {end} were asked for, {len(data)} came", expected=f"{end - begin}")
    return data


@contextmanager
def stream(url: str, begin: int, block: int, end: int | None = None) -> Iterator[tuple[bool, Iterator[bytes]]]:
    """The bytes from `begin` up to `end` (None: to the last) in blocks, and whether it is these: a server may send all
    of them instead.

    The session is that of `requests` or of `httpx`, as the version of the Hub's library has it.
    """
    asked = f"bytes={begin}-{'' if end is None else end - 1}"
    headers = {**build_hf_headers(), "Accept-Encoding": "identity", "Range": asked}
    session: Any = get_session()
    by_httpx = callable(getattr(session, "stream", None))  # in `requests`, it is an option
    ask = session.stream if by_httpx else session.request
    options = {} if by_httpx else {"stream": True}
    with ask("GET", url, headers=headers, timeout=TIMEOUT, **options) as response:
        hf_raise_for_status(response)
        yield response.status_code == PARTIAL, (response.iter_bytes if by_httpx else response.iter_content)(block)
