"""Text from outside as a terminal, a log or a report may show it: in one line, escaped, and of bounded length.

A name in a file can hold anything: an escape sequence that clears the screen, a line break that forges a line, a
megabyte. What is not printable by Unicode is written as Python writes it (`\\x1b`, `\\u202e`), so that nothing is lost.
"""

MOST = 200  # characters of a name, unless said otherwise


def escaped(text: str) -> str:
    """`text` with every character that is not printable written as its number; printable text as it is."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def shortened(text: str, most: int = MOST) -> str:
    """The first `most` characters of `text`, and how many more there are."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text) - most:,} more characters)"


def quoted(text: object, most: int = MOST) -> str:
    """`text` in one line: its lines joined by spaces, shortened to `most` characters, escaped."""
    line = shortened(str(text), most)
    return escaped(" ".join(line.splitlines()) if not line.isprintable() else line)
