"""What stands in Markdown documents: links, anchors, blocks of code."""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
README, DOCS = ROOT / "README.md", ROOT / "docs"
PAGES = [README, ROOT / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]
HTML_ID = re.compile(r"""\b(?:id|name)=["']([^"']+)""")
PARSER = MarkdownIt("commonmark").enable("table")


class Block(NamedTuple):
    """A fenced block of code: its language, its text, and the line that it begins in."""

    language: str
    text: str
    line: int


def tokens(page: Path) -> list[Token]:
    """A page's tokens, those of lines behind the one that holds them."""
    found = PARSER.parse(page.read_text(encoding="utf-8"))
    return [one for token in found for one in (token, *(token.children or ()))]


def links(page: Path) -> Iterator[str]:
    """The targets of a page's links and pictures."""
    for token in tokens(page):
        target = token.attrGet("href") or token.attrGet("src")
        if target:
            yield str(target)


def anchors(page: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them of its headings, and those in its HTML."""
    found, seen = set(), Counter[str]()
    parsed = PARSER.parse(page.read_text(encoding="utf-8"))
    for token, inline in pairwise(parsed):
        if token.type == "heading_open":
            name = anchor("".join(child.content for child in inline.children or ()))
            found.add(f"{name}-{seen[name]}" if seen[name] else name)
            seen[name] += 1
    return found.union(*(HTML_ID.findall(token.content) for token in tokens(page) if token.type.startswith("html")))


def anchor(heading: str) -> str:
    """GitHub's anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def blocks(page: Path) -> list[Block]:
    """A page's fenced blocks of code."""
    parsed = PARSER.parse(page.read_text(encoding="utf-8"))
    return [Block(token.info, token.content, (token.map or [0])[0] + 1) for token in parsed if token.type == "fence"]
