"""What a model family is: data that says how its checkpoints become GGUF files. Each is one file of this folder."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from gguf import GGUFValueType

from quantize.errors import InputError

from ..checkpoint import Config

PYTHON_TYPES = {GGUFValueType.UINT32: int, GGUFValueType.FLOAT32: float, GGUFValueType.STRING: str}


@dataclass(frozen=True)
class Source:
    """A tensor of the checkpoint: its name and the shape the config promises."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Tensor:
    """A tensor of the GGUF file: the rows of its `sources`, one below the other (one source unless fused)."""

    name: str
    role: str
    sources: tuple[Source, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        first = self.sources[0].shape
        return (sum(source.shape[0] for source in self.sources), *first[1:])


class Key(NamedTuple):
    """A row of a family's metadata table: field of its dimensions ↔ key and type in the GGUF file.

    A field that is a tuple of numbers is one key an element, `key.0`, `key.1`, …. `default` is what a file without the
    key means: files of older tools lack the keys that ours adds, and their readers assume the published model.
    `length` names the field that says how many elements a tuple has.
    """

    field: str
    key: str
    type: GGUFValueType = GGUFValueType.UINT32
    default: Any = None
    length: str = ""


@dataclass(frozen=True)
class Family:
    """One model family.

    `architectures` is what config.json calls it, in `architectures` or `model_type`; `gguf` what `general.architecture`
    says. `dimensions` reads the family's sizes from a config; `keys` writes the same to metadata and reads it back.
    `tensors(dimensions, fuse_qkv)` lists every tensor of the file in order; `left_out` are patterns of checkpoint
    tensors that are no part of it, each with the reason.
    """

    gguf: str
    architectures: tuple[str, ...]
    file_stem: str
    dimensions: Callable[[Config], Any]
    dimensions_type: type
    keys: Sequence[Key]
    tensors: Callable[[Any, bool], list[Tensor]]
    left_out: Mapping[str, str]
    has_vocabulary: bool
    about: Mapping[str, Any]  # general.* entries that every file of the family carries


def dimensions_of_file(family: Family, path: Path, metadata: Mapping[str, Any]) -> Any:
    """The family's dataclass of sizes, read back from a GGUF file's metadata.

    Raises InputError for a key that is missing or of the wrong type.
    """
    values = {}
    for field, key, type, default, _ in family.keys:
        kind = PYTHON_TYPES[type]
        found = metadata.get(key, default)
        if found is None and f"{key}.0" in metadata:
            keys = itertools.takewhile(metadata.__contains__, (f"{key}.{i}" for i in itertools.count()))
            found = tuple(metadata[element] for element in keys)
        for value in found if isinstance(found, tuple) else (found,):
            if not isinstance(value, kind) or isinstance(value, bool):
                what = "is missing" if value is None else f"is {value!r}"
                raise InputError(path, f"key {key} {what}", expected=f"a value of type {kind.__name__}")
        values[field] = found
    for field, key, *_, length in family.keys:
        if length and len(values[field]) != values[length]:
            raise InputError(
                path, f"keys {key}.N: {len(values[field])} of them", expected=f"{values[length]} ({length})"
            )
    return family.dimensions_type(**values)
