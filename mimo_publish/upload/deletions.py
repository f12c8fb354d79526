"""Files of the repository that the same commit deletes: which, and whether the publisher agrees."""

import sys
from collections.abc import Collection
from dataclasses import dataclass

from huggingface_hub import constants
from huggingface_hub.utils import filter_repo_objects  # type: ignore[attr-defined]

from mimo_convert import numbers_text
from mimo_convert.sources.hub_listing import HubFile
from quantize.errors import InputError

from ..destination import Destination
from .changes import counted
from .refs import Tell
from .remote import Remote

GGUF = ".gguf"
NEVER = (".gitattributes", "README.md")  # what the Hub itself reads
OPTION, CONFIRMED = "--delete", "--delete-confirmed"


@dataclass(frozen=True)
class Deletions:
    """`files` are to be deleted; `kept` match a pattern and stay, as the repository's own files and those of this
    publication do; `idle` are patterns that match nothing."""

    files: tuple[HubFile, ...] = ()
    kept: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """Number and size of the files."""
        return counted([file.size for file in self.files])


def find_deletions(remote: Remote, patterns: Collection[str], ours: Collection[str]) -> Deletions:
    """The remote files that match a pattern of `hf upload --delete`: `*` also matches `/`, and `FOLDER/` all in it.

    `ours` are the files that are published or described now. Raises InputError if no GGUF file would be left of those
    that are there.
    """
    matches = {one: set(filter_repo_objects(remote.files, allow_patterns=[one])) for one in patterns}
    names = sorted(set().union(*matches.values()))
    kept = tuple(name for name in names if name in ours or name in NEVER)
    files = tuple(remote.files[name] for name in names if name not in kept)
    there = {name for name in remote.files if name.endswith(GGUF)}
    if there and there <= {file.name for file in files}:
        raise InputError(
            OPTION, f"would delete every GGUF file that is in {remote.repo}: {', '.join(sorted(there))}",
            expected="a pattern that leaves one", todo="publish the new files first, and then delete",
        )  # fmt: skip
    return Deletions(files, kept, tuple(one for one in patterns if not matches[one]))


def tell_of_deletions(deletions: Deletions, repo: str, tell: Tell) -> None:
    """Tell what matches a pattern and stays, and which patterns match nothing."""
    if deletions.kept:
        tell(f"--delete: {', '.join(deletions.kept)} {'stay' if len(deletions.kept) > 1 else 'stays'}")
    for pattern in deletions.idle:
        tell(f"--delete {pattern!r}: no file of {repo} matches it")


def listed(deletions: Deletions, remote: Remote) -> str:
    """The files to delete, a line each with its size."""
    width = max(len(file.name) for file in deletions.files)
    lines = [f"  {file.name:<{width}}  {numbers_text.size(file.size):>12}" for file in deletions.files]
    return "\n".join(["", f"{remote.repo}  to be deleted: {deletions.summary}", *lines, ""])


def is_agreed(deletions: Deletions, to: Destination) -> bool:
    """Whether the options agree to the deletions; if not, the publisher is to be asked.

    Raises InputError if the number is another than was agreed to, or there is no terminal to ask at.
    """
    n = len(deletions.files)
    if not n:
        return True
    if to.delete_confirmed not in (None, n):
        expected = f"{n}, the number of files that would be deleted"
        raise InputError(CONFIRMED, f"{to.delete_confirmed}", expected=expected, todo="look at the list")
    if to.yes and to.delete_confirmed == n:
        return True
    if not sys.stdin.isatty():
        what = f"{deletions.summary} would be deleted, and there is no terminal to ask at"
        raise InputError(OPTION, what, todo=f"look at the list, and give --yes {CONFIRMED} {n} to agree")
    return False


def way_back(remote: Remote) -> str:
    """The revision with the deleted files, and its page."""
    return f"{remote.head}: {constants.ENDPOINT}/{remote.repo}/tree/{remote.head}"
