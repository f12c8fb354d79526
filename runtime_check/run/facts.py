"""Facts of a GGUF file for reports: from its header, and as recorded in its metadata."""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from mimo_convert.formats.gguf import GGUFFile
from mimo_convert.model.family import Family, Tensor
from mimo_convert.model.gguf_facts import (
    RECIPE_NAME,
    VARIANT,
    backends_of_file,
    backends_text,
    recorded_rules,
    records_rules,
    type_of_file,
)
from mimo_convert.model.model_file import ModelFile, OpenFiles
from mimo_convert.model.provenance import provenance_of
from mimo_convert.plan.mix import OWN_RULES, TARGET, recorded_choice, recorded_lines
from mimo_convert.plan.named_recipes import NAMED
from mimo_convert.plan.recipe_rules import rules_of_recipe
from mimo_convert.plan.variant import NAME
from quantize.recipes import ROLE_TYPES, Rule, Typed, mixed_types
from quantize.types import TYPES

from .records import FileFacts

ABOUT = ("license", "languages", "tags")  # general.* keys that a model card repeats
MULTIPLIED = (
    "matrix",
    "encoder_matrix",
    "vocoder_matrix",
    "embedding",
    "head",
)  # roles whose weights determine a file's type


def file_facts(role: str, model: ModelFile, files: OpenFiles) -> FileFacts:
    """The facts of a file; its hash is computed unless it is known."""
    file = model.file
    tensors, outtype, provenance = file.tensors.values(), type_of_file(file), provenance_of(file)
    rules, recipe_name = recorded_rules(file)[0], recorded_recipe(file)
    is_sized = bool(recorded_text(file, TARGET))
    matrices: dict[str, Counter[str]] = {tensor_role: Counter() for tensor_role in MULTIPLIED}
    typed = []
    expected = list(model.family.tensors(model.dims, model.layout))
    for tensor in expected:
        ggml_type = file.tensors[tensor.name].ggml_type
        typed.append(Typed(tensor.name, tensor.role, tensor.shape[-1], ggml_type))
        if tensor.role in MULTIPLIED:
            matrices[tensor.role][ggml_type.name] += prod(tensor.shape)
    together = sum(matrices.values(), Counter[str]())
    most = together.most_common(1)[0][0]
    return FileFacts(
        role=role,
        file=str(file.path),
        sha256=files.sha256(file.path),
        bytes=file.size,
        architecture=file.architecture,
        type=most,
        outtype=outtype.name if outtype else "",
        recipe=tuple(map(str, rules)),
        layout="fused" if model.layout.fuse_qkv else "separate",
        without=tuple(sorted(model.layout.without - model.family.unwritten_parts)),
        bits_per_weight=sum(t.nbytes for t in tensors) * 8 / sum(prod(t.shape) for t in tensors),
        tensor_types=dict(Counter(t.ggml_type.name for t in tensors).most_common()),
        mixed=mixed_types(typed, outtype or TYPES[most], rules if records_rules(file) else None),
        quantizer=backends_text(backends_of_file(file)),
        provenance=provenance,
        variant=recorded_text(file, VARIANT),
        recipe_name=recipe_name,
        own_rules=recorded_lines(file.metadata, OWN_RULES)
        if is_sized
        else own_rules(rules, recipe_name, model.family, expected),
        gate_type=gate_type(recipe_name, together, is_sized=is_sized),
        role_types={
            name: gate_type(recipe_name, types, is_sized=is_sized) or types.most_common(1)[0][0]
            for name, types in matrices.items()
            if types
        },
        stem=model.family.stem(model.dims, provenance.adapter_name, model.family.edition_in(file.metadata)),
        chosen=recorded_choice(
            file.metadata,
            model.family.uses,
            ((one.name, one.ggml_type.name) for one in typed if ROLE_TYPES[one.role] is None),
        ),
        about={name: texts_of(file.metadata.get(f"general.{name}")) for name in ABOUT},
    )


def recorded_text(file: GGUFFile, key: str) -> str:
    """A text that a file records; empty if it has none."""
    return text if isinstance(text := file.metadata.get(key), str) else ""


def recorded_recipe(file: GGUFFile) -> str:
    """The named recipe that a file records; empty if it has none, or something that is no name."""
    name = recorded_text(file, RECIPE_NAME)
    return name if NAME.fullmatch(name) else ""


def gate_type(recipe: str, matrices: Mapping[str, int], *, is_sized: bool = False) -> str:
    """The type whose thresholds apply to a file of a named recipe, or of a given size (`is_sized`), with the weights of
    its matrices by type: the one with the fewest bits, however few weights have it, if any have; else empty."""
    if is_sized:
        return min(matrices, key=lambda name: TYPES[name].bits_per_weight, default="")
    least = NAMED[recipe].least.name if recipe in NAMED else ""
    return least if least in matrices else ""


def own_rules(rules: Sequence[Rule], recipe: str, family: Family, tensors: Sequence[Tensor]) -> tuple[str, ...]:
    """The rules that are not those of the named recipe; empty if there is none. All, if it is not known here."""
    if not recipe:
        return ()
    named = rules_of_recipe(NAMED[recipe], family.uses, tensors) if recipe in NAMED else []
    return tuple(text for text in map(str, rules) if text not in set(map(str, named)))


def texts_of(value: Any) -> str | list[str] | None:
    """A metadata value that is a string or a list of strings; None for any other."""
    if isinstance(value, str):
        return value
    return value if isinstance(value, list) and all(isinstance(text, str) for text in value) else None
