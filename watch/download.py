"""One file from the Hub, which goes on where an earlier attempt ended, and is hashed as it arrives.

Why not by `hf_hub_download`: in version 2.4 it begins anew in each process (a random name for what has not arrived yet,
which is deleted when an error ends it), and compares sizes, not hashes. Its `http_get`, which can go on, waits within
itself for as long as the Hub asks, and loses up to 10 MB of what came when it is killed.
"""

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_url

from mimo_convert.hub_errors import is_of_network, one_line, persistently, status_of
from mimo_convert.hub_listing import HubFile, stream
from quantize.errors import InputError
from runtime_check.page_numbers import size

from .own_files import open_own

BLOCK = 1 << 20  # bytes in memory at a time
NO_SUCH_RANGE = 416  # HTTP status
TOLD = 1 << 29  # bytes between two lines about how far it is


def download(repo: str, commit: str, file: HubFile, part: Path, tell: Callable[[str], None]) -> str:
    """Complete `part`, which may hold the beginning of a file of a repository at a commit; returns its sha256.

    Raises InputError if it cannot be downloaded, of which the part remains; or if it is not what was listed, of which
    nothing does.
    """
    where, url = f"{repo}/{file.name}", hf_hub_url(repo, file.name, revision=commit)
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
    with one_line(where, "cannot be downloaded"), naming(part), open_own(part, flags, "a+b") as content:
        arrived = Arrived(content, file, lambda n: tell(f"{where}: {size(n)} of {size(file.size)}"))
        while arrived.n < file.size and not persistently(lambda: arrived.go_on(url), tell):
            tell(f"{where}: the connection was cut; going on at {size(arrived.n)}")
        os.fsync(content.fileno())
    if arrived.etag != file.etag:
        part.unlink()
        kind = "sha256" if file.sha256 else "git hash"
        raise InputError(
            where,
            f"has {kind} {arrived.etag}, the listing says {file.etag}: it changed while it was fetched, or was damaged "
            "on the way",
            todo="try again",
        )
    return arrived.sha256.hexdigest()


@contextmanager
def naming(part: Path) -> Iterator[None]:
    """Say of a full disk which file it had no room for."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or error.filename:
            raise
        raise InputError(part, f"cannot be written: {error.strerror}", todo="make room") from error


class Arrived:
    """What has arrived of a file, in `content`, which is open to be read and appended to: `n` bytes, and their hashes.

    `tell` is called with `n` now and then.
    """

    def __init__(self, content: Any, file: HubFile, tell: Callable[[int], None]) -> None:
        self.content, self.file, self.tell = content, file, tell
        self._forget()
        content.seek(0)
        while block := content.read(BLOCK):
            self._hash(block)
        if self.n > file.size:
            self._begin_anew()

    @property
    def etag(self) -> str:
        """As the Hub would give it."""
        return (self.sha256 if self.file.sha256 else self.git).hexdigest()

    def go_on(self, url: str) -> bool:
        """Ask for the rest. False if the connection was cut when something had come: then more may come, at once."""
        before = self.n
        try:
            with stream(url, self.n, BLOCK) as (is_rest, blocks):
                if not is_rest:
                    self._begin_anew()
                for block in blocks:
                    self._append(block)
                    if self.n > self.file.size:  # it is not what was listed, and might have no end
                        return True
        except Exception as error:
            if status_of(error) == NO_SUCH_RANGE:
                return True  # the file ends here: it is not what was listed
            if self.n <= before or not is_of_network(error):
                raise
            return False
        return True

    def _append(self, block: bytes) -> None:
        self.content.write(block)
        self.content.flush()  # what is killed now goes on from here
        self._hash(block)
        if self.n // TOLD > (self.n - len(block)) // TOLD:
            self.tell(self.n)

    def _hash(self, block: bytes) -> None:
        self.n += len(block)
        self.sha256.update(block)
        if not self.file.sha256:
            self.git.update(block)

    def _forget(self) -> None:
        self.n, self.sha256 = 0, hashlib.sha256()
        self.git = hashlib.sha1(b"blob %d\0" % self.file.size)  # "Git Internals: Git Objects" in the Git book

    def _begin_anew(self) -> None:
        self._forget()
        self.content.truncate(0)
