"""Untrusted JSON: bounded in size and depth, UTF-8 without a byte order mark, no duplicate keys."""

import json
import re
from pathlib import Path
from typing import Any

from mimo_convert.files import MOST_JSON_BYTES, read_bytes
from quantize.errors import InputError

SURROGATE = re.compile("[\ud800-\udfff]")  # JSON can say half a character; UTF-8 cannot
MAX_DEPTH = 64
TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"


def parse_json(data: bytes) -> Any:
    """Parse JSON. Raises ValueError, with a message of one line, for anything else."""
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_object)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    _check_depth(value)
    return value


def _check_depth(value: Any) -> None:
    """Raise ValueError for a value nested deeper than MAX_DEPTH."""
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(MAX_DEPTH - 1):
        each = (child for node in level for child in (node.values() if isinstance(node, dict) else node))
        level = [child for child in each if isinstance(child, (dict, list))]
        if not level:
            return
    raise ValueError(TOO_DEEP)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"duplicate key {twice!r}")
    return values


def read_json(path: Path, most: int = MOST_JSON_BYTES) -> dict[str, Any]:
    """Read the JSON object in a file of at most `most` bytes. Raises InputError for any other file."""
    data = read_bytes(path, most, expected="a JSON file", todo="a checkpoint folder must hold it")
    try:
        value = parse_json(data)
    except ValueError as error:
        raise InputError(path, f"not JSON ({error})", todo="download it again") from error
    if not isinstance(value, dict):
        raise InputError(path, f"holds a {type(value).__name__}", expected="a JSON object")
    return value
