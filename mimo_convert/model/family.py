"""The interface of a model family: data that maps checkpoints of one GGUF architecture to files, and back."""

import itertools
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from gguf import GGUFValueType

from mimo_convert.formats.config import Config
from mimo_convert.formats.gguf import Entry, is_array
from mimo_convert.formats.tensor import TensorSlice
from quantize.errors import InputError
from quantize.kernels import Floats

from .adapter import AdapterFacts
from .checkpoint import Checkpoint
from .edition import Edition
from .uses import Use

MOST_EXTRA_TENSORS = 1000  # beyond ten times those that are there: sizes that lie may promise billions


@dataclass(frozen=True)
class Source:
    """A tensor of the checkpoint, by name, with the shape that the config implies."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Tensor:
    """A tensor of the GGUF file: the rows of its `sources` concatenated; one source unless fused. `view` is its shape
    in the file, if that is another one of as many weights."""

    name: str
    role: str
    sources: tuple[Source, ...]
    view: tuple[int, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape in the file, as in PyTorch."""
        first = self.sources[0].shape
        return self.view or (sum(source.shape[0] for source in self.sources), *first[1:])


def one(name: str, source: str, role: str, *shape: int, view: tuple[int, ...] = ()) -> Tensor:
    """A tensor `name` of the file with one `source` of the checkpoint."""
    return Tensor(name, role, (Source(source, shape),), view)


@dataclass(frozen=True)
class Layout:
    """The layout of a file: whether Q, K and V of the language model's blocks are fused, the parts it lacks, by name,
    and those of `Family.rare` that it has."""

    fuse_qkv: bool = False
    without: frozenset[str] = frozenset()
    rare: frozenset[str] = frozenset()

    def has(self, part: str) -> bool:
        """Whether a part is in the file."""
        return part not in self.without


SEPARATE = Layout()


class Part(NamedTuple):
    """Tensors that a file may lack: a pattern of their names in checkpoint and file, a phrase for what they do, and the
    option that leaves them out; empty: only files of other tools have them. `why` is the reason that a plan gives for
    leaving them out, by default that it was the option; `check(config)` raises InputError for a checkpoint whose part
    cannot be converted."""

    pattern: str
    words: str
    option: str = ""
    why: str = ""
    check: Callable[[Config], None] = lambda config: None

    @property
    def reason(self) -> str:
        """Why a file lacks it."""
        return self.why or (f"{self.words}, by {self.option}" if self.option else self.words)


class PublishedVocabulary(NamedTuple):
    """Facts of a published model's vocabulary; a file with `vocab_size` tokens is expected to match them."""

    vocab_size: int
    n_merges: int
    n_unused: int
    ids: Mapping[str, int]


@dataclass(frozen=True)
class TextFacts:
    """The tokenizer of a family: `tokenizer.ggml.model` and `.pre`, the first added token, stop tokens, added tokens
    that the prompt requires, and facts of the published vocabulary. `ids` maps fields of the dimensions that hold token
    ids to the tokens' texts."""

    model: str
    pre: str
    first_added: str
    stop_tokens: tuple[str, ...]
    required: tuple[str, ...] = ()
    published: PublishedVocabulary | None = None
    padding_token: str = ""  # empty: the first added one
    normalize_nfc: bool = True
    ids: Mapping[str, str] = field(default_factory=dict)


class Key(NamedTuple):
    """A row of a family's metadata table: a field of its dimensions ↔ a key and value type in the GGUF file.

    A tuple is stored under numbered keys, `key.0`, `key.1`, …; if `is_list`, as one array. `default` is the value for
    files without the key, which older tools do not write. `length` names the field that holds the length of a tuple;
    `least` is the least value of an integer. A size that no key holds is that of the axis number `axis` of the tensor
    called `key`. A file has the keys of a `part` if it has that; else the fields have their defaults. It has a key that
    `is_rare` unless the value is the default.
    """

    field: str
    key: str
    value_type: GGUFValueType = GGUFValueType.UINT32
    default: Any = None
    length: str = ""
    least: int = 1
    is_list: bool = False
    axis: int | None = None
    part: str = ""
    is_rare: bool = False

    def entries(self, dimensions: Any) -> list[Entry]:
        """The metadata entries of the field's value, one per element of a tuple; none for the size of a tensor."""
        value = getattr(dimensions, self.field)
        if self.axis is not None:
            return []
        if self.is_list:
            return [Entry(self.key, list(value), self.value_type)]
        if isinstance(value, tuple):
            return [Entry(f"{self.key}.{i}", element, self.value_type) for i, element in enumerate(value)]
        return [Entry(self.key, value, self.value_type)]

    @property
    def is_numbered(self) -> bool:
        """Whether the field is a tuple, under numbered keys."""
        return not self.is_list and (bool(self.length) or self.default == ())

    def holds(self, name: str) -> bool:
        """Whether the key of that name holds the field, or an element of it."""
        return name == self.key or (name.startswith(f"{self.key}.") and name[len(self.key) + 1 :].isdecimal())

    def names(self, metadata: Mapping[str, Any]) -> list[str]:
        """The keys that a file has for the field: `key`, or `key.0`, `key.1`, …; empty if it has none."""
        if self.key in metadata:
            return [self.key]
        return list(itertools.takewhile(metadata.__contains__, (f"{self.key}.{i}" for i in itertools.count())))

    def value(self, metadata: Mapping[str, Any], tensors: Mapping[str, TensorSlice]) -> Any:
        """The field's value in a file, a tuple for numbered keys and arrays; the default if the file has none."""
        if self.axis is not None:
            shape = tensors[self.key].shape if self.key in tensors else ()
            return shape[self.axis] if self.axis < len(shape) else self.default
        names = self.names(metadata)
        if self.is_list and names:
            found = metadata[self.key]
            return tuple(found.tolist() if isinstance(found, np.ndarray) else found) if is_array(found) else found
        if names and names != [self.key]:
            return tuple(metadata[name] for name in names)
        return metadata[self.key] if names else self.default


class Constant(NamedTuple):
    """A metadata entry of every file of a family, which says what does not vary. Readers that find it missing, or under
    `other_key`, or with another value than ours, refuse the file or compute something else, unless it `may_be_missing`
    or `may_differ`."""

    key: str
    value: Any
    value_type: GGUFValueType
    may_be_missing: bool = False
    may_differ: bool = False
    other_key: str = ""

    @property
    def entry(self) -> Entry:
        """The entry of a file."""
        return Entry(self.key, self.value, self.value_type)


@dataclass(frozen=True)
class Family:
    """One GGUF architecture, and the role of its files in a system.

    `architecture` is the value of `general.architecture`; `config_names` are values of `architectures` or `model_type`
    in config.json. `dimensions` reads the sizes from a config; `keys` write them to metadata and read them back.
    `config_errors(dimensions)` yields contradictions as (found, expected), `config_warnings` values that no known model
    has. `tensors(dimensions, layout)` yields every tensor of the file in order; `skipped` maps patterns of checkpoint
    tensors that belong to no file to the reason; `parts` can be left out; `rare` are sources that only some checkpoints
    have, and then the file. `uses` are those of the matrices, by name,
    each of one at most; recipes speak of them. `about` are the general.* entries of every file, `constants` the others
    that do not vary; `spelled` writes a type in names of files.

    Checkpoints may name tensors in other ways: `canonical` gives the name that `tensors` uses. `computed(dimensions)`
    are float32 tensors that no checkpoint stores, and `tied` are sources that are another tensor of the checkpoint,
    both by source name. `unused_copies` are stored tensors that should be the same as another, by name. `adapters` says
    how adapters name its modules; None: it takes none. `stem_of(dimensions, adapter)` is what files of a model with the
    adapter of that name are called before their type, by default the file stem of its edition; `editions` are the
    published models, if there are several, the last one that of unknown ones. `no_fused_qkv` says why Q, K and V cannot
    be fused; empty: --fuse-qkv does not concern the family.
    """

    architecture: str
    config_names: tuple[str, ...]
    file_stem: str
    role: str
    dimensions: Callable[[Config], Any]
    dimensions_type: type
    keys: Sequence[Key]
    config_errors: Callable[[Any], Iterator[tuple[str, str]]]
    tensors: Callable[[Any, Layout], Iterator[Tensor]]
    about: Mapping[str, Any]
    constants: Sequence[Constant] = ()
    spelled: Callable[[str], str] = str
    config_warnings: Callable[[Any], Iterator[tuple[str, str]]] = lambda dimensions: iter(())
    skipped: Mapping[str, str] = field(default_factory=dict)
    parts: Mapping[str, Part] = field(default_factory=dict)
    rare: Collection[str] = ()
    uses: Sequence[Use] = ()
    can_fuse_qkv: bool = False
    no_fused_qkv: str = ""
    text: TextFacts | None = None
    canonical: Callable[[str], str] = lambda name: name
    computed: Callable[[Any], Mapping[str, Floats]] = lambda dimensions: {}
    tied: Mapping[str, str] = field(default_factory=dict)
    unused_copies: Mapping[str, str] = field(default_factory=dict)
    adapters: AdapterFacts | None = None
    stem_of: Callable[[Any, str], str] | None = None
    editions: Sequence[Edition] = ()

    @cached_property
    def layouts(self) -> list[Layout]:
        """Every layout of the family; the complete one with separate Q, K and V first."""
        fused = (False, True) if self.can_fuse_qkv else (False,)
        every = itertools.product(subsets(self.rare), subsets(self.parts), fused)
        return [Layout(fuse, without, rare) for rare, without, fuse in every]

    @cached_property
    def sized_parts(self) -> frozenset[str]:
        """The parts that have sizes of their own."""
        return frozenset(key.part for key in self.keys if key.part)

    def unsized_parts(self, dimensions: Any) -> frozenset[str]:
        """The parts with sizes of their own that these sizes tell nothing of: no file of them has such a part."""
        told = {key.part for key in self.keys if getattr(dimensions, key.field) != key.default}
        return self.sized_parts - told

    def absent_parts(self, sources: Collection[str]) -> frozenset[str]:
        """The parts with sizes of their own of which a checkpoint has no tensor."""
        return self.sized_parts - {self.part_of(name) for name in sources}

    def layout(self, fuse_qkv: bool = False, without: Iterable[str] = ()) -> Layout:
        """The layout for the user's options, as far as they apply to the family. Raises InputError for fused Q, K and V
        where nothing could read them."""
        if fuse_qkv and self.no_fused_qkv:
            raise InputError("--fuse-qkv", f"is not for {self.architecture}: {self.no_fused_qkv}", todo="leave it out")
        return Layout(fuse_qkv and self.can_fuse_qkv, frozenset(without) & self.parts.keys())

    def layout_from(self, dimensions: Any, sources: Collection[str], layout: Layout) -> Layout:
        """The layout of a file as asked for by `layout` and made of a model of these sizes, with tensors called
        `sources`: without parts that it has not, with what is rare."""
        lacking = layout.without | self.unsized_parts(dimensions) | self.absent_parts(sources)
        return replace(layout, without=lacking, rare=self.rare_in(sources))

    def layout_of(self, names: Collection[str], dimensions: Any) -> Layout:
        """The layout whose tensor names are nearest to those of a file; sizes of a part say whether a file has it."""
        limit = 10 * len(names) + MOST_EXTRA_TENSORS

        def distance(layout: Layout) -> int:
            expected = {tensor.name for tensor in itertools.islice(self.tensors(dimensions, layout), limit)}
            return len(expected ^ set(names))

        unsized = self.unsized_parts(dimensions)
        return min((one for one in self.layouts if one.without & self.sized_parts == unsized), key=distance)

    @property
    def unwritten_parts(self) -> frozenset[str]:
        """The parts that no file of this tool has."""
        return frozenset(name for name, part in self.parts.items() if not part.option)

    def rare_in(self, names: Collection[str]) -> frozenset[str]:
        """The sources, of those that only some checkpoints have, that are among `names`."""
        return frozenset(self.rare) & frozenset(names)

    @cached_property
    def _editions(self) -> Sequence[Edition]:
        """The editions, at least one."""
        return self.editions or (Edition(self.file_stem),)

    @property
    def stems(self) -> tuple[str, ...]:
        """What files of the editions are called before their type, the longest first."""
        return tuple(sorted((edition.file_stem for edition in self._editions), key=len, reverse=True))

    def edition_of(self, config: Config, name: str) -> Edition:
        """The edition of the checkpoint of the model called `name`; the last one if it is unknown."""
        return next((edition for edition in self._editions if edition.is_of(config, name)), self._editions[-1])

    def edition_called(self, stem: str) -> Edition:
        """The edition whose files are called so before their type; the last one if none is."""
        return next((edition for edition in self._editions if edition.file_stem == stem), self._editions[-1])

    def edition_in(self, metadata: Mapping[str, Any]) -> Edition:
        """The edition of a file with that metadata; the last one if it is unknown."""
        return next((edition for edition in self._editions if edition.is_in(metadata)), self._editions[-1])

    def stem(self, dimensions: Any, adapter: str = "", edition: Edition | None = None) -> str:
        """What files of a model of these sizes, with an adapter of that name, are called before their type."""
        if self.stem_of:
            return self.stem_of(dimensions, adapter)
        return edition.file_stem if edition else self.file_stem

    def part_of(self, name: str) -> str | None:
        """The part of a tensor, by its name in the checkpoint or the file; None if it belongs to none."""
        return next((part for part, of in self.parts.items() if re.fullmatch(of.pattern, name)), None)


def subsets(names: Iterable[str]) -> list[frozenset[str]]:
    """Every subset of some names, the empty one first."""
    every = sorted(names)
    return [frozenset(some) for n in range(len(every) + 1) for some in itertools.combinations(every, n)]


def family_named(families: Iterable[Family], architecture: str) -> Family | None:
    """The family with that `general.architecture`; None if it is unknown."""
    return next((family for family in families if family.architecture == architecture), None)


def family_of(families: Sequence[Family], checkpoint: Checkpoint) -> Family:
    """The family of a checkpoint, by its config.json. Raises InputError if it is unknown."""
    return family_of_config(families, checkpoint.config)


def family_of_config(families: Sequence[Family], config: Config) -> Family:
    """The family that a config.json names in `architectures` or `model_type`. Raises InputError if it is unknown."""
    values = config.values
    listed = values.get("architectures")
    names = [*(listed if isinstance(listed, list) else []), values.get("model_type")]
    for family in families:
        if any(name in family.config_names for name in names):
            return family
    found = ", ".join(str(name) for name in names if name) or "nothing"
    known = ", ".join(name for family in families for name in family.config_names)
    raise InputError(config.path, f"names the architecture {found}", expected=f"one of {known}")
