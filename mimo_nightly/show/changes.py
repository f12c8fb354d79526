"""Changes between two runs of a target: its files, their revisions, and versions."""

from collections.abc import Mapping
from itertools import chain

from mimo_nightly.history import FileRow, TargetResult

DIGITS = 12  # of a hash or commit that are written
NONE = "none"


def changes(before: TargetResult, after: TargetResult) -> list[str]:
    """A line per difference; empty if nothing changed.

    Values that one of the two does not have are not compared.
    """
    return [*_file_changes(before, after), *_version_changes(before.versions, after.versions)]


def short(digest: str) -> str:
    """The first digits of a hash or commit."""
    return f"{digest[:DIGITS]}…" if len(digest) > DIGITS else digest


def _file_changes(before: TargetResult, after: TargetResult) -> list[str]:
    if not before.files or not after.files:
        return []
    old, new = ({file.name: file for file in result.files} for result in (before, after))
    both = [(old[name], new[name]) for name in new if name in old]
    content = [f"{name}: no longer there" for name in old if name not in new]
    content += [f"{name}: new" for name in new if name not in old]
    content += chain.from_iterable(_content_changes(one, other) for one, other in both)
    moved = [(one.revision, other.revision) for one, other in both if one.revision != other.revision]
    # files of one repository have one commit
    return content + [f"revision {short(one) or NONE} → {short(other) or NONE}" for one, other in dict.fromkeys(moved)]


def _content_changes(old: FileRow, new: FileRow) -> list[str]:
    """Compare hashes; ETags where a file was not fetched as a whole."""
    for what, one, other in (("sha256", old.sha256, new.sha256), ("etag", old.etag, new.etag)):
        if one and other:
            return [f"{new.name}: {what} {short(one)} → {short(other)}"] if one != other else []
    return [f"{new.name}: {old.size:,} → {new.size:,} bytes"] if old.size != new.size else []


def _version_changes(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    if not old or not new:
        return []
    names = dict.fromkeys([*old, *new])
    found = {name: (old.get(name, NONE), new.get(name, NONE)) for name in names}
    return [f"{name} {one} → {other}" for name, (one, other) in found.items() if one != other]
