"""Facts of a GGUF file for reports: from its header, and as recorded in its metadata."""

from collections import Counter
from math import prod
from typing import Any

from mimo_convert.model.gguf_facts import (
    VARIANT,
    backends_of_file,
    backends_text,
    recorded_rules,
    records_rules,
    type_of_file,
)
from mimo_convert.model.model_file import ModelFile, OpenFiles
from mimo_convert.model.provenance import provenance_of
from quantize.recipes import Typed, mixed_types
from quantize.types import TYPES

from .records import FileFacts

ABOUT = ("license", "languages", "tags")  # general.* keys that a model card repeats
MULTIPLIED = ("matrix", "encoder", "embedding", "head")  # roles whose weights determine a file's type


def file_facts(role: str, model: ModelFile, files: OpenFiles) -> FileFacts:
    """The facts of a file; its hash is computed unless it is known."""
    file = model.file
    tensors, outtype = file.tensors.values(), type_of_file(file)
    rules = recorded_rules(file)[0]
    matrices: Counter[str] = Counter()
    typed = []
    for tensor in model.family.tensors(model.dims, model.layout):
        ggml_type = file.tensors[tensor.name].ggml_type
        typed.append(Typed(tensor.name, tensor.role, tensor.shape[-1], ggml_type))
        if tensor.role in MULTIPLIED:
            matrices[ggml_type.name] += prod(tensor.shape)
    most = matrices.most_common(1)[0][0]
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
        without=tuple(sorted(model.layout.without)),
        bits_per_weight=sum(t.nbytes for t in tensors) * 8 / sum(prod(t.shape) for t in tensors),
        tensor_types=dict(Counter(t.ggml_type.name for t in tensors).most_common()),
        mixed=mixed_types(typed, outtype or TYPES[most], rules if records_rules(file) else None),
        quantizer=backends_text(backends_of_file(file)),
        provenance=provenance_of(file),
        variant=text if isinstance(text := file.metadata.get(VARIANT), str) else "",
        about={name: texts_of(file.metadata.get(f"general.{name}")) for name in ABOUT},
    )


def texts_of(value: Any) -> str | list[str] | None:
    """A metadata value that is a string or a list of strings; None for any other."""
    if isinstance(value, str):
        return value
    return value if isinstance(value, list) and all(isinstance(text, str) for text in value) else None
