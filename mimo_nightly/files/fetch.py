"""Fetch a target's files from the Hub into the cache; or only their headers, where the disk has no room."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mimo_convert.disk import free_bytes
from mimo_convert.formats.gguf import MAX_HEADER_BYTES, CutHeaderError, read_gguf
from mimo_convert.numbers_text import size
from mimo_convert.own_files import check_own, create_own
from mimo_convert.sources.hub_download import download
from mimo_convert.sources.hub_errors import is_out_of_reach, raising_input_error, reason, todo
from mimo_convert.sources.hub_listing import HubFile, Listing, read_range, request_listing
from mimo_nightly.history import HEADER, WHOLE, FileRow
from quantize.errors import InputError

from .cache import Cache, header_of, part_of

LISTED = 20  # names of files in a message
TOLD = 1 << 29  # bytes between two lines about how much has arrived
HEADER_BLOCK = 1 << 20  # bytes of a file asked for at first; most headers of speech LMs take a few more


@dataclass(frozen=True)
class Fetched:
    """The files of a target at a commit, by their names in the repository, which holds `names`.

    With scope HEADER, `paths` are sparse files of full size with only the header.
    """

    commit: str
    names: Collection[str]
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
    """Fetch files of a repository at a branch, tag or commit into the folder `cache`.

    `tell` gets lines about progress; `free` gives the free bytes of a folder's disk. Raises InputError if the
    repository, revision or file does not exist, the Hub or the network fails, or a file is not as listed. A cache may
    be used by one process at a time.
    """
    listing = listed_at(repo, revision, cache)
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


def listed_at(repo: str, revision: str, cache: Path) -> Listing:
    """List a repository. Raises InputError as `list_repo`; if the Hub is out of reach, with what is cached."""
    where = f"{repo}@{revision}"
    with raising_input_error(where, "cannot be listed"):
        try:
            return request_listing(where, repo, revision)
        except Exception as error:
            if not is_out_of_reach(error):
                raise
            n = len(Cache(cache).names(repo, revision))
            state = f"the cache {cache} holds {n or 'no'} file{'s' * (n != 1)} of it{', maybe outdated' if n else ''}"
            raise InputError(where, f"cannot be listed: {reason(error)}; {state}", todo=todo(error)) from error


def listed(listing: Listing, revision: str, name: str) -> HubFile:
    """The listed file of that name. Raises InputError if there is none."""
    if name not in listing.files:
        names = sorted(name for name in listing.files if name.endswith(".gguf"))
        there = ", ".join(names[:LISTED])
        if len(names) > LISTED:
            there += f" or one of {len(names) - LISTED} more"
        where = f"{listing.repo}@{revision}"
        raise InputError(where, f"has no file {name}", expected=there or "a GGUF file, and it has none")
    return listing.files[name]


def whole_files(
    cache: Cache, listing: Listing, places: Mapping[HubFile, Path], tell: Callable[[str], None]
) -> Fetched | None:
    """Every file, verified; None if the disk has no room for them."""
    held = {file: there for file, place in places.items() if (there := cache.find(place, file))}
    parts = {file: part_of(place, file) for file, place in places.items() if file not in held}
    for part in parts.values():
        check_own(part)
    to_come = sum(file.size - (part.stat().st_size if part.exists() else 0) for file, part in parts.items())
    if not cache.make_room(to_come, {*parts.values(), *(there.path for there in held.values())}, tell):
        tell(f"{listing.repo}: the disk has no room for {size(to_come)}; only the headers are fetched")
        return None
    for file, part in parts.items():
        tell(f"{listing.repo}/{file.name}: downloading {size(file.size)}")
        sha256 = download(listing.repo, listing.commit, file, part, tell, Progress(listing.repo, file, tell))
        held[file] = cache.keep(part, places[file], file.etag, sha256)
    paths = {file.name: held[file].path for file in places}
    rows = [row(listing, file, held[file].sha256) for file in places]
    return Fetched(listing.commit, listing.files, WHOLE, paths, rows)


class Progress:
    """Called with the number of bytes present; reports it every TOLD bytes."""

    def __init__(self, repo: str, file: HubFile, tell: Callable[[str], None]) -> None:
        self.where, self.file, self.tell, self.told = f"{repo}/{file.name}", file, tell, 0

    def __call__(self, n: int) -> None:
        if n // TOLD > self.told // TOLD:
            self.tell(f"{self.where}: {size(n)} of {size(self.file.size)}")
        self.told = n


def headers(listing: Listing, places: Mapping[HubFile, Path], tell: Callable[[str], None]) -> Fetched:
    """Fetch the header of every file."""
    paths = {file.name: header_of(place) for file, place in places.items()}
    for file in places:
        fetch_header(listing, file, paths[file.name])
        tell(f"{listing.repo}/{file.name}: its header is here")
    rows = [row(listing, file, file.sha256) for file in places]
    return Fetched(listing.commit, listing.files, HEADER, paths, rows)


def fetch_header(listing: Listing, file: HubFile, path: Path) -> None:
    """Write a sparse file of full size with at least the header's bytes.

    A damaged header is left to the lint.
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
    """Whether a partial GGUF file ends within its header."""
    try:
        read_gguf(path)
    except CutHeaderError:
        return True
    except InputError:  # the weights are not there; or the header is damaged, and more of it would not help
        return False
    return False


def row(listing: Listing, file: HubFile, sha256: str) -> FileRow:
    """A listed file as a row of the history."""
    return FileRow(file.name, sha256, file.size, listing.commit, file.etag)
