"""Text that others wrote, as it may stand in Markdown: nothing in it is markup, wherever the card has it.

By entities, not backslashes: they mean the same in paragraphs, table cells and HTML, and the Hub looks for formulas
before it reads Markdown (CommonMark 0.31.2, entity and numeric character references).
"""

import re
from urllib.parse import quote

PUNCTUATION = re.compile(r"""[!"#$%&'()*+\-./:;<=>?@\[\\\]^_`{|}~]""")
# Inside of a line; an underscore between letters is one, and a colon begins an address only before two slashes.
ACTIVE = re.compile(r"[#$&*<>@\[\\\]`{|}~]|:(?=//)|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
PLAIN = re.compile(r"[\w +,./@=-]+", re.ASCII)


def text(value: str) -> str:
    """Text inside of a line: not at its beginning, where a number or a dash would make a list of it."""
    return ACTIVE.sub(_entity, " ".join(value.split()))


def code(value: str) -> str:
    """A name, in the type of code; as HTML if it holds what a code span or a table cell would not."""
    return f"`{value}`" if PLAIN.fullmatch(value) and value == value.strip() else f"<code>{_all_entities(value)}</code>"


def url(name: str) -> str:
    """A file beside the card, as the target of a link."""
    return quote(name)


def block(lines: str, language: str = "") -> str:
    """Lines of code, fenced by more backticks than there are in them."""
    longest = max((len(run) for run in re.findall("`+", lines)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{lines}\n{fence}"


def _all_entities(value: str) -> str:
    return PUNCTUATION.sub(_entity, value.translate({ord("\n"): "⏎", ord("\r"): "␍", ord("\t"): "⇥"}))


def _entity(found: re.Match[str]) -> str:
    return f"&#{ord(found[0])};"
