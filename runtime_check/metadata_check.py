"""Metadata of a GGUF file and of what it was made from → the keys that differ. Those about the file itself may."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from gguf import GGUFValueType

from mimo_convert.gguf_file import is_array
from mimo_convert.stored_model import StoredModel

VOCABULARY = "tokenizer."
END_OF_TEXT = "<|endoftext|>"
MAX_TEXT = 80  # characters of a value that are shown

# What a file without the key means: older tools do not write them, and readers take what the published model has. Token
# types are not here: readers tell them by the tokens.
MEANT: dict[str, Callable[[list[str]], Any]] = {
    "tokenizer.ggml.pre": lambda tokens: "qwen2",
    "tokenizer.ggml.eos_token_id": lambda tokens: tokens.index(END_OF_TEXT) if END_OF_TEXT in tokens else None,
    "tokenizer.ggml.padding_token_id": lambda tokens: tokens.index(END_OF_TEXT) if END_OF_TEXT in tokens else None,
}


def metadata_problems(ours: StoredModel, source: StoredModel) -> Iterator[str]:
    """A line for each size of the model, and each key of its vocabulary, that is not the source's."""
    for key, found, expected in (*sizes(ours, source), *vocabularies(ours, source)):
        if differ(found, expected):
            yield f"key {key} {difference(found, expected)}"


def sizes(ours: StoredModel, source: StoredModel) -> Iterator[tuple[str, Any, Any]]:
    """Every size as (key, ours, the source's); those that a file leaves out are what its readers take for granted."""
    for field, key, type, *_ in source.family.keys:
        found, expected = getattr(ours.dims, field), getattr(source.dims, field)
        if isinstance(found, tuple):  # as long as another size says
            yield from ((f"{key}.{i}", a, b) for i, (a, b) in enumerate(zip(found, expected, strict=False)))
        elif type == GGUFValueType.FLOAT32:
            yield key, float(np.float32(found)), float(np.float32(expected))
        else:
            yield key, found, expected


def vocabularies(ours: StoredModel, source: StoredModel) -> Iterator[tuple[str, Any, Any]]:
    """Every key of the vocabulary that both have, or that has a meaning where it is missing."""
    ours_by_key, source_by_key = by_key(ours), by_key(source)
    for key in source_by_key:
        if key.startswith(VOCABULARY) and (key in ours_by_key or key in MEANT):
            yield key, meaning(ours_by_key, key), source_by_key[key]


def by_key(model: StoredModel) -> dict[str, Any]:
    return {entry.key: entry.value for entry in model.metadata}


def meaning(metadata: Mapping[str, Any], key: str) -> Any:
    """The value of a key, or what it means that there is none."""
    if key in metadata:
        return metadata[key]
    tokens = metadata.get("tokenizer.ggml.tokens")
    return MEANT[key](tokens if isinstance(tokens, list) else [])


def differ(found: Any, expected: Any) -> bool:
    """Whether two values are not the same; numbers of a GGUF file are an array, and a checkpoint's a list."""
    if is_array(found) and is_array(expected):
        return len(found) != len(expected) or listed(found) != listed(expected)
    if isinstance(found, np.ndarray) or isinstance(expected, np.ndarray):
        return True
    return bool(found != expected)


def difference(found: Any, expected: Any) -> str:
    """What differs, in words: of two lists the first element that does."""
    if not (is_array(found) and is_array(expected)):
        return f"is {text(found)}, the source's is {text(expected)}"
    if len(found) != len(expected):
        return f"has {len(found)} elements, the source's {len(expected)}"
    pairs = list(zip(listed(found), listed(expected), strict=True))
    i, (a, b) = next((i, pair) for i, pair in enumerate(pairs) if pair[0] != pair[1])
    return f"is {text(a)} at {i}, the source's is {text(b)}"


def listed(values: Any) -> list[Any]:
    """A list's elements as Python has them."""
    return list(values.tolist()) if isinstance(values, np.ndarray) else list(values)


def text(value: Any) -> str:
    """A value, cut where it is long."""
    if is_array(value):
        return f"a list of {len(value):,}"
    shown = repr(value)
    return shown if len(shown) <= MAX_TEXT else f"{shown[:MAX_TEXT]}…"
