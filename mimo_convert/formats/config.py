"""Values of a checkpoint's config.json, validated as they are taken."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mimo_convert.formats.json_file import SURROGATE
from quantize.errors import InputError

FLOAT32_MAX = float(np.finfo(np.float32).max)


class Config:
    """A JSON object whose values are taken by dotted key and type. Raises InputError for a missing or wrong value."""

    def __init__(self, path: Path, values: Mapping[str, Any]) -> None:
        self.path, self.values = path, values

    def get(self, *keys: str, kind: type = int, default: Any = None) -> Any:
        """The value of the first of `keys` that is present ("a.b" is key b of the object a), else `default`."""
        for key in keys:
            value = self._find(key)
            if value is None:
                continue
            if kind is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < FLOAT32_MAX:
                value = float(value)
            if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
                raise InputError(self.path, f"{key} is {value!r}", expected=f"a value of type {kind.__name__}")
            if isinstance(value, float) and not abs(value) <= FLOAT32_MAX:
                raise InputError(self.path, f"{key} is {value!r}", expected="a number that float32 can hold")
            if isinstance(value, str) and SURROGATE.search(value):
                raise InputError(self.path, f"{key} is {value!r}", expected="text that UTF-8 can hold")
            return value
        if default is None:
            raise InputError(self.path, f"{keys[0]} is missing", todo="complete config.json")
        return default

    def _find(self, key: str) -> Any:
        """The value under a dotted key, or None."""
        value: Any = self.values
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value

    def positive(self, *keys: str, default: Any = None, most: int = (1 << 31) - 1) -> int:
        """An integer from 1 to `most`."""
        value = int(self.get(*keys, default=default))
        if not 1 <= value <= most:
            key = next((key for key in keys if self._find(key) is not None), keys[0])
            raise InputError(self.path, f"{key} is {value}", expected=f"a positive number of at most {most}")
        return value

    def must_be(self, key: str, *allowed: Any) -> None:
        """Raise InputError if `key` is present and not one of `allowed`, the values that the family supports."""
        value = self._find(key)
        if value is not None and value not in allowed:
            choice = " or ".join(json.dumps(a) for a in allowed)
            raise InputError(self.path, f"{key} is {json.dumps(value)}", expected=f"{choice}, all this family knows")
