"""How this project is installed, for messages and model cards: decided by the project's own metadata, here alone.

Its `[project.urls]` say where it can be had (PyPA, "Well-known Project URLs in Metadata"):
a `Download` URL is its page on the package index, a `Source` (or `Repository`, `GitHub`) URL its git repository.
Without either, a checkout is installed, and no index is asked for a name that might be somebody else's.
"""

import re
import shlex
from collections.abc import Iterable
from functools import cache
from importlib.metadata import metadata
from typing import NamedTuple

PROJECT = "mimo-convert"
INDEX_LABELS = {"download"}
SOURCE_LABELS = {"source", "repository", "sourcecode", "github"}
HOME_LABELS = ("homepage", *sorted(SOURCE_LABELS), *INDEX_LABELS)  # what a link to the project leads to, the best first
WEB_ADDRESS = re.compile(r"https?://[^\s<>\"'()\\]+")
VERSION = re.compile(r"[0-9][0-9A-Za-z.+!-]*")


class Installation(NamedTuple):
    """What `pip install` is given, and a note on what that is (empty: nothing to say)."""

    requirement: str
    note: str = ""

    @property
    def line(self) -> str:
        """A line of a shell: the command, and the note as a comment."""
        return f"{self.command}{f'  # {self.note}' if self.note else ''}"

    @property
    def phrase(self) -> str:
        """The command within a sentence, and the note in parentheses."""
        return f"{self.command}{f' ({self.note})' if self.note else ''}"

    @property
    def command(self) -> str:
        """The command."""
        return shlex.join(["pip", "install", self.requirement])


def installation(extra: str = "", version: str = "") -> Installation:
    """How to install the project with an `extra`, in a `version` (empty or not one: any)."""
    return choose_installation(project_urls(), extra, version)


def choose_installation(urls: Iterable[str], extra: str, version: str) -> Installation:
    """The same by `Project-URL` entries, each `label, URL`."""
    found = _by_label(urls)
    name = f"{PROJECT}[{extra}]" if extra else PROJECT
    version = version if VERSION.fullmatch(version) else ""
    if found.keys() & INDEX_LABELS:
        return Installation("==".join(filter(None, (name, version))))
    for label in sorted(found.keys() & SOURCE_LABELS):
        return Installation(f"{name} @ git+{found[label]}{f'@v{version}' if version else ''}")
    return Installation(f"/path/to/{name}", f"a checkout of {PROJECT}{f' {version}' if version else ''}")


def home_page() -> str:
    """The address of the project's page; empty if its metadata names none."""
    return choose_home_page(project_urls())


def choose_home_page(urls: Iterable[str]) -> str:
    """The same by `Project-URL` entries, each `label, URL`."""
    found = _by_label(urls)
    return next((found[label] for label in HOME_LABELS if WEB_ADDRESS.fullmatch(found.get(label, ""))), "")


@cache
def project_urls() -> tuple[str, ...]:
    """The `Project-URL` entries of the installed project."""
    return tuple(metadata(PROJECT).get_all("Project-URL") or ())


def _by_label(urls: Iterable[str]) -> dict[str, str]:
    return {_normalized(label): url for label, _, url in (entry.partition(", ") for entry in urls)}


def _normalized(label: str) -> str:
    return re.sub(r"[\W_]", "", label).lower()
