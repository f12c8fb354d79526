"""A model as it is stored, in a checkpoint or a GGUF file: what every conversion begins with."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gguf import GGUFValueType

from quantize.errors import InputError
from quantize.recipes import Rule
from quantize.types import F32, Type

from .checkpoint import Checkpoint
from .gguf_file import Entry, GGUFFile, read_gguf
from .model_file import (
    FILE_TYPE,
    checked_dimensions,
    is_asr_only,
    is_fused,
    quantizers_of_file,
    recorded_rules,
    type_of_file,
    vocabulary_of_file,
)
from .models import FAMILIES, Family, family_named, family_of
from .provenance import NOTHING_TOLD, Provenance, base_model_entries, provenance_of
from .shards import LocalShards
from .stored import StoredTensor
from .vocabulary import Vocabulary, read_vocabulary

QUANTIZATION_VERSION = 2  # GGML_QNT_VERSION


@dataclass(frozen=True)
class StoredModel:
    """What is to be converted.

    `where` is the folder or file it is stored in; `tensors` go by their names in a checkpoint, whatever holds them;
    `metadata` is that of the file to be. `asr_only` and `fused` say how a GGUF file is laid out, `quantizers` what made
    its blocks; `type` and `rules` are what it says that its tensors' types follow from, `recipe_problem` why its rules
    cannot be read, and are none; `provenance` is what it says of where it comes from. Of a checkpoint, the hashes of
    its files are to be recorded.
    """

    where: Path
    name: str
    family: Family
    dims: Any
    tensors: Mapping[str, StoredTensor]
    metadata: Sequence[Entry]
    shards: LocalShards = field(default_factory=LocalShards)
    fused: bool = False
    asr_only: bool = False
    quantizers: frozenset[str] = frozenset()
    type: Type | None = None
    rules: tuple[Rule, ...] = ()
    recipe_problem: str = ""
    provenance: Provenance = NOTHING_TOLD
    is_checkpoint: bool = False


def model_of_checkpoint(checkpoint: Checkpoint) -> StoredModel:
    """The model in a checkpoint. Raises InputError for config or vocabulary files that are not as its family's."""
    family = family_of(checkpoint)
    dims = family.dimensions(checkpoint.config)
    vocabulary = None
    if family.has_vocabulary:
        vocabulary = read_vocabulary(checkpoint.folder, dims.vocab_size, family.needed_tokens)
    metadata = [*_about(checkpoint, family), *_sizes(family, dims), *_vocabulary(vocabulary)]
    return StoredModel(
        checkpoint.folder, checkpoint.name, family, dims, checkpoint.tensors, metadata, checkpoint.shards,
        is_checkpoint=True,
    )  # fmt: skip


def model_of_file(path: Path) -> StoredModel:
    """The model in a GGUF file. Raises InputError for a file that could not be run."""
    shards = LocalShards()
    shards.note(path)
    file = read_gguf(path)
    family = family_named(file.architecture)
    if family is None:
        known = " or ".join(family.gguf for family in FAMILIES)
        raise InputError(path, f"key general.architecture is {file.architecture!r}", expected=known)
    dims = checked_dimensions(file, family)
    if family.has_vocabulary:
        vocabulary_of_file(file, dims.vocab_size)
    rules, recipe_problem = recorded_rules(file)
    return StoredModel(
        path,
        path.name,
        family,
        dims,
        dict(_tensors_of_file(file, family, dims)),
        file.entries,
        shards,
        fused=is_fused(file),
        asr_only=is_asr_only(file, family),
        quantizers=quantizers_of_file(file),
        type=type_of_file(file),
        rules=rules,
        recipe_problem=recipe_problem,
        provenance=provenance_of(file),
    )


def _tensors_of_file(file: GGUFFile, family: Family, dims: Any) -> Iterator[tuple[str, StoredTensor]]:
    """Every tensor under its checkpoint name: a fused one is as many, one behind the other, as it was made of.

    Those are called by the rows that they are of it, as in Python: `qkv.weight[512:640]`.
    """
    for tensor in family.tensors(dims, is_fused(file), is_asr_only(file, family)):
        stored = file.tensors[tensor.name]
        if len(tensor.sources) == 1:
            yield tensor.sources[0].name, stored
            continue
        begin, row = stored.begin, 0
        for source in tensor.sources:
            end = row + source.shape[0]
            part = replace(stored, name=f"{stored.name}[{row}:{end}]", shape=source.shape, begin=begin)
            begin, row = begin + part.nbytes, end
            yield source.name, part


def metadata_of_type(metadata: Iterable[Entry], type: Type | None, told: Mapping[str, str]) -> list[Entry]:
    """`metadata` of a file of this type (None: as it is), with what is `told` of how it is made in place of what was
    told before; an empty text is nothing to tell."""
    entries = [entry for entry in metadata if entry.key not in told]
    if type:
        declared = Entry(FILE_TYPE, type.file_type, GGUFValueType.UINT32)
        entries = [declared if entry.key == FILE_TYPE else entry for entry in entries]
        if declared not in entries:
            entries.append(declared)
    return entries + [Entry(key, text, GGUFValueType.STRING) for key, text in told.items() if text]


def _about(checkpoint: Checkpoint, family: Family) -> list[Entry]:
    string, uint = GGUFValueType.STRING, GGUFValueType.UINT32
    entries = [Entry("general.type", "model", string), Entry("general.name", checkpoint.name, string)]
    entries += [Entry(key, value, string) for key, value in family.about.items()]
    entries += [
        Entry(FILE_TYPE, F32.file_type, uint),  # the plan puts its own
        Entry("general.quantization_version", QUANTIZATION_VERSION, uint),
    ]
    return entries + base_model_entries(checkpoint.name, checkpoint.repo, checkpoint.revision)


def _sizes(family: Family, dims: Any) -> list[Entry]:
    entries = []
    for field_name, key, type, *_ in family.keys:
        value = getattr(dims, field_name)
        if isinstance(value, tuple):
            entries += [Entry(f"{key}.{i}", element, type) for i, element in enumerate(value)]
        else:
            entries.append(Entry(key, value, type))
    return entries


def _vocabulary(vocabulary: Vocabulary | None) -> list[Entry]:
    if vocabulary is None:
        return []
    string, uint = GGUFValueType.STRING, GGUFValueType.UINT32
    return [
        Entry("tokenizer.ggml.model", "gpt2", string),
        Entry("tokenizer.ggml.pre", "qwen2", string),
        Entry("tokenizer.ggml.tokens", vocabulary.tokens, string),
        Entry("tokenizer.ggml.token_type", vocabulary.token_types, GGUFValueType.INT32),
        Entry("tokenizer.ggml.merges", vocabulary.merges, string),
        Entry("tokenizer.ggml.eos_token_id", vocabulary.eos_token_id, uint),
        Entry("tokenizer.ggml.padding_token_id", vocabulary.padding_token_id, uint),
    ]
