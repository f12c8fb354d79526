"""The Hub library's cache (huggingface_hub: "Understand caching"), which other programs share.

In `models--OWNER--NAME`, `snapshots/COMMIT/FILE` is a link to `blobs/ETAG`; a partial download is
`blobs/ETAG.incomplete`; `refs/REVISION` holds the commit of a branch or tag.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

from mimo_convert.files import read_text, write_whole
from quantize.errors import InputError

from .hub_download import download
from .hub_errors import raising_input_error
from .hub_folder import COMMIT, root_of
from .hub_listing import HubFile

MOST_REF_BYTES = 1000


def snapshot_of(repo: str, commit: str) -> Path:
    """The snapshot folder of a repository at a commit."""
    return storage_of(repo) / "snapshots" / commit


def storage_of(repo: str) -> Path:
    """The cache folder of a repository."""
    return Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"


def cached_snapshot(repo: str, revision: str) -> Path | None:
    """The cached snapshot of a branch, tag or commit; None if there is none."""
    commit = revision
    if not COMMIT.fullmatch(revision):
        with suppress(InputError):
            commit = read_text(storage_of(repo) / "refs" / revision, MOST_REF_BYTES).strip()
    folder = snapshot_of(repo, commit)
    return folder if COMMIT.fullmatch(commit) and folder.is_dir() else None


def state_of(repo: str) -> str:
    """What the cache holds of a repository, for a message about a revision that it does not hold."""
    snapshots = storage_of(repo) / "snapshots"
    n = len(list(snapshots.iterdir())) if snapshots.is_dir() else 0
    what = f"{n} other revision{'s' if n > 1 else ''}" if n else "nothing"
    return f"the cache {constants.HF_HUB_CACHE} holds {what} of it"


def write_ref(repo: str, revision: str, commit: str) -> None:
    """Record the commit of a branch or tag. Raises InputError or OSError if the cache cannot be written."""
    if revision != commit and cached_snapshot(repo, revision) != snapshot_of(repo, commit):
        ref = storage_of(repo) / "refs" / revision
        ref.parent.mkdir(parents=True, exist_ok=True)
        write_whole(ref, commit.encode())


def download_to_cache(
    repo: str,
    snapshot: Path,
    file: HubFile,
    tell: Callable[[str], None],
    watch: Callable[[int], None] = lambda n: None,
) -> None:
    """Download a file into the `snapshot` folder, resuming a partial download.

    A file that is there is not requested. `tell` and `watch` are for `download`. Raises InputError if the download
    fails, or the file is not as listed.
    """
    place, blob, part = snapshot / file.name, blob_of(snapshot, file), part_of(snapshot, file)
    lock = snapshot.parents[2] / ".locks" / snapshot.parents[1].name / f"{file.etag}.lock"  # as the Hub's library does
    with raising_input_error(f"{repo}/{file.name}", "cannot be downloaded"):
        for path in (place, blob, lock):
            path.parent.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(lock):
            if place.exists():
                return
            if not blob.exists():
                download(repo, snapshot.name, file, part, tell, watch)
                part.replace(blob)
            link(blob, place)


def blob_of(snapshot: Path, file: HubFile) -> Path:
    """The blob of a file of a snapshot."""
    return snapshot.parents[1] / "blobs" / file.etag


def part_of(snapshot: Path, file: HubFile) -> Path:
    """The partial download of a file."""
    return snapshot.parents[1] / "blobs" / f"{file.etag}.incomplete"


def missing_bytes(snapshot: Path, file: HubFile) -> int:
    """Bytes of a file that are still to be downloaded."""
    if blob_of(snapshot, file).exists():
        return 0
    with suppress(OSError):
        return max(0, file.size - part_of(snapshot, file).stat().st_size)
    return file.size


def link(blob: Path, place: Path) -> None:
    """Link a blob into a snapshot; move it where links are not supported."""
    place.unlink(missing_ok=True)  # a link to a blob that was deleted
    try:
        if getattr(constants, "HF_HUB_DISABLE_SYMLINKS", False):
            raise OSError
        place.symlink_to(os.path.relpath(blob, place.parent))
    except OSError:
        if not place.exists():  # otherwise another process has named it
            blob.replace(place)


def delete_from_cache(file: Path) -> None:
    """Delete a snapshot's file, and its blob unless another name in the cache refers to it.

    A snapshot's file is a link to a blob, which newer caches share between repositories by one more link; without links
    it is the content itself. Files outside the cache are not touched.
    """
    snapshot = root_of(file.parent)
    repo, cache = snapshot.parents[1], snapshot.parents[2]
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
    """The path that a link refers to, which may be a link, too."""
    path = link.parent / os.readlink(link)
    return path.parent.resolve() / path.name
