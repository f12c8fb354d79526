"""Replace characters that XML and HTML forbid: file names and tokens can contain any."""

import re
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufdcf\ufdf0-\ufffd\U00010000-\U0010ffff]")


def safe(value: Any) -> Any:
    """Escape forbidden characters of every text in a record: a lone surrogate becomes `\\ud800`."""
    return with_texts(value, lambda text: FORBIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def with_texts(value: Any, change: Callable[[str], str]) -> Any:
    """Apply `change` to every text of a record, including keys of mappings."""
    if isinstance(value, str):
        return change(value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(
            value, **{one.name: with_texts(getattr(value, one.name), change) for one in fields(value) if one.init}
        )
    if isinstance(value, Mapping):
        return {with_texts(key, change): with_texts(entry, change) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        found = (with_texts(entry, change) for entry in value)
        return tuple(found) if isinstance(value, tuple) else list(found)
    return value
