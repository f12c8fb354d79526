"""The source of a conversion: a model stored in a checkpoint or a GGUF file."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFValueType

from mimo_convert.formats.gguf import Entry
from mimo_convert.formats.tensor import TensorSlice, computed_tensor
from mimo_convert.formats.vocabulary import Vocabulary
from mimo_convert.sources.shards import LocalShards
from quantize.recipes import Rule
from quantize.types import F32, Type

from .adapter import Adapter
from .checkpoint import Checkpoint
from .edition import Edition
from .family import SEPARATE, Family, Layout, TextFacts
from .gguf_facts import FILE_TYPE, backends_of_file, check_ids, recorded_rules, type_of_file
from .model_file import ModelFile, OpenFiles
from .provenance import (
    ADAPTER_OMITTED,
    NO_PROVENANCE,
    Provenance,
    adapter_entries,
    base_model_entries,
    provenance_of,
)

QUANTIZATION_VERSION = 2  # GGML_QNT_VERSION
SAMPLED_ROWS = 64


@dataclass(frozen=True)
class SourceModel:
    """A model to convert.

    `where` is its folder or file; `tensors` are slices by checkpoint name, whatever file holds them; `metadata` is that
    of the output. For a GGUF file: `layout`, the `backends` of its blocks, its declared `outtype` and `rules`,
    `recipe_problem` if its rules are malformed (and `rules` empty), and its `provenance`. For a checkpoint, the hashes
    of its shards are to be recorded; `adapter` is what its tensors are adapted by. `edition` is the published model
    that it is one of.
    """

    where: Path
    name: str
    family: Family
    dims: Any
    tensors: Mapping[str, TensorSlice]
    metadata: Sequence[Entry]
    shards: LocalShards = field(default_factory=LocalShards)
    layout: Layout = SEPARATE
    backends: frozenset[str] = frozenset()
    outtype: Type | None = None
    rules: tuple[Rule, ...] = ()
    recipe_problem: str = ""
    provenance: Provenance = NO_PROVENANCE
    is_checkpoint: bool = False
    adapter: Adapter | None = None
    edition: Edition | None = None

    def fetch_adapter(self) -> None:
        """Wait until what is added to the tensors can be read. Raises InputError if it cannot be downloaded."""
        if self.adapter:
            self.adapter.fetch()


def model_of_checkpoint(checkpoint: Checkpoint, family: Family) -> SourceModel:
    """The model in a checkpoint. Raises InputError for config or tokenizer files that do not fit its family."""
    dims = family.dimensions(checkpoint.config)
    edition = family.edition_of(checkpoint.config, checkpoint.name)
    about = _about(checkpoint, {**family.about, **edition.about})
    metadata = [*about, *_sizes(family, dims), *(one.entry for one in family.constants)]
    if family.text:
        vocabulary = checkpoint.vocabulary(dims.vocab_size, family.text.required, family.text.first_added)
        check_ids(checkpoint.config.path, dims, vocabulary.tokens, family.text)
        metadata += _vocabulary(vocabulary, family.text)
    tensors = {**checkpoint.renamed(family.canonical).tensors, **_computed(checkpoint, family, dims)}
    tensors |= {name: tensors[of] for name, of in family.tied.items() if of in tensors}
    return SourceModel(
        checkpoint.folder, checkpoint.name, family, dims, tensors, metadata, checkpoint.shards, is_checkpoint=True,
        adapter=checkpoint.adapter, edition=edition,
    )  # fmt: skip


def _computed(checkpoint: Checkpoint, family: Family, dims: Any) -> dict[str, TensorSlice]:
    """The tensors that the sizes determine, by source name."""
    path = checkpoint.config.path
    return {name: computed_tensor(name, path, values) for name, values in family.computed(dims).items()}


def unlike_copies(model: SourceModel) -> Iterator[str]:
    """Describe stored tensors that are not used, since they should be copies of another, and are not, by a sample of
    rows. Shards that are not here are not judged."""
    for name, of in model.family.unused_copies.items():
        copy, used = model.tensors.get(name), model.tensors.get(of)
        if copy and used and all(model.shards.is_here(tensor.file) for tensor in (copy, used)):
            step = max(1, used.n_rows // SAMPLED_ROWS)
            rows = range(0, used.n_rows, step) if copy.shape == used.shape else ()
            if not rows or any(not np.array_equal(copy.read(row, 1), used.read(row, 1)) for row in rows):
                yield f"{copy.file}: tensor {copy.name} is not the same as {used.name}, and not used"


def model_of_file(path: Path, files: OpenFiles) -> SourceModel:
    """The model in a GGUF file. Raises InputError if it could not be run."""
    model = files.model(path)
    file = model.check().file
    rules, recipe_problem = recorded_rules(file)
    return SourceModel(
        file.path,
        file.path.name,
        model.family,
        model.dims,
        dict(_tensors_of_file(model)),
        file.entries,
        files.shards,
        layout=model.layout,
        backends=backends_of_file(file),
        outtype=type_of_file(file),
        rules=rules,
        recipe_problem=recipe_problem,
        provenance=provenance_of(file),
        edition=model.family.edition_in(file.metadata),
    )


def _tensors_of_file(model: ModelFile) -> Iterator[tuple[str, TensorSlice]]:
    """The file's tensors by checkpoint name; a fused tensor is split into slices of its rows, named as in Python:
    `qkv.weight[512:640]`."""
    for tensor in model.family.tensors(model.dims, model.layout):
        stored = model.file.tensors[tensor.name]
        if len(tensor.sources) == 1:
            yield tensor.sources[0].name, replace(stored, shape=tensor.sources[0].shape) if tensor.view else stored
            continue
        begin, row = stored.begin, 0
        for source in tensor.sources:
            end = row + source.shape[0]
            part = replace(stored, name=f"{stored.name}[{row}:{end}]", shape=source.shape, begin=begin)
            begin, row = begin + part.nbytes, end
            yield source.name, part


def metadata_in(model: SourceModel, layout: Layout) -> list[Entry]:
    """The model's metadata for a file of that layout: without the sizes of parts that it lacks."""
    lacking = [key for key in model.family.keys if key.part in layout.without]
    return [entry for entry in model.metadata if not any(key.holds(entry.key) for key in lacking)]


def metadata_of_type(metadata: Iterable[Entry], file_type: int | None, told: Mapping[str, str | int]) -> list[Entry]:
    """`metadata` for a file of that `general.file_type` (None: unchanged), with the entries of `told` replaced; an
    empty text, or 0, removes an entry."""
    entries = [entry for entry in metadata if entry.key not in told]
    if file_type is not None:
        declared = Entry(FILE_TYPE, file_type, GGUFValueType.UINT32)
        entries = [declared if entry.key == FILE_TYPE else entry for entry in entries]
        if declared not in entries:
            entries.append(declared)
    types = {str: GGUFValueType.STRING, int: GGUFValueType.UINT32}
    return entries + [Entry(key, value, types[type(value)]) for key, value in told.items() if value]


def _about(checkpoint: Checkpoint, own: Mapping[str, Any]) -> list[Entry]:
    string, uint = GGUFValueType.STRING, GGUFValueType.UINT32
    about = {"general.type": "model", "general.name": checkpoint.name, **own}
    entries = [Entry(key, value, string) for key, value in about.items()]
    entries += [
        Entry(FILE_TYPE, F32.file_type, uint),  # the plan puts its own
        Entry("general.quantization_version", QUANTIZATION_VERSION, uint),
    ]
    entries += base_model_entries(checkpoint.name, checkpoint.repo, checkpoint.revision)
    adapter, omitted = checkpoint.adapter, checkpoint.omitted_adapter
    entries += [Entry(ADAPTER_OMITTED, omitted, string)] if omitted else []
    return entries + (adapter_entries(adapter) if adapter else [])


def _sizes(family: Family, dims: Any) -> list[Entry]:
    keys = (key for key in family.keys if not (key.is_rare and getattr(dims, key.field) == key.default))
    return [entry for key in keys for entry in key.entries(dims)]


def _vocabulary(vocabulary: Vocabulary, text: TextFacts) -> list[Entry]:
    string, uint = GGUFValueType.STRING, GGUFValueType.UINT32
    return [
        Entry("tokenizer.ggml.model", text.model, string),
        Entry("tokenizer.ggml.pre", text.pre, string),
        Entry("tokenizer.ggml.tokens", vocabulary.tokens, string),
        Entry("tokenizer.ggml.token_type", vocabulary.token_types, GGUFValueType.INT32),
        Entry("tokenizer.ggml.merges", vocabulary.merges, string),
        Entry("tokenizer.ggml.eos_token_id", vocabulary.eos_token_id, uint),
        Entry("tokenizer.ggml.padding_token_id", vocabulary.padding_token_id, uint),
    ]
