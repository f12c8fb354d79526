"""The Hub repository of a local folder, without network access.

Two kinds of folders record it (huggingface_hub: "Understand caching", "Download files to a local folder"): a snapshot
of the cache, `models--OWNER--NAME/snapshots/COMMIT`, whose files link to blobs named by hash; and one that `hf download
--local-dir` wrote, with `.cache/huggingface/download/FILE.metadata`: commit, hash and time, a line each.
"""

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
NOTES = Path(".cache", "huggingface", "download")
REPO_FOLDER = re.compile(r"models--(.+?)--(.+)")


class Downloaded(NamedTuple):
    """A downloaded file; `sha256` is empty for a small file, which has a git hash."""

    commit: str
    sha256: str


def repository_of(folder: Path, files: list[Path]) -> tuple[str, str]:
    """The repository, OWNER/NAME, and the commit of a folder's `files`; empty if unknown."""
    commits = {downloaded(file).commit for file in files}
    commit = commits.pop() if len(commits) == 1 else ""
    root = root_of(folder).absolute()
    found = REPO_FOLDER.fullmatch(root.parents[1].name) if len(root.parents) > 1 else None
    return f"{found[1]}/{found[2]}" if found and is_snapshot(root) else "", commit


def root_of(folder: Path) -> Path:
    """The folder of the repository that `folder` is in, or one of its folders: itself unless that is above it."""
    above = folder.absolute().parent
    inside = is_snapshot(above) or (above / NOTES).is_dir()
    return above if inside and not (is_snapshot(folder) or (folder / NOTES).is_dir()) else folder


def downloaded(file: Path) -> Downloaded:
    """Commit and sha256 of a file; empty if it was not downloaded, or changed since."""
    folder = root_of(file.parent)
    if is_snapshot(folder):
        target = Path(os.readlink(file)).name if file.is_symlink() else ""
        return Downloaded(folder.absolute().name, target if SHA256.fullmatch(target) else "")
    with suppress(OSError, ValueError):
        inside = file.absolute().relative_to(folder.absolute())
        note = folder / NOTES / inside.with_name(f"{file.name}.metadata")
        commit, etag, time = note.read_text().split()
        if COMMIT.fullmatch(commit) and file.stat().st_mtime - 1 <= float(time):  # as the library itself judges
            return Downloaded(commit, etag if SHA256.fullmatch(etag) else "")
    return Downloaded("", "")


def is_snapshot(folder: Path) -> bool:
    """Whether a folder is a snapshot of the Hub's cache."""
    absolute = folder.absolute()
    return absolute.parent.name == "snapshots" and COMMIT.fullmatch(absolute.name) is not None
