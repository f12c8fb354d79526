"""A target's files from the Hub: those that are not in the cache as they are listed now; or, where the disk has no room
for them, what stands before their weights."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mimo_convert.disk import free_bytes
from mimo_convert.gguf_file import MAX_HEADER_BYTES, CutHeaderError, read_gguf
from mimo_convert.hub_listing import HubFile, Listing, list_repo, read_range
from quantize.errors import InputError
from runtime_check.page_numbers import size

from .cache import Cache, header_of, part_of
from .download import download
from .history import HEADER, WHOLE, FileRow
from .own_files import check_own, create_own

LISTED = 20  # names of files in a message
HEADER_BLOCK = 1 << 20  # bytes of a file asked for at first; most headers of speech LMs take a few more


@dataclass(frozen=True)
class Fetched:
    """The files of a target at a commit, by their names in the repository.

    With scope HEADER, `paths` are sparse files of the full size with only the header in them.
    """

    commit: str
    scope: str
    paths: Mapping[str, Path]
    rows: Sequence[FileRow]


def fetch(
    repo: str,
    revision: str,
    names: Sequence[str],
    cache: Path,
    tell: Callable[[str], None],
    free: Callable[[Path], int] = free_bytes,
) -> Fetched:
    """See to it that files of a repository at a branch, tag or commit are in the folder `cache`, as they are now.

    `tell` is given lines about what takes time; `free` says how many bytes the disk of a folder has left. Raises
    InputError if there is no such repository, revision or file, if the Hub or the network refuses, or if what arrives
    is not what was listed. One process at a time may use a cache.
    """
    listing = list_repo(repo, revision)
    files = [listed(listing, revision, name) for name in dict.fromkeys(names)]
    kept = Cache(cache, free)
    places = {file: kept.place(repo, revision, file.name) for file in files}
    try:
        kept.delete_outdated(repo, revision, listing.files)
        for place in places.values():
            place.parent.mkdir(parents=True, exist_ok=True)
        return whole_files(kept, listing, places, tell) or headers(listing, places, tell)
    except OSError as error:
        raise InputError(cache, f"cannot be used as a cache: {error.strerror}", todo="give another folder") from error


def listed(listing: Listing, revision: str, name: str) -> HubFile:
    """The file of a name."""
    if name not in listing.files:
        names = sorted(name for name in listing.files if name.endswith(".gguf"))
        there = ", ".join(names[:LISTED]) + f" or one of {len(names) - LISTED} more" * (len(names) > LISTED)
        where = f"{listing.repo}@{revision}"
        raise InputError(where, f"has no file {name}", expected=there or "a GGUF file, and it has none")
    return listing.files[name]


def whole_files(
    cache: Cache, listing: Listing, places: Mapping[HubFile, Path], tell: Callable[[str], None]
) -> Fetched | None:
    """Every file, verified; None if they are more than the disk can hold."""
    held = {file: there for file, place in places.items() if (there := cache.find(place, file))}
    parts = {file: part_of(place, file) for file, place in places.items() if file not in held}
    for part in parts.values():
        check_own(part)
    to_come = sum(file.size - (part.stat().st_size if part.exists() else 0) for file, part in parts.items())
    if not cache.make_room(to_come, {*parts.values(), *(there.path for there in held.values())}, tell):
        tell(f"{listing.repo}: the disk has no room for {size(to_come)}; only the headers are fetched")
        return None
    for file, part in parts.items():
        tell(f"{listing.repo}/{file.name}: fetching {size(file.size)}")
        sha256 = download(listing.repo, listing.commit, file, part, tell)
        held[file] = cache.keep(part, places[file], file.etag, sha256)
    paths = {file.name: held[file].path for file in places}
    return Fetched(listing.commit, WHOLE, paths, [row(listing, file, held[file].sha256) for file in places])


def headers(listing: Listing, places: Mapping[HubFile, Path], tell: Callable[[str], None]) -> Fetched:
    """Of every file what stands before its weights."""
    paths = {file.name: header_of(place) for file, place in places.items()}
    for file in places:
        fetch_header(listing, file, paths[file.name])
        tell(f"{listing.repo}/{file.name}: its header is here")
    return Fetched(listing.commit, HEADER, paths, [row(listing, file, file.sha256) for file in places])


def fetch_header(listing: Listing, file: HubFile, path: Path) -> None:
    """Make a sparse file as long as the Hub's, with the Hub's bytes at least up to the end of the header.

    One that is damaged is the static check's to describe.
    """
    most = min(file.size, MAX_HEADER_BYTES)
    begin, end = 0, min(HEADER_BLOCK, most)
    check_own(path)
    with create_own(path) as content:
        while begin < end:
            content.write(read_range(listing.repo, listing.commit, file.name, begin, end))
            content.flush()
            begin, end = end, min(2 * end, most) if is_cut(path) else end
        content.truncate(file.size)


def is_cut(path: Path) -> bool:
    """Whether a file that has only the beginning of a GGUF file ends within its header."""
    try:
        read_gguf(path)
    except CutHeaderError:
        return True
    except InputError:  # the weights are not there; or the header is damaged, and more of it would not help
        return False
    return False


def row(listing: Listing, file: HubFile, sha256: str) -> FileRow:
    return FileRow(file.name, sha256, file.size, listing.commit, file.etag)
