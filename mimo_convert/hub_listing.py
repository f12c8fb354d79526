"""What a repository of the Hugging Face Hub holds at one commit, and parts of its files, without downloading it."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote

from huggingface_hub import constants, hf_hub_url
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    build_hf_headers,
    get_session,
    hf_raise_for_status,
    validate_repo_id,
)

from quantize.errors import InputError

from .fields import CONTROL, Fields, shown
from .hub_errors import ANSWER, one_line, persistently, understood

TIMEOUT = 60  # seconds without an answer
BLOCK = 1 << 20  # bytes of a range in memory before they are put together
PARTIAL = 206  # HTTP status
COMMIT = "[0-9a-f]{40}"
LARGEST = 1 << 50  # bytes of a file
MOST_BYTES = 1 << 26  # of an answer; a page lists a thousand files
MOST_PAGES = 1000


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

    Raises InputError if there is no such repository or revision, no way to ask, or no sense in the answer. The Hub is
    asked here, and not by `HfApi`, which takes an answer of any size, with any number of pages, for what it should be.
    """
    where = f"{repo}@{revision}"
    with one_line(where, "cannot be listed"):
        validate_repo_id(repo)
        api = f"{constants.ENDPOINT}/api/models/{repo}"
        about, _ = persistently(lambda: ask(where, f"{api}/revision/{quote(revision, safe='')}"))
        info = answer_of(where, about)
        commit, private = info.text("sha", COMMIT, "a commit's 40 digits"), info.flag("private")
        files: dict[str, HubFile] = {}
        url = f"{api}/tree/{commit}?recursive=true&expand=false"
        for _ in range(MOST_PAGES):
            page, url = persistently(partial(ask, where, url))
            if not isinstance(page, list):
                raise InputError(where, f"{ANSWER} is {shown(page)}", expected="a list of files")
            found = [entry_of(where, entry) for entry in page]
            files |= {file.name: file for file in found if file}
            if not url:
                return Listing(repo, commit, private, files)
    raise InputError(where, f"{ANSWER} has more than {MOST_PAGES} pages", expected="a list of files")


def ask(where: str, url: str) -> tuple[Any, str]:
    """The Hub's answer, read from JSON, and the address of its next page, empty if this is the last."""
    with answer_to(url) as (response, blocks):
        data = bytearray()
        for block in blocks:
            data += block
            if len(data) > MOST_BYTES:
                raise InputError(where, f"{ANSWER} has more than {MOST_BYTES:,} bytes", expected="a list of files")
        following = str(response.links.get("next", {}).get("url", ""))
    if following and not following.startswith(f"{constants.ENDPOINT}/"):  # it would be sent the token
        raise InputError(where, f"{ANSWER} goes on at {shown(following)}", expected=constants.ENDPOINT)
    with understood(where):
        return json.loads(data), following


def answer_of(where: str, answer: Any) -> Fields:
    return Fields(f"{where}: {ANSWER}", answer)


def entry_of(where: str, entry: Any) -> HubFile | None:
    """A file of a listing; None for a folder."""
    fields = answer_of(where, entry)
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
    """Whether a name leads from a folder to something within it: `FOLDER/NAME`, without `.` and `..`."""
    return CONTROL.search(name) is None and not {"", ".", ".."} & set(name.split("/"))


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
            data = bytearray()
            for data_of_block in blocks:
                data += data_of_block
                if len(data) > end - begin:
                    break
            return bytes(data)

    with one_line(where, "cannot be read"):
        data = persistently(ask)
    if len(data) != end - begin:
        raise InputError(where, f"bytes {begin} to {end} were asked for, {len(data)} came", expected=f"{end - begin}")
    return data


@contextmanager
def stream(url: str, begin: int, block: int, end: int | None = None) -> Iterator[tuple[bool, Iterator[bytes]]]:
    """The bytes from `begin` up to `end` (None: to the last) in blocks, and whether it is these: a server may send all
    of them instead."""
    asked = f"bytes={begin}-{'' if end is None else end - 1}"
    with answer_to(url, {"Accept-Encoding": "identity", "Range": asked}, block) as (response, blocks):
        yield response.status_code == PARTIAL, blocks


@contextmanager
def answer_to(
    url: str, headers: Mapping[str, str] | None = None, block: int = BLOCK
) -> Iterator[tuple[Any, Iterator[bytes]]]:
    """The Hub's answer and its body in blocks.

    The session is that of `requests` or of `httpx`, as the version of the Hub's library has it.
    """
    session: Any = get_session()
    by_httpx = callable(getattr(session, "stream", None))  # in `requests`, it is an option
    get = session.stream if by_httpx else session.request
    options = {} if by_httpx else {"stream": True}
    with get("GET", url, headers={**build_hf_headers(), **(headers or {})}, timeout=TIMEOUT, **options) as response:
        hf_raise_for_status(response)
        yield response, (response.iter_bytes if by_httpx else response.iter_content)(block)
