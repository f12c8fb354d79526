"""Family × recipe → every output tensor with its type, offset and size, before a byte is written.

A plan is data: the dry run, the disk check, the conversion, its progress and the report all read the same one.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

from quantize.errors import InputError
from quantize.kernels import is_float
from quantize.quantizer import AUTO, quantizer_of
from quantize.recipes import Rule, choose_type, recipe_text, rule_for
from quantize.types import F32, Type

from .gguf_file import Entry, align, header_bytes
from .model_file import QUANTIZER, RECIPE, quantizer_text
from .models import Family, Tensor
from .provenance import SHARDS, VERSION, Intermediate, quantized_from_text, shards_text, tool_version, with_hashes
from .safetensors_file import WEIGHT_TYPES
from .stored import StoredTensor, shape_text
from .stored_model import StoredModel, metadata_of_type

KEPT_F32 = "holds weights that would become infinite: kept in f32"
REQUANTIZED_BITS = 8  # sources with fewer bits a weight have lost too much to be quantized again unasked


@dataclass(frozen=True)
class Options:
    """What the user chose beside the type, for all files of a run alike."""

    fuse_qkv: bool = False
    asr_only: bool = False
    rules: tuple[Rule, ...] = ()
    allow_requantize: bool = False
    quantizer: str = AUTO


@dataclass(frozen=True)
class PlannedTensor:
    """A tensor of the output: rows of `sources`, one below the other, as `type` at `offset` in the data section.

    `quantizers` is what makes its blocks, or made those that are copied; nothing for plain floats.
    """

    name: str
    role: str
    shape: tuple[int, ...]
    type: Type
    sources: tuple[StoredTensor, ...]
    offset: int
    note: str = ""
    quantizers: frozenset[str] = frozenset()

    @property
    def n_weights(self) -> int:
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.type.nbytes(self.n_weights)


@dataclass(frozen=True)
class Plan:
    """One GGUF file to be. `left_out` are checkpoint tensors that are not in it, each with the reason.

    `outtype` None: every tensor keeps the type it is stored in.
    """

    family: Family
    file_name: str
    outtype: Type | None
    fuse_qkv: bool
    metadata: list[Entry]
    tensors: list[PlannedTensor]
    left_out: dict[str, str]

    @cached_property
    def header(self) -> bytes:
        return header_bytes(self.family.gguf, self.metadata, [(t.name, t.shape, t.type) for t in self.tensors])

    def hashes_in_header(self, hashes: Mapping[str, str]) -> tuple[int, bytes]:
        """Where in the header the sha256 of a checkpoint's shards stand, and what is to stand there."""
        [text] = [str(entry.value) for entry in self.metadata if entry.key == SHARDS]
        return self.header.index(text.encode()), with_hashes(text, hashes).encode()

    @property
    def quantizer(self) -> str:
        """What makes, or made, the blocks of the file, in words; empty if it has none, or nothing is known of them."""
        return _quantizer(self.tensors)

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


NO_OPTIONS = Options()


def make_plan(
    model: StoredModel,
    outtype: Type | None,
    options: Options = NO_OPTIONS,
    *,
    file_name: str = "",
    peaks: Mapping[str, float] | None = None,
) -> Plan:
    """The plan for one output file; `peaks` gives the greatest magnitude in tensors where that may exceed their type.

    Raises InputError if a tensor of the model is missing, misshapen, of a dtype that holds no weights, neither used nor
    on the family's list of things left out, or would be quantized a second time without the user's consent.
    """
    tensors: list[PlannedTensor] = []
    used: set[str] = set()
    offset = 0
    for tensor in model.family.tensors(model.dims, options.fuse_qkv, options.asr_only):
        sources = tuple(_bind(model, source.name, source.shape) for source in tensor.sources)
        used.update(source.name for source in tensor.sources)
        requested = outtype or _common_type(model, tensor, sources, options.rules)
        type, note = choose_type(tensor.role, tensor.shape[-1], requested, tensor.name, options.rules)
        if (peaks or {}).get(tensor.name, 0.0) >= type.overflow:
            type, note = F32, KEPT_F32
        if not options.allow_requantize:
            _check_requantized(model, sources, type)
        copied = all(source.type is type for source in sources)
        quantizers = frozenset[str]()
        if not is_float(type):
            quantizers = model.quantizers if copied else frozenset({quantizer_of(type, options.quantizer)})
        planned = PlannedTensor(tensor.name, tensor.role, tensor.shape, type, sources, offset, note, quantizers)
        tensors.append(planned)
        offset = align(offset + planned.nbytes)
    return Plan(
        family=model.family,
        file_name=file_name or _file_name(model.family, outtype),
        outtype=outtype,
        fuse_qkv=options.fuse_qkv,
        metadata=metadata_of_type(model.metadata, outtype, _told(tensors, model, outtype, options.rules)),
        tensors=tensors,
        left_out=_left_out(model, used, options),
    )


def _told(
    tensors: Sequence[PlannedTensor], model: StoredModel, outtype: Type | None, rules: Sequence[Rule]
) -> dict[str, str]:
    """How the file is made, as it will tell: nothing that could differ between equal files."""
    told = {}
    sources = [(tensor, source) for tensor in tensors for source in tensor.sources]
    if model.is_checkpoint:
        told[SHARDS] = shards_text(source.file.name for _, source in sources)
    elif any(_may_have_lost(source, model) and source.type is not tensor.type for tensor, source in sources):
        told |= quantized_from_text(model.provenance.intermediates, _intermediate(model))
    return told | {
        RECIPE: recipe_text(_rules_of(tensors, model, outtype, rules), str(model.where)),
        QUANTIZER: _quantizer(tensors),
        VERSION: tool_version(),
    }


def _may_have_lost(source: StoredTensor, model: StoredModel) -> bool:
    """Whether what is made of a file's tensor depends on the type that it has there.

    F32 holds what any checkpoint does; of blocks that were made before, not even F32 gives the same ones again.
    """
    return source.type is not F32 or bool(model.provenance.intermediates)


def _intermediate(model: StoredModel) -> Intermediate:
    """What is to be recorded of a file that another is made of."""
    every = model.family.tensors(model.dims, False, model.asr_only)
    tensors = [tensor for tensor in every if tensor.sources[0].name in model.tensors]
    stored = {tensor.name: model.tensors[tensor.sources[0].name].type for tensor in tensors}
    type = model.type or Counter(stored.values()).most_common(1)[0][0]
    has_blocks = not all(map(is_float, stored.values()))
    return Intermediate(
        type.name,
        {
            tensor.name: stored[tensor.name].name
            for tensor in tensors
            if choose_type(tensor.role, tensor.shape[-1], type)[0] is not stored[tensor.name]
        },
        " + ".join(sorted(model.quantizers)) if has_blocks else "",
        model.provenance.version,
    )


def _quantizer(tensors: Iterable[PlannedTensor]) -> str:
    return quantizer_text({name for tensor in tensors for name in tensor.quantizers})


def _rules_of(
    tensors: Sequence[PlannedTensor], model: StoredModel, outtype: Type | None, rules: Sequence[Rule]
) -> list[Rule]:
    """The rules that the types of these tensors follow from: the user's own, then, of a file that keeps its types,
    those that it was made by.

    Q, K and V go by another name when they are fused, or split: what keeps a type that the rules would not give it
    under that name gets a rule of its own.
    """
    if outtype is None:
        every = [*rules, *model.rules]
        own = [
            rule_for(tensor.name, tensor.type, str(model.where))
            for tensor in tensors
            if _is_renamed(tensor) and not _follows(tensor, model.type, every)
        ]
        rules = [*own, *every]
    return [rule for rule in rules if any(rule.matches(tensor.name, tensor.role) for tensor in tensors)]


def _is_renamed(tensor: PlannedTensor) -> bool:
    """Whether the file that a tensor is copied from calls it otherwise."""
    return any(source.name.partition("[")[0] != tensor.name for source in tensor.sources)


def _follows(tensor: PlannedTensor, type: Type | None, rules: Iterable[Rule]) -> bool:
    """Whether the rules, or else the file's `type` if that is known, give a tensor the type that is planned for it."""
    if tensor.note == KEPT_F32 or type is None:
        return True
    return choose_type(tensor.role, tensor.shape[-1], type, tensor.name, rules)[0] is tensor.type


def _file_name(family: Family, outtype: Type | None) -> str:
    assert outtype is not None, "a file that keeps its types is named by whoever asks for it"
    return f"{family.file_stem}-{outtype.name}.gguf"


def _bind(model: StoredModel, name: str, shape: tuple[int, ...]) -> StoredTensor:
    stored = model.tensors.get(name)
    if stored is None:
        raise InputError(model.where, f"missing tensor {name}", expected=f"shape {shape_text(shape)}")
    if stored.shape != shape:
        raise InputError(
            stored.file,
            f"tensor {name} has shape {shape_text(stored.shape)}",
            expected=f"{shape_text(shape)}, by config.json",
        )
    if stored.type.ggml < 0:
        raise InputError(
            stored.file, f"tensor {name} has unsupported dtype {stored.type.name}", expected=" or ".join(WEIGHT_TYPES)
        )
    return stored


def _common_type(model: StoredModel, tensor: Tensor, sources: tuple[StoredTensor, ...], rules: Iterable[Rule]) -> Type:
    """The type that all parts of a tensor are stored in; if they differ, a rule must say which it gets."""
    ruled = any(rule.matches(tensor.name, tensor.role) for rule in rules)
    if not ruled and len({source.type for source in sources}) > 1:
        found = ", ".join(f"{source.name} is {source.type.name}" for source in sources)
        raise InputError(
            model.where, f"the parts of {tensor.name} differ: {found}", expected="one type",
            todo="give --outtype, or --tensor-type for it",
        )  # fmt: skip
    return sources[0].type


def _check_requantized(model: StoredModel, sources: tuple[StoredTensor, ...], type: Type) -> None:
    for source in sources:
        if source.type is not type and source.type.bits_per_weight < REQUANTIZED_BITS:
            raise InputError(
                model.where,
                f"tensor {source.name} is {source.type.name}, and {type.name} made of that would be worse than one "
                "made of the checkpoint",
                expected=f"{REQUANTIZED_BITS} bits a weight or more",
                todo="convert the checkpoint, or insist with --allow-requantize",
            )


def _left_out(model: StoredModel, used: set[str], options: Options) -> dict[str, str]:
    """Why each tensor that is not used is not in the file."""
    reasons = dict(model.family.left_out)
    if options.asr_only:
        reasons[model.family.speech_generation] = "speech generation, by --asr-only"
    found = {}
    for name in model.tensors:
        if name in used:
            continue
        reason = next((why for pattern, why in reasons.items() if re.fullmatch(pattern, name)), None)
        if reason is None:
            raise InputError(
                model.tensors[name].file, f"extra tensor {name}, unknown to {model.family.gguf}",
                todo="the checkpoint is not of this family, or newer than this tool",
            )  # fmt: skip
        found[name] = reason
    return found
