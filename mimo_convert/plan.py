"""Family × recipe → every output tensor with its type, offset and size, before a byte is written.

A plan is data: the dry run, the disk check, the conversion, its progress and the report all read the same one.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

from gguf import GGUFValueType

from quantize.errors import InputError
from quantize.recipes import choose_type
from quantize.types import F32, Type

from .checkpoint import WEIGHT_DTYPES, Checkpoint, TensorInfo, shape_text
from .gguf_file import Entry, align, header_bytes
from .models import Family
from .vocabulary import Vocabulary

QUANTIZATION_VERSION = 2  # GGML_QNT_VERSION
KEPT_F32 = "holds weights that would become infinite: kept in f32"


@dataclass(frozen=True)
class PlannedTensor:
    """A tensor of the output: rows of `sources`, one below the other, as `type` at `offset` in the data section."""

    name: str
    role: str
    shape: tuple[int, ...]
    type: Type
    sources: tuple[TensorInfo, ...]
    offset: int
    note: str = ""

    @property
    def n_weights(self) -> int:
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.type.nbytes(self.n_weights)


@dataclass(frozen=True)
class Plan:
    """One GGUF file to be. `left_out` are checkpoint tensors that are not in it, each with the reason."""

    family: Family
    file_name: str
    outtype: Type
    fuse_qkv: bool
    metadata: list[Entry]
    tensors: list[PlannedTensor]
    left_out: dict[str, str]

    @cached_property
    def header(self) -> bytes:
        return header_bytes(self.family.gguf, self.metadata, [(t.name, t.shape, t.type) for t in self.tensors])

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        last = self.tensors[-1]
        return len(self.header) + align(last.offset + last.nbytes)

    @property
    def n_weights(self) -> int:
        return sum(tensor.n_weights for tensor in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        return sum(tensor.nbytes for tensor in self.tensors) * 8 / self.n_weights


def make_plan(
    checkpoint: Checkpoint,
    family: Family,
    vocabulary: Vocabulary | None,
    outtype: Type,
    *,
    fuse_qkv: bool = False,
    peaks: Mapping[str, float] | None = None,
) -> Plan:
    """The plan for one output file; `peaks` gives the greatest magnitude in tensors where that may exceed their type.

    Raises InputError if a tensor of the checkpoint is missing, misshapen, of a dtype that holds no weights, or neither
    used nor on the family's list of things left out.
    """
    dims = family.dimensions(checkpoint.config)
    tensors: list[PlannedTensor] = []
    offset = 0
    for tensor in family.tensors(dims, fuse_qkv):
        sources = tuple(_bind(checkpoint, source.name, source.shape) for source in tensor.sources)
        type, note = choose_type(tensor.role, tensor.shape[-1], outtype)
        if (peaks or {}).get(tensor.name, 0.0) >= type.overflow:
            type, note = F32, KEPT_F32
        planned = PlannedTensor(tensor.name, tensor.role, tensor.shape, type, sources, offset, note)
        tensors.append(planned)
        offset = align(offset + planned.nbytes)
    return Plan(
        family=family,
        file_name=f"{family.file_stem}-{outtype.name}.gguf",
        outtype=outtype,
        fuse_qkv=fuse_qkv,
        metadata=_metadata(checkpoint, family, dims, vocabulary, outtype),
        tensors=tensors,
        left_out=_left_out(checkpoint, family, tensors),
    )


def _bind(checkpoint: Checkpoint, name: str, shape: tuple[int, ...]) -> TensorInfo:
    info = checkpoint.tensors.get(name)
    if info is None:
        raise InputError(checkpoint.folder, f"missing tensor {name}", expected=f"shape {shape_text(shape)}")
    if info.shape != shape:
        raise InputError(
            info.file,
            f"tensor {name} has shape {shape_text(info.shape)}",
            expected=f"{shape_text(shape)}, by config.json",
        )
    if info.dtype not in WEIGHT_DTYPES:
        raise InputError(
            info.file, f"tensor {name} has unsupported dtype {info.dtype}", expected=" or ".join(WEIGHT_DTYPES)
        )
    return info


def _left_out(checkpoint: Checkpoint, family: Family, tensors: list[PlannedTensor]) -> dict[str, str]:
    used = {source.name for tensor in tensors for source in tensor.sources}
    left_out = {}
    for name in checkpoint.tensors:
        if name in used:
            continue
        reason = next((why for pattern, why in family.left_out.items() if re.fullmatch(pattern, name)), None)
        if reason is None:
            raise InputError(
                checkpoint.tensors[name].file, f"extra tensor {name}, unknown to {family.gguf}",
                todo="the checkpoint is not of this family, or newer than this tool",
            )  # fmt: skip
        left_out[name] = reason
    return left_out


def _metadata(
    checkpoint: Checkpoint, family: Family, dims: Any, vocabulary: Vocabulary | None, outtype: Type
) -> list[Entry]:
    string, uint = GGUFValueType.STRING, GGUFValueType.UINT32
    entries = [Entry("general.type", "model", string), Entry("general.name", checkpoint.name, string)]
    entries += [Entry(key, value, string) for key, value in family.about.items()]
    entries += [
        Entry("general.file_type", outtype.file_type, uint),
        Entry("general.quantization_version", QUANTIZATION_VERSION, uint),
        Entry("general.base_model.count", 1, uint),
        Entry("general.base_model.0.name", checkpoint.name, string),
    ]
    if checkpoint.repo:
        owner = checkpoint.repo.split("/")[0]
        entries.append(Entry("general.base_model.0.organization", owner, string))
        entries.append(Entry("general.base_model.0.repo_url", f"https://huggingface.co/{checkpoint.repo}", string))
    if checkpoint.revision:
        entries.append(Entry("general.base_model.0.version", checkpoint.revision, string))
    for field, key, type, *_ in family.keys:
        value = getattr(dims, field)
        if isinstance(value, tuple):
            entries += [Entry(f"{key}.{i}", element, type) for i, element in enumerate(value)]
        else:
            entries.append(Entry(key, value, type))
    if vocabulary is not None:
        entries += [
            Entry("tokenizer.ggml.model", "gpt2", string),
            Entry("tokenizer.ggml.pre", "qwen2", string),
            Entry("tokenizer.ggml.tokens", vocabulary.tokens, string),
            Entry("tokenizer.ggml.token_type", vocabulary.token_types, GGUFValueType.INT32),
            Entry("tokenizer.ggml.merges", vocabulary.merges, string),
            Entry("tokenizer.ggml.eos_token_id", vocabulary.eos_token_id, uint),
            Entry("tokenizer.ggml.padding_token_id", vocabulary.padding_token_id, uint),
        ]
    return entries
