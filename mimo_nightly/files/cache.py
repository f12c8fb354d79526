"""Cache of downloaded files from run to run, bounded by the disk's free space.

A file lies at REPO@REVISION/NAME, and its state when it was verified in NAME.verified: a file that changed since is not
used. A partial download lies at NAME.ETAG.part, so that it is only resumed for the same version.
"""

import json
import os
import re
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from mimo_convert.disk import free_bytes
from mimo_convert.fields import Fields, shown
from mimo_convert.files import write_whole
from mimo_convert.own_files import check_own, read_own
from mimo_convert.sources.hub_listing import HubFile, is_plain_path
from quantize.errors import InputError

VERIFIED, HEADER_ONLY = ".verified", ".header"
OWN = (VERIFIED, HEADER_ONLY, ".part")  # how the cache's own names end
MOST_OF_A_NOTE = 10_000  # bytes
PART = re.compile(r"(.+)\.([0-9a-f]{40,64})\.part")
MARGIN = 1 << 28  # bytes of the disk that are left to others


@dataclass(frozen=True)
class Note:
    """The state of a file when it was verified. `etag` is the Hub's: its sha256, or its git hash."""

    etag: str
    sha256: str
    size: int
    mtime_ns: int


class Held(NamedTuple):
    """A verified file."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class Kept:
    """A file or partial download in the cache: the content's etag, and its paths."""

    path: Path
    etag: str
    names: tuple[Path, ...]

    @property
    def used(self) -> float:
        """When it was last used."""
        return self.names[-1].stat().st_mtime

    @property
    def nbytes(self) -> int:
        """Bytes on disk."""
        return sum(name.stat().st_blocks * 512 for name in self.names if name.exists())

    def delete(self) -> None:
        """Delete its files."""
        for name in self.names:
            name.unlink(missing_ok=True)


class Cache:
    """The cache in `folder`; `free` gives the free bytes of a folder's disk.

    Disk errors are OSErrors. Other files in the folder are not touched.
    """

    def __init__(self, folder: Path, free: Callable[[Path], int] = free_bytes) -> None:
        self.folder, self.free = folder, free

    def place(self, repo: str, revision: str, name: str = "") -> Path:
        """The path of a repository's files, or of one of them, always within the folder.

        Raises InputError for a name that is not a path in a repository, could be one of the cache's own, or leads
        through a symbolic link.
        """
        if name and not may_be_kept(name):
            expected = f"a name without .. and \\, of which no part ends in {', '.join(OWN)}"
            raise InputError(f"{repo}@{revision}", f"the file {shown(name)} cannot be kept", expected=expected)
        place = self.folder / f"{quote(repo, safe='')}@{quote(revision, safe='')}" / name
        for path in (place, *place.parents):
            if path == self.folder:
                break
            if path.is_symlink():
                raise InputError(path, "is a symbolic link", expected="what only nightly runs write", todo="delete it")
        return place

    def names(self, repo: str, revision: str) -> list[str]:
        """The names of the verified files of a repository's revision."""
        place = self.place(repo, revision)
        return sorted(kept.path.name for kept in self._kept(place) if len(kept.names) > 1)

    def find(self, place: Path, file: HubFile) -> Held | None:
        """The verified file of this content: at its path, or under the same name of another repository or revision."""
        for kept in sorted(self._kept(), key=lambda kept: kept.path != place):
            note = read_note(kept.path)
            if note and note.etag == file.etag and kept.path.name == place.name and is_as_noted(kept.path, note):
                os.utime(note_of(kept.path))
                return Held(kept.path, note.sha256)
        return None

    def keep(self, part: Path, place: Path, etag: str, sha256: str) -> Held:
        """Rename a verified partial download, after writing its note."""
        seconds = int(part.stat().st_mtime)
        os.utime(part, (seconds, seconds))  # the archives in which GitLab keeps a cache know no fractions
        status = part.stat()
        check_own(note_of(place))
        note = Note(etag, sha256, status.st_size, status.st_mtime_ns)
        write_whole(note_of(place), json.dumps(asdict(note)).encode())
        part.replace(place)
        return Held(place, sha256)

    def delete_outdated(self, repo: str, revision: str, files: Mapping[str, HubFile]) -> None:
        """Delete files of versions that the repository's revision no longer has, and headers."""
        place = self.place(repo, revision)
        for kept in self._kept(place):
            name = kept.path.relative_to(place).as_posix()
            part = PART.fullmatch(name)
            file = files.get(part[1] if part else name)
            if file is None or file.etag != kept.etag:
                kept.delete()
        for header in place.rglob(f"*.gguf{HEADER_ONLY}"):
            if is_regular(header):
                header.unlink()

    def make_room(self, n: int, needed: Collection[Path], tell: Callable[[str], None]) -> bool:
        """Whether the disk has room for `n` more bytes, after deleting the least recently used files, but none of
        `needed`; if that would not suffice, nothing is deleted."""
        others = sorted((kept for kept in self._kept() if kept.path not in needed), key=lambda kept: kept.used)
        if self._free() + sum(other.nbytes for other in others) < n:
            return False
        for other in others:
            if self._free() >= n:
                break
            tell(f"{other.path}: deleted, to make room")
            other.delete()
        return self._free() >= n

    def _free(self) -> int:
        return self.free(self.folder) - MARGIN

    def _kept(self, place: Path | None = None) -> Iterator[Kept]:
        for path in list((place or self.folder).rglob("*")):
            part = PART.fullmatch(path.name)
            if not is_regular(path):  # a folder; or what somebody else has put there
                continue
            if part:
                yield Kept(path, part[2], (path,))
            elif path.suffix == VERIFIED and path.stem:
                file = path.with_suffix("")
                if file.is_symlink() or file.is_dir():
                    continue
                note = read_note(file)
                yield Kept(file, note.etag if note else "", (file, path))


def may_be_kept(name: str) -> bool:
    """Whether a repository's file of this name can be cached."""
    return is_plain_path(name) and "\\" not in name and not any(part.endswith(OWN) for part in name.split("/"))


def part_of(place: Path, file: HubFile) -> Path:
    """The path of a partial download."""
    return place.with_name(f"{place.name}.{file.etag}.part")


def header_of(place: Path) -> Path:
    """The path of a header without weights."""
    return place.with_name(place.name + HEADER_ONLY)


def note_of(path: Path) -> Path:
    """The path of a file's note."""
    return path.with_name(path.name + VERIFIED)


def read_note(path: Path) -> Note | None:
    """The note of a file; None if there is no valid one."""
    try:
        fields = Fields(path, json.loads(read_own(note_of(path), MOST_OF_A_NOTE)))
        most = 1 << 63  # ns until the year 2262
        return Note(fields.text("etag"), fields.text("sha256"), fields.whole("size"), fields.whole("mtime_ns", most))
    except (InputError, ValueError, RecursionError):
        return None


def is_as_noted(path: Path, note: Note) -> bool:
    """Whether a file is unchanged since it was verified."""
    return is_regular(path) and (path.stat().st_size, path.stat().st_mtime_ns) == (note.size, note.mtime_ns)


def is_regular(path: Path) -> bool:
    """Whether a regular file, not a link, is there."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False
