"""Text that XML and HTML may hold: file names and tokens can have any character in them, a page can not."""

import re
from typing import Any

FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufdcf\ufdf0-\ufffd\U00010000-\U0010ffff]")


def safe(value: Any) -> Any:
    """The same data with each forbidden character of its texts written as its number: a lone surrogate as `\\ud800`."""
    if isinstance(value, str):
        return FORBIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", value)
    if isinstance(value, dict):
        return {safe(key): safe(entry) for key, entry in value.items()}
    return [safe(entry) for entry in value] if isinstance(value, (list, tuple)) else value
