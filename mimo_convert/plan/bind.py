"""The tensors of a model that the tensors of a file are made of, validated; and those that are in no file."""

import re
from collections.abc import Iterable

from mimo_convert.formats.safetensors import WEIGHT_TYPES
from mimo_convert.formats.tensor import TensorSlice, shape_text
from mimo_convert.model.family import Layout, Tensor
from mimo_convert.model.source_model import SourceModel
from quantize.errors import InputError
from quantize.recipes import Rule
from quantize.types import Type

REQUANTIZED_BITS = 8  # sources with fewer bits a weight have lost too much to be quantized again unasked


def bind(model: SourceModel, name: str, shape: tuple[int, ...]) -> TensorSlice:
    """A tensor of the model. Raises InputError unless it is there, in that shape, and of weights."""
    stored = model.tensors.get(name)
    if stored is None:
        part = model.family.parts.get(model.family.part_of(name) or "")
        todo = f"or leave out {part.words}: {part.option}" if part and part.option else ""
        raise InputError(model.where, f"missing tensor {name}", expected=f"shape {shape_text(shape)}", todo=todo)
    if stored.shape != shape:
        raise InputError(
            stored.file,
            f"tensor {name} has shape {shape_text(stored.shape)}",
            expected=f"{shape_text(shape)}, by config.json",
        )
    if stored.ggml_type.ggml < 0:
        raise InputError(
            stored.file,
            f"tensor {name} has unsupported dtype {stored.ggml_type.name}",
            expected=" or ".join(WEIGHT_TYPES),
        )
    return stored


def common_type(model: SourceModel, tensor: Tensor, sources: tuple[TensorSlice, ...], rules: Iterable[Rule]) -> Type:
    """The type that all sources of a tensor are stored in. Raises InputError if they differ and no rule applies."""
    ruled = any(rule.matches(tensor.name, tensor.role) for rule in rules)
    if not ruled and len({source.ggml_type for source in sources}) > 1:
        found = ", ".join(f"{source.name} is {source.ggml_type.name}" for source in sources)
        raise InputError(
            model.where, f"the parts of {tensor.name} differ: {found}", expected="one type",
            todo="give --outtype, or --tensor-type for it",
        )  # fmt: skip
    return sources[0].ggml_type


def check_requantized(model: SourceModel, sources: tuple[TensorSlice, ...], ggml_type: Type) -> None:
    """Raise InputError for sources of another type than `ggml_type` that have too few bits to be quantized again."""
    for source in sources:
        if source.ggml_type is not ggml_type and source.ggml_type.bits_per_weight < REQUANTIZED_BITS:
            raise InputError(
                model.where,
                f"tensor {source.name} is {source.ggml_type.name}: requantizing it to {ggml_type.name} adds to "
                "the error of its blocks",
                expected=f"{REQUANTIZED_BITS} bits per weight or more",
                todo="convert the checkpoint, or insist with --allow-requantize",
            )


def find_skipped(model: SourceModel, used: set[str], layout: Layout) -> dict[str, str]:
    """The reason for each tensor that is not in the file. Raises InputError for tensors unknown to the family."""
    reasons = dict(model.family.skipped)
    for name, part in model.family.parts.items():
        if not layout.has(name):
            reasons[part.pattern] = part.reason
    found = {}
    for name in model.tensors:
        if name in used:
            continue
        reason = next((why for pattern, why in reasons.items() if re.fullmatch(pattern, name)), None)
        if reason is None:
            raise InputError(
                model.tensors[name].file, f"extra tensor {name}, unknown to {model.family.architecture}",
                todo="the checkpoint is not of this family, or newer than this tool",
            )  # fmt: skip
        found[name] = reason
    return found
