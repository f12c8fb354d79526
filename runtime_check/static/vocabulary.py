"""Lint rules of a file's vocabulary: those that hold for any, and those for the published one."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
from gguf import GGUFValueType, TokenType

from mimo_convert.formats.gguf import GGUFFile, is_array, shown
from mimo_convert.formats.vocabulary import BYTE_LETTERS, byte_findings, merge_findings
from mimo_convert.model.family import PublishedVocabulary, TextFacts
from mimo_convert.model.gguf_facts import infer_token_types

KEY = "tokenizer.ggml."
PLAIN, UNUSED = TokenType.NORMAL, TokenType.UNUSED
ADDED = (TokenType.CONTROL, TokenType.USER_DEFINED)
KINDS: dict[int, int] = {PLAIN: 0, **dict.fromkeys(ADDED, 1), UNUSED: 2}  # in the order in which they stand
MAX_BREAKS = 8  # in the order of merges: beyond, the vocabulary was never in that order

Finding = tuple[str, int, Iterator[str]]  # a rule's name, how much it looked at, what is wrong


@dataclass(frozen=True)
class FileVocabulary:
    """The vocabulary of a file; `types` are inferred as older readers do if the file has no valid ones.

    `published` are the facts of the published vocabulary of this size, if any.
    """

    tokens: list[str]
    types: list[int]
    merges: list[str]
    vocab_size: int
    metadata: Mapping[str, Any]
    published: PublishedVocabulary | None

    @cached_property
    def plain(self) -> dict[str, int]:
        """Ids of the plain tokens, which merges are about."""
        return {text: token_id for token_id, text in enumerate(self.tokens) if self.types[token_id] == PLAIN}


def findings(
    file: GGUFFile, text: TextFacts, vocab_size: int | None, ids: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Finding]:
    """Yield every rule that can be applied; `vocab_size` is None if the file has none. `ids` maps keys of token ids to
    the tokens' texts."""
    tokens, merges = _strings(file, "tokens"), _strings(file, "merges")
    types = file.metadata.get(f"{KEY}token_type")
    if not tokens:
        yield "vocabulary", 0, iter([f"key {KEY}tokens is missing, empty, or holds no strings; expected every token"])
        return
    size, known = vocab_size or len(tokens), text.published
    published = known if known and known.vocab_size == size else None
    v = FileVocabulary(tokens, _types(types, tokens, text), merges, size, file.metadata, published)
    yield "vocabulary", len(tokens), _vocabulary(v, text)
    yield "merges", len(merges), _merges(v)
    yield "token types", len(tokens), _token_types(v, types)
    special = itertools.chain(_special_tokens(v, text), _ids(v, ids))
    yield "special tokens", sum(token_type in ADDED for token_type in v.types), special
    yield "padding", v.types.count(UNUSED), _padding(v)


def _strings(file: GGUFFile, name: str) -> list[str]:
    """The list of strings of a key; empty if it has none."""
    found = file.metadata.get(KEY + name)
    return found if isinstance(found, list) and file.value_types[KEY + name] == GGUFValueType.STRING else []


def _types(found: Any, tokens: list[str], text: TextFacts) -> list[int]:
    """The token types, inferred if they are not valid."""
    values = _values(found, len(tokens))
    fit = len(values) == len(tokens) == len(found) and all(map(_is_kind, values)) if values else False
    return values if fit else infer_token_types(tokens, text.first_added)


def _values(found: Any, most: int) -> list[Any]:
    """The first `most` elements of an array as Python objects; empty if it is not an array."""
    if isinstance(found, np.ndarray):
        return list(found[:most].tolist())
    return found[:most] if isinstance(found, list) else []


def _is_kind(value: Any) -> bool:
    """Whether a value is a known token type, and an int."""
    return type(value) is int and value in KINDS


def _vocabulary(v: FileVocabulary, facts: TextFacts) -> Iterator[str]:
    for name, expected, needed in (("model", facts.model, True), ("pre", facts.pre, False)):
        found = v.metadata.get(KEY + name)
        if found != expected if isinstance(found, str) else needed or found is not None:
            yield f"key {KEY}{name} {shown(found)}; expected {expected!r}"
    if len(v.tokens) != v.vocab_size:
        yield f"key {KEY}tokens has {len(v.tokens):,}; expected vocab_size, {v.vocab_size:,}"
    ids: dict[str, int] = {}
    for token_id, text in enumerate(v.tokens):
        if ids.setdefault(text, token_id) != token_id:
            yield f"token {token_id} is {text!r}, as token {ids[text]} is; expected another"
    yield from map(str, byte_findings(v.plain))
    alphabet = set(BYTE_LETTERS)
    for text, token_id in v.plain.items():
        if not alphabet.issuperset(text):
            yield f"token {token_id} is {text!r}, plain text; expected letters that stand for bytes"
        elif not text:
            yield f"token {token_id} is empty; expected text"


def _merges(v: FileVocabulary) -> Iterator[str]:
    if not v.merges:
        yield f"key {KEY}merges is missing, empty, or holds no strings; expected every merge"
        return
    if v.published and len(v.merges) != v.published.n_merges:
        yield f"key {KEY}merges has {len(v.merges):,}; expected {v.published.n_merges:,}, as published"
    yield from map(str, merge_findings(v.plain, v.merges))
    results = [v.plain.get(merge.replace(" ", "", 1), -1) for merge in v.merges]
    yield from _out_of_order(v.merges, results)


def _out_of_order(merges: Sequence[str], ids: Sequence[int]) -> Iterator[str]:
    """Find merges that are out of order.

    If ids were assigned in training order, which holds for all merges but a few or for none, merges are sorted by the
    ids they produce.
    """
    breaks = [rank for rank in range(1, len(ids)) if 0 <= ids[rank] < ids[rank - 1]]
    if len(breaks) <= MAX_BREAKS and 100 * len(breaks) < len(merges):
        for rank in breaks:
            yield (
                f"merge {rank} ({merges[rank]!r}) gives id {ids[rank]}, and the one before it id {ids[rank - 1]}; "
                "expected the order of ids, as all others are in"
            )


def _token_types(v: FileVocabulary, types: Any) -> Iterator[str]:
    """Find unknown token types, and types out of order: plain tokens, added ones, unused ones."""
    if types is not None:
        n_types = len(types) if is_array(types) else 0
        if n_types != len(v.tokens):
            yield f"key {KEY}token_type has {n_types:,}; expected one for each of {len(v.tokens):,} tokens"
        for token_id, token_type in enumerate(_values(types, len(v.tokens))):
            if not _is_kind(token_type):
                known = ", ".join(str(int(kind)) for kind in KINDS)
                yield f"token {token_id} has the type {token_type!r}; expected one of {known}"
    for token_id, (before, token_type) in enumerate(zip(v.types, v.types[1:], strict=False), 1):
        if KINDS[token_type] < KINDS[before]:
            yield (
                f"token {token_id} ({v.tokens[token_id]!r}) is {_name(token_type)}, behind {_name(before)} ones; "
                "expected plain tokens before added ones before unused ones"
            )


def _special_tokens(v: FileVocabulary, facts: TextFacts) -> Iterator[str]:
    ids = {text: token_id for token_id, text in enumerate(v.tokens)}
    for name, allowed in (("eos", facts.stop_tokens), ("padding", None)):
        token_id = v.metadata.get(f"{KEY}{name}_token_id")
        if token_id is None:
            continue
        if type(token_id) is not int or not 0 <= token_id < len(v.tokens):
            yield f"key {KEY}{name}_token_id {shown(token_id)}; expected an id below {len(v.tokens)}"
        elif v.types[token_id] != TokenType.CONTROL or (allowed and v.tokens[token_id] not in allowed):
            found = (
                f"key {KEY}{name}_token_id is {token_id}, the {_name(v.types[token_id])} token {v.tokens[token_id]!r}"
            )
            yield f"{found}; expected {' or '.join(allowed) if allowed else 'a control token'}"
    for text in facts.required:
        if text not in ids:
            yield f"no token is {text}; expected it, for the prompt"
        elif v.types[ids[text]] not in ADDED:
            yield f"token {ids[text]} ({text}) is {_name(v.types[ids[text]])}; expected control, for the prompt"
    first = next(
        (text for text, token_type in zip(v.tokens, v.types, strict=True) if token_type in ADDED), facts.first_added
    )
    if first != facts.first_added:
        yield f"the first added token, {ids[first]}, is {first!r}; expected {facts.first_added}"
    for text, token_id in v.published.ids.items() if v.published else ():
        if ids.get(text) != token_id:
            found = f"has id {ids[text]}" if text in ids else "is not there"
            yield f"token {text} {found}; expected {token_id}, as published"


def _ids(v: FileVocabulary, ids: Mapping[str, str]) -> Iterator[str]:
    """Find keys that hold the id of another token than theirs."""
    for key, text in ids.items():
        token_id, expected = v.metadata.get(key), v.tokens.index(text) if text in v.tokens else None
        if token_id is not None and expected is not None and not (type(token_id) is int and token_id == expected):
            yield f"key {key} {shown(token_id)}; expected {expected}, {text}"


def _padding(v: FileVocabulary) -> Iterator[str]:
    """Find unused ids whose text is not `[PAD<id>]`, and the reverse."""
    for token_id, (text, token_type) in enumerate(zip(v.tokens, v.types, strict=True)):
        if token_type == UNUSED and text != f"[PAD{token_id}]":
            yield f"token {token_id} is {text!r}, and unused; expected [PAD{token_id}]"
        elif token_type != UNUSED and text == f"[PAD{token_id}]":
            yield f"token {token_id} ({text}) is {_name(token_type)}; expected unused"
    n = v.types.count(UNUSED)
    if v.published and n != v.published.n_unused:
        yield f"{n} tokens are unused; expected {v.published.n_unused}, as published"


def _name(token_type: int) -> str:
    return TokenType(token_type).name.lower().replace("_", "-")
