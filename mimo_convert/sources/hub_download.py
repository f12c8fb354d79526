"""Download one file of the Hub into a partial file, resuming an earlier attempt and verifying the hash.

`hf_hub_download` of huggingface_hub 2.4 starts anew in each process (the partial file has a random name and is deleted
on error) and compares sizes, not hashes. Its `http_get` can resume, but waits internally for as long as the Hub asks,
and loses up to 10 MB when the process is killed.
"""

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_url

from mimo_convert.numbers_text import size
from mimo_convert.own_files import open_own
from quantize.errors import InputError

from .hub_errors import is_of_network, raising_input_error, retry, status_of
from .hub_listing import HubFile, stream

BLOCK = 1 << 20  # bytes in memory at a time
NO_SUCH_RANGE = 416  # HTTP status
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def download(
    repo: str,
    commit: str,
    file: HubFile,
    part: Path,
    tell: Callable[[str], None],
    watch: Callable[[int], None] = lambda n: None,
    repo_type: str = "model",
) -> str:
    """Complete the partial file `part` of a repository's file at a commit; returns its sha256.

    `repo_type` is as the Hub's library has it. `tell` gets a line about each retry, `watch` the number of bytes present
    after each block. Raises InputError if the download fails, and keeps `part`; or if the file is not as listed, and
    deletes it.
    """
    where, url = f"{repo}/{file.name}", hf_hub_url(repo, file.name, repo_type=repo_type, revision=commit)
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
    with raising_input_error(where, "cannot be downloaded"), full_disk(part), open_own(part, flags, "a+b") as content:
        arrived = Arrived(content, file, watch)
        while arrived.n < file.size and not retry(lambda: arrived.resume(url), tell):
            tell(f"{where}: the connection was cut; resuming at {size(arrived.n)}")
        os.fsync(content.fileno())
    if arrived.etag != file.etag:
        part.unlink()
        kind = "sha256" if file.sha256 else "git hash"
        raise InputError(
            where,
            f"has {kind} {arrived.etag}, the listing says {file.etag}: it changed while it was downloaded, or was "
            "damaged on the way",
            todo="run the command again",
        )
    return arrived.sha256.hexdigest()


@contextmanager
def full_disk(part: Path) -> Iterator[None]:
    """Turn the error of a full disk into an InputError."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM or error.filename:
            raise
        todo = "make room, and run the command again: it resumes here"
        raise InputError(part, f"cannot be written: {error.strerror}", todo=todo) from error


class Arrived:
    """The first `n` bytes of a file and their hashes; `content` is open for reading and appending.

    `watch` is called with `n` after each block.
    """

    def __init__(self, content: Any, file: HubFile, watch: Callable[[int], None]) -> None:
        self.content, self.file, self.watch = content, file, watch
        self._reset()
        content.seek(0)
        while block := content.read(BLOCK):
            self._hash(block)
        if self.n > file.size:
            self._begin_anew()
        watch(self.n)

    @property
    def etag(self) -> str:
        """The ETag that the Hub would give the content."""
        return (self.sha256 if self.file.sha256 else self.git).hexdigest()

    def resume(self, url: str) -> bool:
        """Request the rest. Returns False if the connection was cut after bytes had arrived."""
        before = self.n
        try:
            with stream(url, self.n, BLOCK) as (is_rest, blocks):
                if not is_rest:
                    self._begin_anew()
                for block in blocks:
                    self._append(block)
                    if self.n > self.file.size:  # not what was listed, and perhaps without an end
                        return True
        except Exception as error:
            if status_of(error) == NO_SUCH_RANGE:
                return True  # the file ends here: not what was listed
            if self.n <= before or not is_of_network(error):
                raise
            return False
        return True

    def _append(self, block: bytes) -> None:
        self.content.write(block)
        self.content.flush()  # a killed process resumes here
        self._hash(block)
        self.watch(self.n)

    def _hash(self, block: bytes) -> None:
        self.n += len(block)
        self.sha256.update(block)
        if not self.file.sha256:
            self.git.update(block)

    def _reset(self) -> None:
        self.n, self.sha256 = 0, hashlib.sha256()
        self.git = hashlib.sha1(b"blob %d\0" % self.file.size)  # "Git Internals: Git Objects" in the Git book

    def _begin_anew(self) -> None:
        self._reset()
        self.content.truncate(0)
