"""Facts of a GGUF file of a known family, validated: sizes, layout, tensors, vocabulary, types and recipe.

ggml aborts the process on a tensor of an unexpected shape, so every file is validated here before it is run.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from gguf import GGUFValueType, TokenType

from mimo_convert.formats.gguf import GGUFFile, shown
from mimo_convert.formats.tensor import TensorSlice
from mimo_convert.formats.vocabulary import byte_findings, check_findings, merge_findings
from quantize.backends import CONTRACTED, FEEDBACK, GGML, IMATRIX, SIMD
from quantize.errors import InputError
from quantize.recipes import ROLE_TYPES, Rule, parse_recipe
from quantize.types import BY_FILE_TYPE, F32, MIX_NUMBERS, Type

from .family import Family, Layout, TextFacts

PYTHON_TYPES = {
    GGUFValueType.UINT32: int, GGUFValueType.INT32: int, GGUFValueType.FLOAT32: float, GGUFValueType.STRING: str,
}  # fmt: skip
FILE_TYPE = "general.file_type"
QUANTIZER = "mimo_convert.quantizer"
RECIPE = "mimo_convert.recipe"
RECIPE_NAME = "mimo_convert.recipe_name"
VARIANT = "mimo_convert.variant"
UNKNOWN = "unknown"
NO_TENSORS: Mapping[str, TensorSlice] = {}
MAKERS = frozenset({SIMD, GGML, CONTRACTED, IMATRIX, FEEDBACK, UNKNOWN})
AGAIN = "convert the checkpoint again"


class FileVocabulary(NamedTuple):
    """The vocabulary of a GGUF file: text and type of each id, and the merges in order of rank."""

    tokens: list[str]
    types: list[int]
    merges: list[str]


class SizeError(InputError):
    """An invalid size in a file's metadata; `key` is its key in the family's table."""

    def __init__(self, path: Path, key: str, what: str, *, expected: str) -> None:
        super().__init__(path, f"key {key} {what}", expected=expected)
        self.key = key


def checked_dimensions(file: GGUFFile, family: Family) -> tuple[Any, Layout]:
    """The sizes and the layout of a file of `family`. Raises InputError unless sizes and tensors agree.

    A part may be missing only as a whole.
    """
    dims = dimensions_of_file(family, file.path, file.metadata, file.tensors)
    for what, expected in family.config_errors(dims):
        raise InputError(file.path, f"its sizes contradict each other: {what}", expected=expected, todo=AGAIN)
    nearest = family.layout_of(file.tensors.keys(), dims)
    begun = {part for name in file.tensors if (part := family.part_of(name))}
    layout = replace(nearest, without=nearest.without - begun)
    check_tensors(file, family, dims, layout)
    return dims, layout


def dimensions_of_file(
    family: Family, path: Path, metadata: Mapping[str, Any], tensors: Mapping[str, TensorSlice] = NO_TENSORS
) -> Any:
    """Read the family's dataclass of sizes from a GGUF file's metadata, and from the shapes of its tensors.

    Raises SizeError for a key that is missing, of the wrong type, or below 1; InputError for a list of the wrong
    length, or a missing tensor.
    """
    values: dict[str, Any] = {}
    there = {key.part for key in family.keys if key.names(metadata)}
    there |= {part for name in tensors if (part := family.part_of(name))}
    for key in family.keys:
        kind, found = PYTHON_TYPES[key.value_type], key.value(metadata, tensors)
        if key.part and not key.names(metadata):
            if key.part in there:
                words = family.parts[key.part].words
                raise SizeError(path, key.key, shown(None), expected=f"one, since the file has {words}")
            values[key.field] = found
            continue
        if key.axis is not None and found is None:
            raise InputError(path, f"missing tensor {key.key}", expected=f"one whose shape tells {key.field}")
        if key.is_numbered and found is not None and not isinstance(found, tuple):
            raise SizeError(path, key.key, shown(found), expected=f"keys {key.key}.0, {key.key}.1, …")
        for value in found if isinstance(found, tuple) else (found,):
            if not isinstance(value, kind) or isinstance(value, bool):
                raise SizeError(path, key.key, shown(value), expected=f"a value of type {kind.__name__}")
            if isinstance(value, int) and value < key.least:
                expected = "a positive number" if key.least == 1 else f"a number from {key.least}"
                raise SizeError(path, key.key, f"is {value}", expected=expected)
        values[key.field] = found
    for key in family.keys:
        if key.length and len(values[key.field]) != values[key.length]:
            found, expected = len(values[key.field]), values[key.length]
            raise InputError(path, f"keys {key.key}.N: {found} of them", expected=f"{expected} ({key.length})")
    return family.dimensions_type(**values)


def backends_of_file(file: GGUFFile) -> frozenset[str]:
    """The quantization backends that the file records; `unknown` if it records none."""
    found = file.metadata.get(QUANTIZER)
    return parse_backends(found if isinstance(found, str) else "")


def parse_backends(text: str) -> frozenset[str]:
    """Parse recorded backends, "ggml + simd"; `unknown` if there are none, or one is not known."""
    names = frozenset(text.split(" + "))
    return names if names <= MAKERS else frozenset({UNKNOWN})


def backends_text(names: Iterable[str]) -> str:
    """Write backends as a file records them: `simd`, `ggml`, `ggml + simd`, `simd + imatrix`; empty if only unknown."""
    return (
        " + ".join(sorted(names, key=lambda name: (name == FEEDBACK, name == IMATRIX, name)))
        if set(names) - {UNKNOWN}
        else ""
    )


def type_of_file(file: GGUFFile) -> Type | None:
    """The type of `general.file_type`, of a mix the one that its rules are exceptions from; None if it is missing,
    unknown, or that of a mix whose rules the file does not record."""
    found = file.metadata.get(FILE_TYPE)
    if not isinstance(found, int) or isinstance(found, bool):
        return None
    is_unknown_mix = found in MIX_NUMBERS.values() and not records_rules(file)
    return None if is_unknown_mix else BY_FILE_TYPE.get(found)


def rules_of_file(file: GGUFFile) -> tuple[Rule, ...]:
    """The recorded recipe of a file. Raises InputError if it is malformed."""
    found, where = file.metadata.get(RECIPE, ""), f"{file.path}: key {RECIPE}"
    if not isinstance(found, str):
        raise InputError(where, shown(found), expected="rules, REGEX=TYPE, one a line")
    return tuple(parse_recipe(found, where))


def records_rules(file: GGUFFile) -> bool:
    """Whether the file's maker would have recorded its rules: mimo-convert, which its own keys name.

    Another tool's file may be a mix of types, such as Q4_K_M, whose rules nobody knows.
    """
    return any(key.startswith("mimo_convert.") for key in file.metadata)


def recorded_rules(file: GGUFFile) -> tuple[tuple[Rule, ...], str]:
    """The recorded recipe of a file, and an error message if it is malformed: only the lint fails for that."""
    try:
        return rules_of_file(file), ""
    except InputError as error:
        return (), str(error)


def check_tensors(file: GGUFFile, family: Family, dims: Any, layout: Layout) -> None:
    """Raise InputError unless the file has exactly the layout's tensors, in their shapes, and F32 where the runtime
    requires it."""
    known = set()  # as far as they are there: a damaged size can promise billions
    for tensor in family.tensors(dims, layout):
        known.add(tensor.name)
        found = file.tensors.get(tensor.name)
        if found is None:
            raise InputError(file.path, f"missing tensor {tensor.name}", expected=f"shape {tensor.shape}", todo=AGAIN)
        if found.shape != tensor.shape:
            raise InputError(
                file.path, f"tensor {tensor.name} has shape {found.shape}", expected=f"{tensor.shape}", todo=AGAIN
            )
        if ROLE_TYPES[tensor.role] is F32 and found.ggml_type is not F32:
            raise InputError(file.path, f"tensor {tensor.name} is {found.ggml_type.name}", expected="f32", todo=AGAIN)
    for name in file.tensors:
        if name not in known:
            raise InputError(file.path, f"extra tensor {name}, unknown to {family.architecture}")


def vocabulary_of_file(file: GGUFFile, vocab_size: int, text: TextFacts) -> FileVocabulary:
    """The vocabulary of a file. Raises InputError unless it is complete: every token is reachable by merges, and every
    byte has one."""
    model = file.metadata.get("tokenizer.ggml.model")
    if not isinstance(model, str) or model != text.model:
        what = f"key tokenizer.ggml.model {shown(model)}"
        raise InputError(file.path, what, expected=f"{text.model!r}, a byte-level BPE")
    tokens, merges = vocabulary_strings(file, "tokens"), vocabulary_strings(file, "merges")
    if len(tokens) != vocab_size:
        raise InputError(file.path, f"key tokenizer.ggml.tokens has {len(tokens)}", expected=f"{vocab_size}")
    types = token_types(file, vocab_size) or infer_token_types(tokens, text.first_added)
    plain = {text: token_id for token_id, text in enumerate(tokens) if types[token_id] == TokenType.NORMAL}
    check_findings(f"{file.path}: key tokenizer.ggml.tokens", byte_findings(plain), AGAIN)
    check_findings(f"{file.path}: key tokenizer.ggml.merges", merge_findings(plain, merges), AGAIN)
    return FileVocabulary(tokens, types, merges)


def check_ids(where: object, dims: Any, tokens: Sequence[str], text: TextFacts) -> None:
    """Raise InputError for a token id among the sizes that is of another token than the family says."""
    for field_name, token in text.ids.items():
        token_id = getattr(dims, field_name)
        if tokens[token_id] != token:
            expected = f"{tokens.index(token)}, {token!r}" if token in tokens else f"{token!r} among them"
            raise InputError(where, f"{field_name} is {token_id}, {tokens[token_id]!r}", expected=expected)


def vocabulary_strings(file: GGUFFile, name: str) -> list[str]:
    """The strings of `tokenizer.ggml.{name}`. Raises InputError if the key is missing or holds other values."""
    values = file.metadata.get(f"tokenizer.ggml.{name}")
    if not isinstance(values, list | np.ndarray) or not len(values):
        raise InputError(file.path, f"key tokenizer.ggml.{name} is missing", todo=AGAIN)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise InputError(file.path, f"key tokenizer.ggml.{name} holds something else than strings", todo=AGAIN)
    return values


def token_types(file: GGUFFile, n_tokens: int) -> list[int] | None:
    """The type of each token; None for a file without them. Raises InputError unless there are `n_tokens` integers."""
    key = "tokenizer.ggml.token_type"
    found = file.metadata.get(key)
    if found is None or (isinstance(found, list | np.ndarray) and not len(found)):
        return None
    if not isinstance(found, list | np.ndarray):
        raise InputError(file.path, f"key {key} {shown(found)}", expected=f"a list of {n_tokens} integers")
    if len(found) != n_tokens:
        raise InputError(file.path, f"key {key} has {len(found)}", expected=f"{n_tokens}")
    values: list[Any] = found.tolist() if isinstance(found, np.ndarray) else found
    for token_id, value in enumerate(values):
        if type(value) is not int:
            raise InputError(file.path, f"key {key} {shown(value)} for token {token_id}", expected="an integer")
    return values


def infer_token_types(tokens: list[str], first_added: str) -> list[int]:
    """Token types for a file without them, as older tools wrote: `[PAD…]` is unused; from the first added token on,
    tokens are control tokens."""
    first = tokens.index(first_added) if first_added in tokens else len(tokens)
    return [
        int(
            TokenType.NORMAL if token_id < first else TokenType.UNUSED if text.startswith("[PAD") else TokenType.CONTROL
        )
        for token_id, text in enumerate(tokens)
    ]
