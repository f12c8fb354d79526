"""List a repository of the Hugging Face Hub at one commit, and read ranges of its files."""

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from huggingface_hub import constants, hf_hub_url
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    build_hf_headers,
    get_session,
    hf_raise_for_status,
    validate_repo_id,
)

from mimo_convert.fields import CONTROL, Fields, shown
from quantize.errors import InputError

from .hub_errors import RESPONSE, checked_response, raising_input_error, retry

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

TIMEOUT = 60  # seconds without an response
BLOCK = 1 << 20  # bytes of a range in memory before they are put together
PARTIAL = 206  # HTTP status
COMMIT = "[0-9a-f]{40}"
MODELS = "models"  # the kind of repository, in the addresses of the Hub
LARGEST = 1 << 50  # bytes of a file
MOST_BYTES = 1 << 26  # of a response; a page lists a thousand files
MOST_PAGES = 1000


@dataclass(frozen=True)
class HubFile:
    """A listed file. `sha256` is empty for a small file, which git stores.

    `etag` is its ETag: the sha256, or the git blob's SHA-1.
    """

    name: str
    size: int
    sha256: str
    etag: str


@dataclass(frozen=True)
class Listing:
    """All files of `repo` at `commit`, by path."""

    repo: str
    commit: str
    private: bool
    files: Mapping[str, HubFile]

    def of_folder(self, folder: str) -> dict[str, HubFile]:
        """The files in a folder (empty: the repository itself) by name, without those of folders in it."""
        paths = {path.rpartition("/"): file for path, file in self.files.items()}
        return {name: file for (place, _, name), file in paths.items() if place == folder}


def list_repo(repo: str, revision: str = "main", kind: str = MODELS) -> Listing:
    """List `OWNER/NAME`, of a `kind` of repositories, at a branch, tag or commit.

    Raises InputError if it does not exist, cannot be requested, or the response is malformed.
    """
    where = f"{repo}@{revision}"
    with raising_input_error(where, "cannot be listed"):
        return request_listing(where, repo, revision, kind)


def request_listing(where: str, repo: str, revision: str, kind: str = MODELS) -> Listing:
    """`list_repo` with the Hub library's own exceptions; `where` names the request in messages.

    `HfApi` is not used, since it accepts responses of any size and number of pages.
    """
    validate_repo_id(repo)
    api = f"{constants.ENDPOINT}/api/{kind}/{repo}"
    about, _ = retry(lambda: ask(where, f"{api}/revision/{quote(revision, safe='')}"))
    info = response_fields(where, about)
    commit, private = info.text("sha", COMMIT, "a commit's 40 digits"), info.flag("private")
    files: dict[str, HubFile] = {}
    url = f"{api}/tree/{commit}?recursive=true&expand=false"
    for _ in range(MOST_PAGES):
        page, url = retry(partial(ask, where, url))
        if not isinstance(page, list):
            raise InputError(where, f"{RESPONSE} is {shown(page)}", expected="a list of files")
        found = [entry_of(where, entry) for entry in page]
        files |= {file.name: file for file in found if file}
        if not url:
            return Listing(repo, commit, private, files)
    raise InputError(where, f"{RESPONSE} has more than {MOST_PAGES} pages", expected="a list of files")


def ask(where: str, url: str) -> tuple[Any, str]:
    """Request JSON; returns it with the URL of the next page, empty if there is none."""
    with open_response(url) as (response, blocks):
        data = bytearray()
        for block in blocks:
            data += block
            if len(data) > MOST_BYTES:
                raise InputError(where, f"{RESPONSE} has more than {MOST_BYTES:,} bytes", expected="a list of files")
        following = str(response.links.get("next", {}).get("url", ""))
    if following and not following.startswith(f"{constants.ENDPOINT}/"):  # it would be sent the token
        raise InputError(where, f"{RESPONSE} continues at {shown(following)}", expected=constants.ENDPOINT)
    with checked_response(where):
        return json.loads(data), following


def response_fields(where: str, response: Any) -> Fields:
    """The fields of a JSON response. Raises InputError if it is not an object."""
    return Fields(f"{where}: {RESPONSE}", response)


def entry_of(where: str, entry: Any) -> HubFile | None:
    """A listed file; None for a folder."""
    fields = response_fields(where, entry)
    kind, name = fields.text("type"), fields.text("path")
    if not is_plain_path(name):
        raise InputError(fields.where, f"path is {shown(name)}", expected="a file's path in the repository")
    if kind != "file":
        return None
    fields = Fields(f"{fields.where} on {name}", entry)
    blob, sha256 = fields.text("oid", COMMIT, "a hash of 40 digits"), ""
    if entry.get("lfs") is not None:
        large = Fields(fields.where, entry["lfs"], "lfs")
        sha256 = large.text("oid", "[0-9a-f]{64}", "a SHA-256 of 64 digits")
    return HubFile(name, fields.whole("size", LARGEST), sha256, sha256 or blob)


def is_plain_path(name: str) -> bool:
    """Whether a path stays within its folder: `FOLDER/NAME`, without `.` and `..`."""
    return CONTROL.search(name) is None and not {"", ".", ".."} & set(name.split("/"))


def read_range(repo: str, commit: str, name: str, begin: int, end: int) -> bytes:
    """Bytes `begin` … `end` (exclusive) of a file at a commit.

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
            data = bytearray()
            for data_of_block in blocks:
                data += data_of_block
                if len(data) > end - begin:
                    break
            return bytes(data)

    with raising_input_error(where, "cannot be read"):
        data = retry(ask)
    if len(data) != end - begin:
        raise InputError(where, f"bytes {begin} to {end} were asked for, {len(data)} came", expected=f"{end - begin}")
    return data


class RemoteFile(io.RawIOBase):
    """A file of `size` bytes at a commit, read in ranges. Reading raises what `read_range` raises."""

    def __init__(self, repo: str, commit: str, name: str, size: int) -> None:
        self.read_range, self.at, self.size = partial(read_range, repo, commit, name), 0, size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        with memoryview(buffer) as view:
            data = self.read_range(self.at, min(self.at + len(view), self.size))
            view[: len(data)] = data
        self.at += len(data)
        return len(data)


@contextmanager
def stream(url: str, begin: int, block: int, end: int | None = None) -> Iterator[tuple[bool, Iterator[bytes]]]:
    """Request bytes from `begin` to `end` (None: the last); yields whether the response is that range and not the whole
    file, and its blocks."""
    asked = f"bytes={begin}-{'' if end is None else end - 1}"
    with open_response(url, {"Accept-Encoding": "identity", "Range": asked}, block) as (response, blocks):
        yield response.status_code == PARTIAL, blocks


@contextmanager
def open_response(
    url: str, headers: Mapping[str, str] | None = None, block: int = BLOCK
) -> Iterator[tuple[Any, Iterator[bytes]]]:
    """Open an HTTP response; yields it with its body in blocks.

    The session is that of `requests` or `httpx`, depending on the version of the Hub's library.
    """
    session: Any = get_session()
    by_httpx = callable(getattr(session, "stream", None))  # in `requests`, it is an option
    get = session.stream if by_httpx else session.request
    options = {} if by_httpx else {"stream": True}
    with get("GET", url, headers={**build_hf_headers(), **(headers or {})}, timeout=TIMEOUT, **options) as response:
        hf_raise_for_status(response)
        yield response, (response.iter_bytes if by_httpx else response.iter_content)(block)
