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
    """`text` escaped; what is longer than `most` characters is cut, and says how long it is."""
    shown = escaped(text[:most])
    return shown if len(text) <= most and len(shown) <= most else f"{shown[:most]}… (of {len(text):,} characters)"


def quoted(text: object, most: int = MOST) -> str:
    """`text` as it may stand within a line, shortened to `most` characters."""
    return shortened(str(text), most)
