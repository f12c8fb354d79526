"""Shards of Hub checkpoints: downloaded into the Hub's cache, the next while one is converted.

Downloads run in daemon threads, so that an interrupt need not wait for them; the next run resumes them.
"""

import io
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from huggingface_hub import constants
from huggingface_hub.errors import RevisionNotFoundError

from mimo_convert.disk import free_bytes, nearest
from mimo_convert.files import MOST_JSON_BYTES
from mimo_convert.listener import phase
from mimo_convert.terminal import tell
from quantize.errors import InputError

from .hub_cache import (
    cached_snapshot,
    delete_from_cache,
    download_to_cache,
    missing_bytes,
    snapshot_of,
    state_of,
    write_ref,
)
from .hub_errors import OFFLINE, ONLINE, is_of_network, raising_input_error, reason, todo
from .hub_listing import HubFile, Listing, RemoteFile, list_repo, read_range, request_listing
from .shards import LocalShards

# What a conversion needs of a repository beside the shards; the rest (images, code, other formats) is not downloaded.
SMALL_FILES = [
    "config.json", "*.safetensors.index.json", "tokenizer*.json", "vocab.json", "merges.txt", "added_tokens.json"
]  # fmt: skip
MOST_SMALL_FILES = 64
HEADER_BLOCK = 1 << 20  # bytes of a shard asked for at once; most headers are smaller
PROBE = 1 << 23  # bytes that are read to measure the network
MARGIN = 1 << 28  # bytes of the disk that are left to others


def download_small_files(source: str, inside: Collection[str] = ()) -> tuple[Path, Listing | None]:
    """Download all files but the shards of `OWNER/NAME` or `OWNER/NAME@REVISION`, also those in its folders `inside`;
    returns the snapshot folder and the listing.

    Without a network, the cached snapshot and no listing. Raises InputError if the repository or revision does not
    exist, a file is too large, or nothing is cached.
    """
    repo, _, revision = source.partition("@")
    revision = revision or "main"
    with raising_input_error(source, "cannot be downloaded"):
        cached = cached_snapshot(repo, revision)
        if constants.HF_HUB_OFFLINE:
            if cached is None:
                raise InputError(source, f"{OFFLINE}, and {state_of(repo)}", todo=ONLINE)
            return cached, None
        try:
            listing = request_listing(source, repo, revision)
        except (InputError, RevisionNotFoundError):
            raise
        except Exception as error:
            if cached is not None:
                tell(f"{source}: {reason(error)}; commit {cached.name} is in the cache, and is used")
                return cached, None
            if not is_of_network(error):
                raise
            what = f"cannot be downloaded: {reason(error)}, and {state_of(repo)}"
            raise InputError(source, what, todo=todo(error)) from error
        folder, files = snapshot_of(repo, listing.commit), small_files(source, listing, inside)
        folder.mkdir(parents=True, exist_ok=True)
        write_ref(repo, revision, listing.commit)
        for file in files:
            if not (folder / file.name).exists():
                download_to_cache(repo, folder, file, tell)
        return folder, listing


def small_files(source: str, listing: Listing, inside: Collection[str] = ()) -> list[HubFile]:
    """The files that match SMALL_FILES, of the repository itself and of its folders `inside`. Raises InputError if they
    are too many or too large."""
    files = [
        file for folder in ("", *inside) for name, file in listing.of_folder(folder).items()
        if any(fnmatchcase(name, pattern) for pattern in SMALL_FILES)
    ]  # fmt: skip
    if len(files) > MOST_SMALL_FILES:
        what = f"has {len(files)} config and tokenizer files"
        raise InputError(source, what, expected=f"at most {MOST_SMALL_FILES}")
    for file in files:
        if file.size > MOST_JSON_BYTES:
            what = f"has {file.size:,} bytes, and was not downloaded"
            raise InputError(f"{source}/{file.name}", what, expected=f"at most {MOST_JSON_BYTES:,}")
    return files


class HubShards(LocalShards):
    """The shards of one commit of the repository `source`, or of its folder `inside`; `folder` is its snapshot in the
    cache, `listing` its listing (None: requested when needed).

    With `stream`, used shards are deleted from the cache, and none is downloaded ahead without room on the disk. Errors
    of the Hub or the network are InputErrors.
    """

    def __init__(
        self, source: str, folder: Path, listing: Listing | None = None, *, stream: bool, inside: str = ""
    ) -> None:
        super().__init__()
        self.source, self.folder, self.stream, self.inside = source, folder, stream, inside
        self.repo, self.commit = source.partition("@")[0], folder.name
        self.sizes: dict[Path, int] = {}
        self.coming: list[Path] = []  # expected, and not yet fetched
        self.arrived: set[Path] = set()  # fetched or downloaded, and not yet released
        self.download: Download | None = None  # the last one that was begun: never two at once
        self.lock = threading.Lock()  # `release` is called from another thread; nobody waits while holding it
        self.listing = listing

    def of_folder(self, name: str) -> "HubShards":
        return HubShards(self.source, self.folder, self.listing, stream=False, inside=name)

    def files(self, folder: Path) -> list[Path]:
        there = (folder / name for name in self._remote if name.endswith(".safetensors"))
        return sorted({*super().files(folder), *there})

    def exists(self, file: Path) -> bool:
        return file.exists() or file.name in self._remote

    def is_here(self, file: Path) -> bool:
        return file.exists()  # a file gets its name in the snapshot when it is complete

    def size(self, file: Path) -> int:
        if file not in self.sizes:
            self.sizes[file] = super().size(file) if self.is_here(file) else self._listed(file).size
        return self.sizes[file]

    @contextmanager
    def open(self, file: Path) -> Iterator[BinaryIO]:
        if self.is_here(file):
            with super().open(file) as here:
                yield here
            return
        there = RemoteFile(self.repo, self.commit, self._listed(file).name, self.size(file))
        with io.BufferedReader(there, HEADER_BLOCK) as buffered:
            yield buffered

    def expect(self, files: Sequence[Path]) -> None:
        with self.lock:
            self.coming = list(files)

    def room(self, files: Sequence[Path], folder: Path) -> int:
        """Bytes to arrive on the disk of `folder`; with `stream` those of the largest shard."""
        if os.stat(nearest(folder)).st_dev != os.stat(self.folder).st_dev:
            return 0
        absent = [self._missing(file) for file in files if not self.is_here(file)]
        return max(absent, default=0) if self.stream else sum(absent)

    def to_download(self, files: Sequence[Path]) -> int:
        return sum(self._missing(file) for file in files if not self.is_here(file))

    def rate(self) -> float:
        """Bytes a second, measured by reading the beginning of the largest file."""
        file = max(self._remote.values(), key=lambda file: file.size)
        begin = time.perf_counter()
        n = len(read_range(self.repo, self.commit, file.name, 0, min(file.size, PROBE)))
        return n / (time.perf_counter() - begin)

    def fetch(self, file: Path) -> None:
        """Wait until the file is in the cache; the next expected one is being downloaded by then.

        Raises InputError if the download fails, or the size is not the one that its header was validated for.
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
        return super().published_sha256(file) if self.is_here(file) else self._listed(file).sha256

    @cached_property
    def _remote(self) -> Mapping[str, HubFile]:
        """Every file of the repository, or of its folder, by name; none of folders in it."""
        if constants.HF_HUB_OFFLINE:
            return {}  # as asked for: what is here is all there is
        return (self.listing or list_repo(self.repo, self.commit)).of_folder(self.inside)

    def _listed(self, file: Path) -> HubFile:
        """The listed file. Raises InputError if it is not in the listing."""
        if file.name not in self._remote:
            if constants.HF_HUB_OFFLINE:
                raise InputError(self._name(file), f"{OFFLINE}, and the cache does not hold it", todo=ONLINE)
            raise InputError(self._name(file), "is not in the repository", todo="check its name")
        return self._remote[file.name]

    def _name(self, file: Path) -> str:
        return "/".join(filter(None, (self.source, self.inside, file.name)))

    def _begin(self, file: Path) -> None:
        """Begin a download; requires the lock."""
        listed = self._listed(file)
        self.arrived.add(file)
        self.download = Download(file, lambda: self._get(listed))

    def _get(self, file: HubFile) -> None:
        """Download a file."""
        with phase(f"downloading {file.name}", file.size) as progress:
            download_to_cache(self.repo, self.folder, file, tell, progress.reach)

    def _look_ahead(self) -> None:
        """Begin to download the next expected shard, if none is being downloaded and there is room; requires
        the lock."""
        busy = self.download is not None and not self.download.over.is_set()
        if self.coming and not busy and not self.is_here(self.coming[0]) and self.coming[0].name in self._remote:
            if self.stream and not self._has_room(self.coming[0]):
                return  # `release` looks again, and `fetch` makes room
            self._begin(self.coming[0])

    def _has_room(self, file: Path) -> bool:
        return free_bytes(self.folder) >= self._missing(file) + MARGIN

    def _missing(self, file: Path) -> int:
        """Bytes of a file that are still to be downloaded."""
        return missing_bytes(self.folder, self._listed(file))

    def _make_room(self, file: Path) -> None:
        """Delete other shards at once: the caller has read them.

        If the run is killed before their output is flushed, the next run downloads them again.
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
        size = super().size(file)
        if size != self.size(file):
            raise InputError(
                file, f"has {size} bytes, and has changed", expected=f"{self.size(file)}", todo="run the command again"
            )


class Download:
    """A download of one file in a daemon thread, begun at once."""

    def __init__(self, file: Path, get: Callable[[], object]) -> None:
        self.file, self.get = file, get
        self.over = threading.Event()
        self.error: Exception | None = None
        threading.Thread(target=copy_context().run, args=(self._run,), daemon=True).start()

    def check(self) -> None:
        """Raise the error of the download."""
        if self.error:
            raise self.error

    def _run(self) -> None:
        try:
            self.get()
        except Exception as error:
            self.error = error
        finally:
            self.over.set()
