"""What the publisher sees before an upload, and is asked."""

import sys
from collections.abc import Collection, Mapping, Sequence

import click

from mimo_convert import numbers_text
from quantize.errors import InputError

from ..destination import MAIN, Destination
from .changes import UNCHANGED, Change, counted
from .deletions import Deletions, is_agreed
from .refs import Tell
from .remote import Remote

DELETES = "deletes"


def as_text(
    changes: Sequence[Change], deletions: Deletions, remote: Remote, to: Destination, checked: Mapping[str, str]
) -> str:
    """The changes, a line per file; `checked` are the verdicts of files by name."""
    rows = [(one.file.name, one.file.size, one.kind) for one in changes]
    rows += [(file.name, file.size, DELETES) for file in deletions.files]
    width = max(len(name) for name, _, _ in rows)
    lines = [
        f"  {name:<{width}}  {numbers_text.size(size):>12}  {kind:<9}  {checked.get(name, '')}".rstrip()
        for name, size, kind in rows
    ]
    return "\n".join(["", f"{place(to)}  {state(remote, to)}", *lines, ""])


def place(to: Destination) -> str:
    """The repository, with its branch unless that is main."""
    return to.repo if to.revision == MAIN else f"{to.repo}@{to.revision}"


def state(remote: Remote, to: Destination) -> str:
    """What is known of the repository."""
    if not remote.asked:
        return "the Hub was not asked"
    new = "new" if not remote.exists else "new branch" if remote.new_branch else ""
    private = remote.private if remote.exists else to.private
    words = ["private" if private else "public", new, "as a pull request" if to.create_pr else ""]
    return ", ".join(filter(None, words))


def tell_of_others(remote: Remote, deletions: Deletions, described: Collection[str], tell: Tell) -> None:
    """Warn about GGUF files in the repository that the new card will not mention."""
    gone = {file.name for file in deletions.files}
    others = [name for name in remote.files if name.endswith(".gguf") and name not in described and name not in gone]
    if others:
        tell(
            f"{remote.repo} also holds {', '.join(others)}, which the card will not mention: "
            "`mimo-publish` a folder with all of them"
        )


def agree(changes: Sequence[Change], deletions: Deletions, remote: Remote, to: Destination) -> None:
    """Ask whether to upload, and anew whether to delete. Raises KeyboardInterrupt if the answer is no, InputError
    without a terminal to ask at."""
    agreed = is_agreed(deletions, to)
    sent = [change.file for change in changes if change.kind != UNCHANGED]
    if sent and not to.yes:
        ask(f"Upload {counted([file.size for file in sent])}, in one commit?")
    elif remote.new_branch and not to.yes:
        ask(f"Create the branch {to.revision} at {remote.head[:7]}?")
    if not agreed:
        ask(f"Delete {deletions.summary}, in the same commit? Revision {remote.head} will still have them.")


def ask(question: str) -> None:
    """Ask for confirmation. Raises KeyboardInterrupt if it is denied, InputError without a terminal."""
    if not sys.stdin.isatty():
        raise InputError("--yes", "there is no terminal to ask at", todo="give --yes to upload without being asked")
    try:
        agreed = click.confirm(question)
    except click.Abort:  # Ctrl-C, or the end of what is typed
        agreed = False
    if not agreed:
        raise KeyboardInterrupt("nothing was uploaded")
