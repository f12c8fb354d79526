"""What a model family is: data that says how its checkpoints become GGUF files. Each is one file of this folder."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from gguf import GGUFValueType

from ..checkpoint import Config


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


def one(name: str, source: str, role: str, *shape: int) -> Tensor:
    """A tensor `name` of the file that is the checkpoint's `source`."""
    return Tensor(name, role, (Source(source, shape),))


class PublishedVocabulary(NamedTuple):
    """What is known of a published model's vocabulary; a file with `vocab_size` tokens claims to hold it."""

    vocab_size: int
    n_merges: int
    n_unused: int
    ids: Mapping[str, int]


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
    `conflicts(dimensions)` gives what in them contradicts itself, as (what is, what should be), and `oddities` what is
    no contradiction, but so in no model that is known. `published` is the vocabulary of the family's published model.
    `tensors(dimensions, fuse_qkv, asr_only)` gives every tensor of the file in order; `left_out` are patterns of
    checkpoint tensors that are no part of it, each with the reason. `speech_generation` is the pattern of those that a
    file for recognition alone may do without, under their names there and here.
    """

    gguf: str
    architectures: tuple[str, ...]
    file_stem: str
    dimensions: Callable[[Config], Any]
    dimensions_type: type
    keys: Sequence[Key]
    conflicts: Callable[[Any], Iterator[tuple[str, str]]]
    tensors: Callable[[Any, bool, bool], Iterator[Tensor]]
    left_out: Mapping[str, str]
    speech_generation: str
    has_vocabulary: bool
    needed_tokens: tuple[str, ...]  # what the prompt is made of, beside plain text
    about: Mapping[str, Any]  # general.* entries that every file of the family carries
    oddities: Callable[[Any], Iterator[tuple[str, str]]] = lambda dims: iter(())
    published: PublishedVocabulary | None = None
