"""Sphinx's configuration of the documentation site: `make docs`.

The source folder is the checkout itself, so that links between README.md, CHANGELOG.md and docs/ are those that GitHub
follows. The navigation is the list in docs/README.md.
"""

import re
from importlib.metadata import version as version_of
from itertools import groupby
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

import mimo_api

ROOT = Path(__file__).parents[2]
INDEX = ROOT / "docs" / "README.md"
HEADING_OR_PAGE = re.compile(r"^(?:## (?P<heading>.+)|- \[(?P<title>[^]]+)\]\((?P<page>[^)]+)\.md\).*)$", re.MULTILINE)
LOADED = re.compile(r"""<(?:script|img|iframe|link[^>]*rel="(?:stylesheet|preload|icon)")[^>]*="(?:https?:)?//[^"]*""")
IMPORTED = re.compile(r"""(?:url\(|@import)\s*["']?(?:https?:)?//[^"')]*""")

project = "mimo-convert"
version = release = version_of(project)
extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "README"
include_patterns = ["README.md", "CHANGELOG.md", "docs/**.md"]
highlight_language = "none"
default_role = "code"  # single backquotes of docstrings

html_theme = "furo"
html_title = f"{project} {release}"
html_additional_pages = {"index": "forward.html"}
templates_path = ["."]
html_copy_source = html_show_sphinx = html_show_copyright = False

myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "description"


def setup(app: Sphinx) -> None:
    """Connect what is ours."""
    for name in getattr(mimo_api, "__all__", ()):
        getattr(mimo_api, name)  # autodoc leaves out, without a word, what cannot be imported
    app.connect("source-read", add_navigation)
    app.connect("autodoc-process-docstring", mark_code)
    app.connect("autodoc-process-signature", shorten_defaults)
    app.connect("autodoc-skip-member", skip_fields_of_tuples)
    app.connect("build-finished", refuse_foreign_parts)


def add_navigation(app: Sphinx, page: str, source: list[str]) -> None:
    """The navigation, behind the first page: a tree for each heading of the index, in its order, with its titles."""
    if page == root_doc:
        source[0] += "".join(trees(INDEX.read_text(encoding="utf-8")))


def trees(index: str) -> list[str]:
    """Each heading's pages, as a hidden toctree; before them the index itself."""
    found, heading = [("", "Quickstart <self>"), ("", "All pages <docs/README>")], ""
    for line in HEADING_OR_PAGE.finditer(index):
        heading = line["heading"] or heading
        if line["page"]:
            path = (INDEX.parent / line["page"]).resolve().relative_to(ROOT)
            found.append((heading, f"{line['title']} <{path}>"))
    return [
        "\n".join(["", "```{toctree}", ":hidden:", *captions(heading), *(entry for _, entry in entries), "```", ""])
        for heading, entries in groupby(found, key=lambda entry: entry[0])
    ]


def captions(heading: str) -> list[str]:
    """A toctree's option for a heading, if there is one."""
    return [f":caption: {heading}"] if heading else []


def mark_code(app: Sphinx, what: str, name: str, value: object, options: object, lines: list[str]) -> None:
    """Indented blocks of a docstring are code, as in Markdown."""
    for number in range(len(lines) - 1, 0, -1):
        if lines[number].startswith("    ") and not lines[number - 1]:
            before = next((line for line in reversed(lines[:number]) if line), "")
            if before and not before.startswith("    "):
                lines[number:number] = [".. code-block:: python", ""]


def shorten_defaults(
    app: Sphinx, what: str, name: str, value: object, options: object, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Defaults as they are on every machine: paths within the package, and no objects."""
    if signature:
        signature = signature.replace("PosixPath(", "Path(").replace(f"{ROOT}/", "").replace("<factory>", "...")
    return signature, returns


def skip_fields_of_tuples(app: Sphinx, what: str, name: str, value: Any, skip: bool, options: object) -> bool | None:
    """A NamedTuple's fields, which its signature has, say no more than their number."""
    return True if (getattr(value, "__doc__", None) or "").startswith("Alias for field number") else None


def refuse_foreign_parts(app: Sphinx, error: Exception | None) -> None:
    """A page that loads anything from elsewhere is an error: the site works without a network, and tells nobody who
    reads it."""
    for path in Path(app.outdir).rglob("*"):
        if path.suffix in (".html", ".css", ".svg"):
            pattern = LOADED if path.suffix == ".html" else IMPORTED
            if found := pattern.search(path.read_text(encoding="utf-8")):
                raise ExtensionError(f"{path}: loads {found[0]}")
