"""The destination of a publication, its options, and the command that publishes there."""

import os
import re
import shlex
from dataclasses import dataclass, fields
from pathlib import Path

from quantize.errors import InputError

from .shell import path as path_argument

MAIN = "main"  # the branch of a new repository
# What git-check-ref-format(1) refuses in a name.
NO_REF_NAME = re.compile(r"^$|^@$|^[-/]|[/.]$|[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|\.lock(?:/|$)|(?:^|/)\.")
OPTIONS = {  # field of a Destination → its option; the repository is each command's own
    "private": "--private",
    "yes": "--yes",
    "even_if_failed": "--even-if-failed",
    "card_only": "--card-only",
    "create_pr": "--create-pr",
    "template": "--card-template",
    "agreement": "--agreement",
    "base_model": "--base-model",
    "revision": "--revision",
    "message": "--commit-message",
    "tag": "--tag",
    "collection": "--collection",
    "delete": "--delete",
    "delete_confirmed": "--delete-confirmed",
}


@dataclass(frozen=True)
class Destination:
    """A repository of the Hub, and what is to happen there.

    `even_if_failed`: files that failed are published, too; `template` is the card's, None for the default; `base_model`
    is for files that do not record theirs. `revision` is the branch, made if it is missing, or an open pull request,
    `refs/pr/N`; `create_pr`: a new pull request gets the commit. `message` is the commit's, None for the default, and
    `tag` a new name for it. `collection` is the slug or title of the collection that gets the repository.

    `delete` are patterns of files to delete in the same commit, `delete_confirmed` is the number of them that the
    publisher has agreed to. `card_only`: the card and what else is made from the report, for files that are published.
    `agreement` is the JSON of a `mimo-check agreement` on the files, for the card.
    """

    repo: str
    private: bool = False
    yes: bool = False
    even_if_failed: bool = False
    template: Path | None = None
    base_model: str | None = None
    revision: str = MAIN
    create_pr: bool = False
    message: str | None = None
    tag: str | None = None
    collection: str | None = None
    delete: tuple[str, ...] = ()
    delete_confirmed: int | None = None
    card_only: bool = False
    agreement: Path | None = None

    def check(self) -> None:
        """Raise InputError for values that no repository could take, and for options that contradict each other."""
        check_ref_name("--revision", self.revision)
        if self.tag is not None:
            check_ref_name("--tag", self.tag)
        for option, values in {"--commit-message": [self.message], "--delete": self.delete}.items():
            if any(value is not None and not value.strip() for value in values):
                raise InputError(option, "is empty", todo="give a text, or leave it out")
        if self.tag is not None and (self.create_pr or self.revision.startswith("refs/")):
            what = "the commit of a pull request is in no branch yet"
            raise InputError("--tag", what, todo="make the tag once the pull request is merged")
        if self.delete_confirmed is not None and not self.delete:
            raise InputError(
                "--delete-confirmed", "requires --delete, which was not given", todo="give both, or neither"
            )


def check_ref_name(option: str, name: str) -> None:
    """Raise InputError unless `name` can name a branch or tag in git."""
    if NO_REF_NAME.search(name):
        raise InputError(option, repr(name), expected="a name that git takes, such as v1.0")


def publish_command(folder: Path, report: Path, to: Destination) -> str:
    """The command that publishes the files of `folder`, which `report` is about, there: as printed, a shell runs it."""
    words = ["mimo-publish", path_argument(str(folder)), "--to", to.repo, "--report", path_argument(str(report))]
    return " ".join(map(shell_word, [*words, *as_arguments(to)]))


def as_arguments(to: Destination) -> list[str]:
    """The options of a destination that are not at their defaults, as arguments."""
    arguments = []
    defaults = {field.name: field.default for field in fields(to)}
    for name, option in OPTIONS.items():
        value = getattr(to, name)
        if value == defaults[name]:
            continue
        if value is True:
            arguments.append(option)
        else:
            given = value if isinstance(value, tuple) else [value]
            arguments += [word for one in given for word in (option, str(one))]
    return arguments


def shell_word(word: str) -> str:
    """Quote a word for a POSIX shell; as bash and zsh do where a terminal could not show it."""
    if word.isprintable():
        return shlex.quote(word)
    kept = set(range(0x20, 0x7F)) - {ord("\\"), ord("'")}
    return "$'" + "".join(chr(byte) if byte in kept else f"\\x{byte:02x}" for byte in os.fsencode(word)) + "'"
