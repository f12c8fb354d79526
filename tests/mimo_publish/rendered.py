"""A model card as its readers see it: Markdown made HTML, in a page that looks much as the Hub's do."""

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

from markdown_it import MarkdownIt

VOID = {"br", "img", "hr"}
STYLE = """
:root { color-scheme: light dark;
  --paper: #fff; --ink: #1f2328; --quiet: #59636e; --hair: #d1d9e0; --shade: #f6f8fa; --link: #0969da; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #0d1117; --ink: #f0f6fc; --quiet: #9198a1; --hair: #3d444d; --shade: #151b23; --link: #4493f8; } }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 -apple-system, "Segoe UI", "Noto Sans", Helvetica, Arial, sans-serif; overflow-wrap: break-word; }
h1, h2 { padding-bottom: .3em; border-bottom: 1px solid var(--hair); } a { color: var(--link); }
table { display: block; width: max-content; max-width: 100%; overflow: auto; border-collapse: collapse; }
th, td { padding: 6px 13px; border: 1px solid var(--hair); } tr:nth-child(2n) td { background: var(--shade); }
code { padding: .2em .4em; font-size: 85%; background: var(--shade); border-radius: 6px;
  font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
pre { padding: 16px; overflow: auto; background: var(--shade); border-radius: 6px; } pre code { padding: 0; }
blockquote { margin: 0 0 16px; padding: 0 1em; color: var(--quiet); border-left: .25em solid var(--hair); }
img { max-width: 100%; } sub { line-height: 0; font-size: 75%; }
"""


def as_html(card: str) -> str:
    """The card's Markdown, without its metadata, as HTML; tables and struck text as GitHub and the Hub have them."""
    body = re.sub(r"\A---\n.*?\n---\n", "", card, flags=re.DOTALL)
    return str(MarkdownIt("gfm-like", {"linkify": False}).render(body))


def write_page(folder: Path, card: str, plots: dict[str, str]) -> Path:
    """The card as a page beside its plots."""
    for name, svg in plots.items():
        (folder / name).write_text(svg, encoding="utf-8")
    page = folder / "card.html"
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    page.write_text(
        f'<!DOCTYPE html><html lang="en"><head>{head}<link rel="icon" href="data:,"><title>card</title>'
        f"<style>{STYLE}</style></head><body>{as_html(card)}</body></html>",
        encoding="utf-8",
    )
    return page


@dataclass
class Element:
    tag: str
    attributes: dict[str, str | None]
    children: list["Element | str"] = field(default_factory=list)

    @property
    def text(self) -> str:
        """What is read: a line break is a space."""
        if self.tag == "br":
            return " "
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    def all(self, *tags: str) -> list["Element"]:
        """Every element of these tags in it, in order."""
        below = [child for child in self.children if isinstance(child, Element)]
        return [found for child in below for found in ([child] if child.tag in tags else []) + child.all(*tags)]


class Reader(HTMLParser):
    """HTML → elements. An element that is closed by another's end, or not at all, is a failure."""

    def __init__(self) -> None:
        super().__init__()
        self.open = [Element("body", {})]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs))
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert tag in VOID or self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def read(card: str) -> Element:
    """The card's body as elements."""
    reader = Reader()
    reader.feed(as_html(card))
    reader.close()
    [body] = reader.open
    return body


def tables(body: Element) -> list[list[list[str]]]:
    """The text of every cell of every row of every table."""
    return [
        [[cell.text.strip() for cell in row.all("th", "td")] for row in table.all("tr")] for table in body.all("table")
    ]


def table(body: Element, first: str) -> list[list[str]]:
    """The first table whose first cell says `first`."""
    return next(rows for rows in tables(body) if rows[0][0] == first)
