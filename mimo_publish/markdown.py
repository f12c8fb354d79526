"""Escape untrusted text for Markdown: none of it is markup, in paragraphs, table cells or HTML.

Characters become entities rather than backslash escapes, since the Hub looks for formulas before it parses Markdown
(CommonMark 0.31.2, entity and numeric character references).
"""

import re
from urllib.parse import quote

PUNCTUATION = re.compile(r"""[!"#$%&'()*+\-./:;<=>?@\[\\\]^_`{|}~]""")
# Inside of a line; an underscore between letters is one, and a colon begins an address only before two slashes.
ACTIVE = re.compile(r"[#$&*<>@\[\\\]`{|}~]|:(?=//)|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
PLAIN = re.compile(r"[\w +,./@=-]+", re.ASCII)


def text(value: str) -> str:
    """Escape text within a line; not at its beginning, where a number or dash would start a list."""
    return ACTIVE.sub(_entity, " ".join(value.split()))


def code(value: str) -> str:
    """A name as code; as HTML if it contains what a code span or table cell does not allow."""
    return f"`{value}`" if PLAIN.fullmatch(value) and value == value.strip() else f"<code>{_all_entities(value)}</code>"


def url(name: str) -> str:
    """A link to a file beside the card."""
    return quote(name)


def block(lines: str, language: str = "") -> str:
    """A fenced code block; the fence is longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall("`+", lines)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{lines}\n{fence}"


def _all_entities(value: str) -> str:
    return PUNCTUATION.sub(_entity, value.translate({ord("\n"): "⏎", ord("\r"): "␍", ord("\t"): "⇥"}))


def _entity(found: re.Match[str]) -> str:
    return f"&#{ord(found[0])};"
