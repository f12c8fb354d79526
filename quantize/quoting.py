"""Untrusted text for a terminal, a log or a report: one line, escaped, of bounded length.

A name in a file can hold anything: terminal escape sequences, line breaks, a megabyte. Characters that are not
printable by Unicode are written as Python escapes (`\\x1b`, `\\u202e`).
"""

MOST = 200  # characters of a name, unless said otherwise


def escaped(text: str) -> str:
    """Escape every character of `text` that is not printable."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def shortened(text: str, most: int = MOST) -> str:
    """Escape `text`; cut it after `most` characters and append its length."""
    shown = escaped(text[:most])
    return shown if len(text) <= most and len(shown) <= most else f"{shown[:most]}… (of {len(text):,} characters)"


def quoted(text: object, most: int = MOST) -> str:
    """Escape and shorten `text` to `most` characters, to stand within a line."""
    return shortened(str(text), most)
