"""Replace numbers that JSON cannot represent."""

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any


def finite(value: Any) -> Any:
    """Replace NaN and infinity by None throughout a record."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{one.name: finite(getattr(value, one.name)) for one in fields(value) if one.init})
    if isinstance(value, Mapping):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(finite, value))
    return value
