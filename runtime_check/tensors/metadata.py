"""Compare the metadata of a GGUF file with its source: sizes and vocabulary."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from gguf import GGUFValueType

from mimo_convert.formats.gguf import is_array
from mimo_convert.model.family import TextFacts
from mimo_convert.model.source_model import SourceModel

VOCABULARY = "tokenizer."
MAX_TEXT = 80  # characters of a value that are shown

# What a file without the key means: older tools do not write them, and readers take what the published model has. Token
# types are not here: readers tell them by the tokens.
MEANT: dict[str, Callable[[TextFacts, list[str]], Any]] = {
    "tokenizer.ggml.pre": lambda text, tokens: text.pre,
    "tokenizer.ggml.eos_token_id": lambda text, tokens: id_of(text.first_added, tokens),
    "tokenizer.ggml.padding_token_id": lambda text, tokens: id_of(text.first_added, tokens),
}


def id_of(token: str, tokens: list[str]) -> int | None:
    """The id of a token; None if there is none."""
    return tokens.index(token) if token in tokens else None


def metadata_problems(ours: SourceModel, source: SourceModel) -> Iterator[str]:
    """Find sizes and vocabulary keys that differ from the source's."""
    for key, found, expected in (*sizes(ours, source), *vocabularies(ours, source)):
        if differ(found, expected):
            yield f"key {key} {difference(found, expected)}"


def sizes(ours: SourceModel, source: SourceModel) -> Iterator[tuple[str, Any, Any]]:
    """Every size as (key, found, expected), except of parts that one of both lacks; a missing key has its default."""
    without = ours.layout.without | source.layout.without
    for key in (key for key in source.family.keys if key.part not in without):
        # a tuple is as long as another size says
        for found, expected in zip(key.entries(ours.dims), key.entries(source.dims), strict=False):
            if key.value_type == GGUFValueType.FLOAT32:
                yield found.key, float(np.float32(found.value)), float(np.float32(expected.value))
            else:
                yield found.key, found.value, expected.value


def vocabularies(ours: SourceModel, source: SourceModel) -> Iterator[tuple[str, Any, Any]]:
    """Every vocabulary key that both have, or that has a default."""
    text = source.family.text
    if text is None:
        return
    ours_by_key, source_by_key = by_key(ours), by_key(source)
    free = {constant.key for constant in source.family.constants if constant.may_differ}
    for key in (key for key in source_by_key if key.startswith(VOCABULARY) and key not in free):
        if key in ours_by_key or key in MEANT:
            yield key, meaning(text, ours_by_key, key), source_by_key[key]


def by_key(model: SourceModel) -> dict[str, Any]:
    """The metadata of a model by key."""
    return {entry.key: entry.value for entry in model.metadata}


def meaning(text: TextFacts, metadata: Mapping[str, Any], key: str) -> Any:
    """The value of a key, or its default."""
    if key in metadata:
        return metadata[key]
    tokens = metadata.get("tokenizer.ggml.tokens")
    return MEANT[key](text, tokens if isinstance(tokens, list) else [])


def differ(found: Any, expected: Any) -> bool:
    """Whether two values differ; arrays of a GGUF file are compared with a checkpoint's lists."""
    if is_array(found) and is_array(expected):
        return len(found) != len(expected) or listed(found) != listed(expected)
    if isinstance(found, np.ndarray) or isinstance(expected, np.ndarray):
        return True
    return bool(found != expected)


def difference(found: Any, expected: Any) -> str:
    """Describe a difference, for lists the first element that differs."""
    if not (is_array(found) and is_array(expected)):
        return f"is {text(found)}, the source's is {text(expected)}"
    if len(found) != len(expected):
        return f"has {len(found)} elements, the source's {len(expected)}"
    pairs = list(zip(listed(found), listed(expected), strict=True))
    i, (a, b) = next((i, pair) for i, pair in enumerate(pairs) if pair[0] != pair[1])
    return f"is {text(a)} at {i}, the source's is {text(b)}"


def listed(values: Any) -> list[Any]:
    """The elements of a list or array as Python objects."""
    return list(values.tolist()) if isinstance(values, np.ndarray) else list(values)


def text(value: Any) -> str:
    """A value, shortened for a message."""
    if is_array(value):
        return f"a list of {len(value):,}"
    shown = repr(value)
    return shown if len(shown) <= MAX_TEXT else f"{shown[:MAX_TEXT]}…"
