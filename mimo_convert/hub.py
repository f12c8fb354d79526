"""Checkpoints of the Hugging Face Hub: shards arrive in the Hub's own cache, one while another is converted.

Downloads run in daemon threads, so that an interrupt need not wait for them.
"""

import atexit
import errno
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, cast

from huggingface_hub import HfFileSystem, constants, hf_hub_download, snapshot_download
from tqdm import tqdm

from quantize.errors import InputError

from .disk import free_bytes, nearest
from .hub_errors import chain, reason
from .hub_listing import HubFile, list_repo
from .hub_token import check_token
from .shards import LocalShards

# What a conversion needs of a repository beside the shards; the rest (images, code, other formats) is not downloaded.
SMALL_FILES = [
    "config.json", "*.safetensors.index.json", "tokenizer*.json", "vocab.json", "merges.txt", "added_tokens.json"
]  # fmt: skip
HEADER_BLOCK = 1 << 20  # bytes of a shard asked for at once; most headers are smaller
MARGIN = 1 << 28  # bytes of the disk that are left to others


def download_small_files(source: str) -> Path:
    """The snapshot folder, named by its commit, of `OWNER/NAME` or `OWNER/NAME@REVISION`, without its shards.

    Raises InputError if there is no such repository or revision, or no network.
    """
    repo, _, revision = source.partition("@")
    with one_line_error(source):
        return Path(
            snapshot_download(repo, revision=revision or None, allow_patterns=SMALL_FILES, tqdm_class=NoProgress)
        )


class NoProgress(tqdm):  # type: ignore[misc]
    """In place of a bar for a few small files, which the Hub's library would show even where there is no terminal."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{**options, "disable": True})


class HubShards(LocalShards):
    """The shards of one commit of the repository `source`, of which `folder` is the snapshot in the cache.

    With `stream`, those that were used are deleted from the cache, and none is downloaded ahead of its time unless the
    disk has room for it. Whatever the Hub or the network does wrong is an InputError.
    """

    def __init__(self, source: str, folder: Path, *, stream: bool) -> None:
        super().__init__()
        self.source, self.folder, self.stream = source, folder, stream
        self.repo, self.commit = source.partition("@")[0], folder.name
        self.sizes: dict[Path, int] = {}
        self.coming: list[Path] = []  # expected, and not yet fetched
        self.arrived: set[Path] = set()  # fetched or downloaded, and not yet released
        self.download: Download | None = None  # the last one that was begun: never two at once
        self.lock = threading.Lock()  # `release` is called from another thread; nobody waits while holding it
        atexit.register(delete_leftovers, folder.parents[1] / "blobs")
        if stream:  # some versions of the download library would keep a second copy of 10 GB
            os.environ.setdefault("HF_XET_CHUNK_CACHE_SIZE_BYTES", "0")

    def files(self, folder: Path) -> list[Path]:
        there = (folder / name for name in self._remote if name.endswith(".safetensors"))
        return sorted({*super().files(folder), *there})

    def exists(self, file: Path) -> bool:
        return file.exists() or file.name in self._remote

    def is_here(self, file: Path) -> bool:
        return file.exists()  # a file gets its name in the snapshot when it is complete

    def size(self, file: Path) -> int:
        if file not in self.sizes:
            self.sizes[file] = super().size(file) if self.is_here(file) else self._remote[file.name].size
        return self.sizes[file]

    @contextmanager
    def open(self, file: Path) -> Iterator[BinaryIO]:
        if self.is_here(file):
            with super().open(file) as here:
                yield here
            return
        with self._one_line_error(file):
            path = f"{self.repo}@{self.commit}/{file.name}"
            with HfFileSystem().open(path, "rb", block_size=HEADER_BLOCK) as there:
                yield cast(BinaryIO, there)

    def expect(self, files: Sequence[Path]) -> None:
        with self.lock:
            self.coming = list(files)

    def room(self, files: Sequence[Path], folder: Path) -> int:
        """With `stream`, those of the largest: one is there at a time."""
        if os.stat(nearest(folder)).st_dev != os.stat(self.folder).st_dev:
            return 0
        absent = [self.size(file) for file in files if not self.is_here(file)]
        return max(absent, default=0) if self.stream else sum(absent)

    def fetch(self, file: Path) -> None:
        """Return as soon as the file is in the cache; by then, the next of the expected ones is on its way.

        Raises InputError if it cannot be downloaded, or is not of the size that its header was checked for.
        """
        while not self.is_here(file):
            with self.lock:
                if self.download is None or self.download.over.is_set():
                    self._make_room(file)
                    self._begin(file)
                download = self.download
            assert download is not None
            download.over.wait()
            if download.file == file:
                with self._one_line_error(file):
                    download.check()
                break
        self._check_size(file)
        self.states[file] = self.state(file)
        with self.lock:
            self.arrived.add(file)
            if file in self.coming:
                del self.coming[: self.coming.index(file) + 1]
            self._look_ahead()

    def release(self, file: Path) -> None:
        if not self.stream:
            return
        with self.lock:
            self._delete(file)
            self._look_ahead()

    def identity(self, file: Path) -> str:
        return f"{file.name} {self.size(file)} {self.commit}"

    def published_sha256(self, file: Path) -> str:
        return super().published_sha256(file) if self.is_here(file) else self._remote[file.name].sha256

    @cached_property
    def _remote(self) -> Mapping[str, HubFile]:
        """Every file at the top of the repository."""
        if constants.HF_HUB_OFFLINE:
            return {}  # as asked for: what is here is all there is
        files = list_repo(self.repo, self.commit).files
        return {name: file for name, file in files.items() if "/" not in name}

    def _one_line_error(self, file: Path) -> Any:
        return one_line_error(f"{self.source}/{file.name}")

    def _begin(self, file: Path) -> None:
        """Begin to download, behind the lock."""
        self.arrived.add(file)
        cache = self.folder.parents[2]
        self.download = Download(
            file, lambda: hf_hub_download(self.repo, file.name, revision=self.commit, cache_dir=cache)
        )

    def _look_ahead(self) -> None:
        """Begin to download what will be fetched next, behind the lock, if nothing speaks against it."""
        busy = self.download is not None and not self.download.over.is_set()
        if self.coming and not busy and not self.is_here(self.coming[0]):
            if self.stream and not self._has_room(self.coming[0]):
                return  # `release` looks again, and `fetch` makes room
            self._begin(self.coming[0])

    def _has_room(self, file: Path) -> bool:
        return free_bytes(self.folder) >= self.size(file) + MARGIN

    def _make_room(self, file: Path) -> None:
        """Without waiting for their release: whoever fetches a file has read the others, and may wait for this one.

        If the run is killed before what was made of them is safe, the next one downloads them again.
        """
        if self.stream and not self._has_room(file):
            for other in self.arrived - {file}:
                self._delete(other)

    def _delete(self, file: Path) -> None:
        try:
            delete_from_cache(file)
        except OSError as error:
            raise InputError(file, f"cannot be deleted: {error.strerror}", todo="leave out --stream") from error
        self.arrived.discard(file)

    def _check_size(self, file: Path) -> None:
        with self._one_line_error(file):
            size = file.stat().st_size
        if size != self.size(file):
            raise InputError(
                file, f"has {size} bytes, and has changed", expected=f"{self.size(file)}", todo="run the command again"
            )


class Download:
    """A download of one file, begun at once, in a thread that does not outlive the program."""

    def __init__(self, file: Path, get: Callable[[], object]) -> None:
        self.file, self.get = file, get
        self.over = threading.Event()
        self.error: Exception | None = None
        threading.Thread(target=self._run, daemon=True).start()

    def check(self) -> None:
        """Raise what went wrong."""
        if self.error:
            raise self.error

    def _run(self) -> None:
        try:
            self.get()
        except Exception as error:
            self.error = error
        finally:
            self.over.set()


@contextmanager
def one_line_error(where: str) -> Iterator[None]:
    """Turn whatever the Hub's library raises, and it does so from several others, into an InputError.

    Before the block, it is made sure that the token can be sent.
    """
    try:
        check_token()
        yield
    except InputError:
        raise
    except Exception as error:
        full = any(isinstance(e, OSError) and e.errno == errno.ENOSPC for e in chain(error))
        todo = (
            "make room, and the same command goes on from here"
            if full
            else "check the name and the network, or give a folder"
        )
        raise InputError(where, f"cannot be downloaded: {reason(error)}", todo=todo) from error


def delete_from_cache(file: Path) -> None:
    """Delete a snapshot's file, and its content, unless another name in the cache leads to that.

    A snapshot's file is a link to a blob of its repository, which newer caches share between repositories by one more
    link; where there can be no links, it is the content. What leads out of the cache is the user's, and stays.
    """
    repo, cache = file.parents[2], file.parents[3]
    inside = {(repo / "blobs").resolve(), (cache / "blobs").resolve()}
    if not file.exists():
        return
    chain = [file]
    while chain[-1].is_symlink():
        chain.append(target(chain[-1]))
        if inside.isdisjoint(chain[-1].parents):
            return
    names = {*repo.glob("snapshots/**/*"), *cache.glob("*/blobs/*")} - set(chain)
    doomed = [file]
    for content in chain[1:]:
        if any(name.is_symlink() and target(name) == content for name in names):
            break
        doomed.append(content)
    for path in reversed(doomed):  # names last: one without content is downloaded again, the reverse stays for ever
        path.unlink()


def target(link: Path) -> Path:
    """The path that a link names, itself perhaps a link."""
    path = link.parent / os.readlink(link)
    return path.parent.resolve() / path.name


def delete_leftovers(blobs: Path) -> None:
    """Delete the partial files of downloads that this process has not finished, and that nobody would go on with.

    Some versions of the Hub's library go on with HASH.incomplete; others would leave HASH.RANDOM.incomplete for ever.
    """
    with suppress(OSError):  # a system without this folder
        open_files = {identity for fd in os.listdir("/dev/fd") for identity in identities(int(fd))}
        for file in blobs.glob("*.*.incomplete"):
            if open_files.intersection(identities(file)):
                file.unlink()


def identities(file: Path | int) -> Iterator[tuple[int, int]]:
    """The one identity of a file, or none if it is gone."""
    with suppress(OSError):
        status = os.stat(file)
        yield status.st_dev, status.st_ino
