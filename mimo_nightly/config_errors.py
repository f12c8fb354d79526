"""Validation errors of the config as InputErrors: file, table, key, found, expected, what to do."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from mimo_convert.fields import one_of, shown
from quantize.errors import InputError

from .config_schema import NAME, Expected

A_TABLE = "a table"


def as_input_error(path: Path, schema: type[BaseModel], values: object, error: ValidationError) -> InputError:
    """The first validation error of `values`, read from the file `path`."""
    first = error.errors(include_url=False, include_input=False)[0]
    kind, loc = first["type"], first["loc"]
    if kind == "table":
        return InputError(_where(path, locate(schema, values, loc).inside), **first["ctx"])
    if kind == "extra_forbidden":
        table = locate(schema, values, loc[:-1])
        key = str(loc[-1])
        known = list(table.schema.model_fields)
        return InputError(_where(path, table.inside), f"has the unknown key {shown(key)}", **one_of(key, known))
    place = locate(schema, values, loc)
    found = f"has no {place.key}" if kind == "missing" else f"{place.key} is {shown(place.value)}"
    return InputError(_where(path, place.table), found, expected=place.expected)


@dataclass(frozen=True)
class Place:
    """The location of a value: `key` of `table`, which is empty for top-level keys.

    `schema` is the expected type, `expected` the same as text; `inside` is the value's name if it is a table.
    """

    table: str
    key: str
    value: Any
    schema: Any
    expected: str
    inside: str


def locate(schema: type[BaseModel], values: object, loc: Sequence[int | str]) -> Place:
    """The location of pydantic's `loc`; of an element in a list of values, that of the list."""
    place = Place("", "", values, schema, A_TABLE, "")
    for part in loc:
        if not _has_tables(place.schema):
            break
        place = _element(place, part) if isinstance(part, int) else _entry(place, part)
    return place


def _has_tables(schema: Any) -> bool:
    """Whether a type is a table, or a list or mapping of tables."""
    return any(isinstance(kind, type) and issubclass(kind, BaseModel) for kind in (schema, *get_args(schema)))


def _entry(table: Place, key: str) -> Place:
    """The value at a key of a table."""
    value = table.value.get(key) if isinstance(table.value, dict) else None
    inside = f"{table.inside} [{key}]".strip()
    if args := get_args(table.schema):
        return Place(table.inside, key, value, args[-1], A_TABLE, inside)
    field = table.schema.model_fields[key]
    words = [mark.words for mark in field.metadata if isinstance(mark, Expected)]
    return Place(table.inside, key, value, field.annotation, (*words, A_TABLE)[0], inside)


def _element(tables: Place, index: int) -> Place:
    """A table in a list of tables: by name, or by number."""
    value = tables.value[index]
    name = value.get("name") if isinstance(value, dict) else None
    called = name if isinstance(name, str) and NAME.fullmatch(name) else f"number {index + 1}"
    inside = f"[[{tables.key}]] {called}"
    return Place(tables.table, f"{tables.key} {index + 1}", value, get_args(tables.schema)[0], A_TABLE, inside)


def _where(path: Path, table: str) -> str:
    return f"{path}: {table}" if table else str(path)
