"""What a folder tells of the Hub's repository that it was downloaded from; nothing is asked of the network.

Two kinds of folder do (huggingface_hub: "Understand caching", "Download files to a local folder"): a snapshot of the
cache, `models--OWNER--NAME/snapshots/COMMIT`, whose files are links to blobs called by their hash; and one that
`hf download --local-dir` wrote, with `.cache/huggingface/download/FILE.metadata`: commit, hash and time, a line each.
"""

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
REPO_FOLDER = re.compile(r"models--(.+?)--(.+)")


class Downloaded(NamedTuple):
    """A file as it was downloaded; `sha256` is empty for a small one, which the Hub calls by another hash."""

    commit: str
    sha256: str


def repository_of(folder: Path, files: list[Path]) -> tuple[str, str]:
    """The repository, OWNER/NAME, and the commit that `files` of the folder were downloaded from; empty if unknown."""
    commits = {downloaded(file).commit for file in files}
    commit = commits.pop() if len(commits) == 1 else ""
    found = REPO_FOLDER.fullmatch(folder.absolute().parents[1].name) if len(folder.absolute().parents) > 1 else None
    return f"{found[1]}/{found[2]}" if found and is_snapshot(folder) else "", commit


def downloaded(file: Path) -> Downloaded:
    """What is known of one file; empty texts if it is nobody's download, or was changed since."""
    folder = file.parent
    if is_snapshot(folder):
        target = Path(os.readlink(file)).name if file.is_symlink() else ""
        return Downloaded(folder.absolute().name, target if SHA256.fullmatch(target) else "")
    with suppress(OSError, ValueError):
        note = folder / ".cache" / "huggingface" / "download" / f"{file.name}.metadata"
        commit, etag, time = note.read_text().split()
        if COMMIT.fullmatch(commit) and file.stat().st_mtime - 1 <= float(time):  # as the library itself judges
            return Downloaded(commit, etag if SHA256.fullmatch(etag) else "")
    return Downloaded("", "")


def is_snapshot(folder: Path) -> bool:
    """Whether a folder is a snapshot of the Hub's cache."""
    absolute = folder.absolute()
    return absolute.parent.name == "snapshots" and COMMIT.fullmatch(absolute.name) is not None
