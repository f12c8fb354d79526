"""Paths in options: a program may give them as text."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any


def with_paths(options: Any) -> None:
    """Make paths of the texts in the fields of a frozen dataclass that are declared as `Path`, also in sequences and
    mappings."""
    for field in fields(options):
        if "Path" in str(field.type):
            object.__setattr__(options, field.name, as_paths(getattr(options, field.name)))


def as_paths(value: Any) -> Any:
    """A text as a path, and the texts in a sequence or mapping."""
    if isinstance(value, str):
        return Path(value)
    if isinstance(value, Mapping):
        return {key: as_paths(one) for key, one in value.items()}
    return tuple(map(as_paths, value)) if isinstance(value, (list, tuple)) else value
