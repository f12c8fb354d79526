"""A GGUF file of a known family: its sizes agree with each other, and every tensor is there in the shape they promise.

ggml ends the process when a graph meets a tensor of an unexpected shape, so nothing is run before it was opened here.
"""

import itertools
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFValueType, TokenType

from quantize.errors import InputError
from quantize.quantizer import CONTRACTED, GGML, SIMD
from quantize.recipes import ROLE_TYPES, Rule, parse_recipe
from quantize.types import F32, TYPES, Type

from .gguf_file import GGUFFile, read_gguf, shown
from .models import Family
from .vocabulary import check_bytes, check_merges

PYTHON_TYPES = {GGUFValueType.UINT32: int, GGUFValueType.FLOAT32: float, GGUFValueType.STRING: str}
FILE_TYPE = "general.file_type"
QUANTIZER = "mimo_convert.quantizer"
RECIPE = "mimo_convert.recipe"
UNKNOWN = "unknown"
MAKERS = frozenset({SIMD, GGML, CONTRACTED, UNKNOWN})
AGAIN = "convert the checkpoint again"


def open_model_file(path: Path, family: Family) -> tuple[GGUFFile, Any]:
    """The file, and the family's dataclass of sizes. Raises InputError for a file that cannot be run."""
    file = read_gguf(path)
    if file.architecture != family.gguf:
        raise InputError(
            path, f"key general.architecture is {file.architecture!r}", expected=f"{family.gguf!r}",
            todo="give the other file",
        )  # fmt: skip
    return file, checked_dimensions(file, family)


def checked_dimensions(file: GGUFFile, family: Family) -> Any:
    """The sizes of a file of `family`. Raises InputError unless they agree, and its tensors with them."""
    dims = dimensions_of_file(family, file.path, file.metadata)
    for what, expected in family.conflicts(dims):
        raise InputError(file.path, f"its sizes contradict each other: {what}", expected=expected, todo=AGAIN)
    check_tensors(file, family, dims)
    return dims


def dimensions_of_file(family: Family, path: Path, metadata: Mapping[str, Any]) -> Any:
    """The family's dataclass of sizes, read back from a GGUF file's metadata.

    Raises InputError for a key that is missing, of the wrong type, or a size below 1.
    """
    values = {}
    for field, key, type, default, _ in family.keys:
        kind = PYTHON_TYPES[type]
        found = metadata.get(key, default)
        if found is None and f"{key}.0" in metadata:
            keys = itertools.takewhile(metadata.__contains__, (f"{key}.{i}" for i in itertools.count()))
            found = tuple(metadata[element] for element in keys)
        for value in found if isinstance(found, tuple) else (found,):
            if not isinstance(value, kind) or isinstance(value, bool):
                raise InputError(path, f"key {key} {shown(value)}", expected=f"a value of type {kind.__name__}")
            if isinstance(value, int) and value < 1:
                raise InputError(path, f"key {key} is {value}", expected="a positive number")
        values[field] = found
    for field, key, *_, length in family.keys:
        if length and len(values[field]) != values[length]:
            raise InputError(
                path, f"keys {key}.N: {len(values[field])} of them", expected=f"{values[length]} ({length})"
            )
    return family.dimensions_type(**values)


def is_fused(file: GGUFFile) -> bool:
    """Whether the language model's blocks hold Q, K and V as one tensor."""
    return any(".attn.qkv." in name for name in file.tensors)


def quantizers_of_file(file: GGUFFile) -> frozenset[str]:
    """What made the file's blocks, by its own account: `simd`, `ggml`, or both; `unknown` if it does not say."""
    found = file.metadata.get(QUANTIZER)
    return quantizers_of_text(found if isinstance(found, str) else "")


def quantizers_of_text(text: str) -> frozenset[str]:
    """The names in what a file records; `unknown` where there are none, or one that we do not know."""
    names = frozenset(text.split(" + "))
    return names if names <= MAKERS else frozenset({UNKNOWN})


def quantizer_text(names: Iterable[str]) -> str:
    """As a file records it: `simd`, `ggml`, `ggml + simd`, … or nothing, if nothing is known."""
    return " + ".join(sorted(names)) if set(names) - {UNKNOWN} else ""


def type_of_file(file: GGUFFile) -> Type | None:
    """The type that the file says most of it is; None if it does not say, or names none that we know."""
    found = file.metadata.get(FILE_TYPE)
    known = isinstance(found, int) and not isinstance(found, bool)
    return next((type for type in TYPES.values() if known and type.file_type == found), None)


def rules_of_file(file: GGUFFile) -> tuple[Rule, ...]:
    """The rules by which single tensors got other types. Raises InputError if what the file records is no recipe."""
    found, where = file.metadata.get(RECIPE, ""), f"{file.path}: key {RECIPE}"
    if not isinstance(found, str):
        raise InputError(where, shown(found), expected="rules, REGEX=TYPE, one a line")
    return tuple(parse_recipe(found, where))


def recorded_rules(file: GGUFFile) -> tuple[tuple[Rule, ...], str]:
    """The rules of the file; and none, and why, if what it records is no recipe, which only the static check fails."""
    try:
        return rules_of_file(file), ""
    except InputError as error:
        return (), str(error)


def is_asr_only(file: GGUFFile, family: Family) -> bool:
    """Whether the file was made without the tensors of speech generation."""
    return not any(re.fullmatch(family.speech_generation, name) for name in file.tensors)


def check_tensors(file: GGUFFile, family: Family, dims: Any) -> None:
    """Every tensor of the family is there, and none beyond, in its shape, and F32 where the runtime needs that.

    Those of speech generation may be missing, if all are.
    """
    known = set()  # as far as they are there: a damaged size can promise billions
    for tensor in family.tensors(dims, is_fused(file), is_asr_only(file, family)):
        known.add(tensor.name)
        found = file.tensors.get(tensor.name)
        if found is None:
            raise InputError(file.path, f"missing tensor {tensor.name}", expected=f"shape {tensor.shape}", todo=AGAIN)
        if found.shape != tensor.shape:
            raise InputError(
                file.path, f"tensor {tensor.name} has shape {found.shape}", expected=f"{tensor.shape}", todo=AGAIN
            )
        if ROLE_TYPES[tensor.role] is F32 and found.type is not F32:
            raise InputError(file.path, f"tensor {tensor.name} is {found.type.name}", expected="f32", todo=AGAIN)
    for name in file.tensors:
        if name not in known:
            raise InputError(file.path, f"extra tensor {name}, unknown to {family.gguf}")


def vocabulary_of_file(file: GGUFFile, vocab_size: int) -> tuple[list[str], list[int], list[str]]:
    """Tokens, their types, and merges as the file has them. Raises InputError unless each is there, and whole.

    Merges must reach every token, and every byte have one, as in a checkpoint's.
    """
    model = file.metadata.get("tokenizer.ggml.model")
    if not isinstance(model, str) or model != "gpt2":
        what = f"key tokenizer.ggml.model {shown(model)}"
        raise InputError(file.path, what, expected="'gpt2', a byte-level BPE")
    tokens, merges = vocabulary_strings(file, "tokens"), vocabulary_strings(file, "merges")
    if len(tokens) != vocab_size:
        raise InputError(file.path, f"key tokenizer.ggml.tokens has {len(tokens)}", expected=f"{vocab_size}")
    types = token_types(file, vocab_size) or infer_token_types(tokens)
    if any(merge.count(" ") != 1 for merge in merges):
        raise InputError(file.path, "key tokenizer.ggml.merges holds one that is not two parts", todo=AGAIN)
    plain = dict.fromkeys(text for text, type in zip(tokens, types, strict=True) if type == TokenType.NORMAL)
    check_bytes(f"{file.path}: key tokenizer.ggml.tokens", plain, AGAIN)
    check_merges(f"{file.path}: key tokenizer.ggml.merges", plain, merges, AGAIN)
    return tokens, types, merges


def vocabulary_strings(file: GGUFFile, name: str) -> list[str]:
    """The strings of `tokenizer.ggml.{name}`. Raises InputError if there are none, or other things."""
    values = file.metadata.get(f"tokenizer.ggml.{name}")
    if not isinstance(values, list | np.ndarray) or not len(values):
        raise InputError(file.path, f"key tokenizer.ggml.{name} is missing", todo=AGAIN)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise InputError(file.path, f"key tokenizer.ggml.{name} holds something else than strings", todo=AGAIN)
    return values


def token_types(file: GGUFFile, n_tokens: int) -> list[int] | None:
    """The type of each token; None for a file that gives none. Raises InputError unless they are that many integers."""
    key = "tokenizer.ggml.token_type"
    found = file.metadata.get(key)
    if found is None or (isinstance(found, list | np.ndarray) and not len(found)):
        return None
    if not isinstance(found, list | np.ndarray):
        raise InputError(file.path, f"key {key} {shown(found)}", expected=f"a list of {n_tokens} integers")
    if len(found) != n_tokens:
        raise InputError(file.path, f"key {key} has {len(found)}", expected=f"{n_tokens}")
    values: list[Any] = found.tolist() if isinstance(found, np.ndarray) else found
    for id, value in enumerate(values):
        if type(value) is not int:
            raise InputError(file.path, f"key {key} {shown(value)} for token {id}", expected="an integer")
    return values


def infer_token_types(tokens: list[str]) -> list[int]:
    """Types for a file that gives none, as older tools wrote them: `[PAD…]` is unused, and what follows the plain
    vocabulary, from `<|endoftext|>` on, is control."""
    first = tokens.index("<|endoftext|>") if "<|endoftext|>" in tokens else len(tokens)
    return [
        int(TokenType.NORMAL if id < first else TokenType.UNUSED if text.startswith("[PAD") else TokenType.CONTROL)
        for id, text in enumerate(tokens)
    ]
