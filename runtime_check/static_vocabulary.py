"""The vocabulary of a file, looked at without the checkpoint that it came from: what can be known of any, and of the
published one."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from gguf import GGUFValueType, TokenType
from tokenizers.pre_tokenizers import ByteLevel

from mimo_convert.gguf_file import GGUFFile, is_array, shown
from mimo_convert.model_file import infer_token_types
from mimo_convert.models import Family, PublishedVocabulary

from .prompt import STOP_TOKENS

KEY = "tokenizer.ggml."
FIRST_ADDED = "<|endoftext|>"  # of Qwen2: its added tokens follow the plain ones
PLAIN, UNUSED = TokenType.NORMAL, TokenType.UNUSED
ADDED = (TokenType.CONTROL, TokenType.USER_DEFINED)
KINDS: dict[int, int] = {PLAIN: 0, **dict.fromkeys(ADDED, 1), UNUSED: 2}  # in the order in which they stand
MAX_BREAKS = 8  # in the order of merges: beyond, the vocabulary was never in that order

Finding = tuple[str, int, Iterator[str]]  # a rule's name, how much it looked at, what is wrong


@dataclass(frozen=True)
class FileVocabulary:
    """The vocabulary as the file has it; `types` as older tools' readers infer them, where it has none that fit.

    `published` is the one that it claims to be by its size, if it does.
    """

    tokens: list[str]
    types: list[int]
    merges: list[str]
    vocab_size: int
    metadata: Mapping[str, Any]
    published: PublishedVocabulary | None

    @cached_property
    def plain(self) -> dict[str, int]:
        """Id of each token that merges are about."""
        return {text: id for id, text in enumerate(self.tokens) if self.types[id] == PLAIN}


def findings(file: GGUFFile, family: Family, vocab_size: int | None) -> Iterator[Finding]:
    """Every rule that can be examined; `vocab_size` None: the file does not say."""
    tokens, merges = _strings(file, "tokens"), _strings(file, "merges")
    types = file.metadata.get(f"{KEY}token_type")
    if not tokens:
        yield "vocabulary", 0, iter([f"key {KEY}tokens is missing, empty, or holds no strings; expected every token"])
        return
    size, known = vocab_size or len(tokens), family.published
    published = known if known and known.vocab_size == size else None
    v = FileVocabulary(tokens, _types(types, tokens), merges, size, file.metadata, published)
    yield "vocabulary", len(tokens), _vocabulary(v)
    yield "merges", len(merges), _merges(v)
    yield "token types", len(tokens), _token_types(v, types)
    yield "special tokens", sum(type in ADDED for type in v.types), _special_tokens(v, family)
    yield "padding", v.types.count(UNUSED), _padding(v)


def _strings(file: GGUFFile, name: str) -> list[str]:
    """The list that a key holds; nothing if it holds none of strings."""
    found = file.metadata.get(KEY + name)
    return found if isinstance(found, list) and file.value_types[KEY + name] == GGUFValueType.STRING else []


def _types(found: Any, tokens: list[str]) -> list[int]:
    """The types that were found, if they fit."""
    values = _values(found, len(tokens))
    fit = len(values) == len(tokens) == len(found) and all(map(_is_kind, values)) if values else False
    return values if fit else infer_token_types(tokens)


def _values(found: Any, most: int) -> list[Any]:
    """The first elements of a list, as Python has them; there may be millions behind them. Nothing of what is none."""
    if isinstance(found, np.ndarray):
        return list(found[:most].tolist())
    return found[:most] if isinstance(found, list) else []


def _is_kind(value: Any) -> bool:
    """Whether a value is a token type that we know: 1.0 and True are none."""
    return type(value) is int and value in KINDS


def _vocabulary(v: FileVocabulary) -> Iterator[str]:
    for name, expected, needed in (("model", "gpt2", True), ("pre", "qwen2", False)):
        found = v.metadata.get(KEY + name)
        if found != expected if isinstance(found, str) else needed or found is not None:
            yield f"key {KEY}{name} {shown(found)}; expected {expected!r}"
    if len(v.tokens) != v.vocab_size:
        yield f"key {KEY}tokens has {len(v.tokens):,}; expected vocab_size, {v.vocab_size:,}"
    ids: dict[str, int] = {}
    for id, text in enumerate(v.tokens):
        if ids.setdefault(text, id) != id:
            yield f"token {id} is {text!r}, as token {ids[text]} is; expected another"
    alphabet = set(ByteLevel.alphabet())
    for letter in sorted(alphabet - v.plain.keys()):
        yield f"no plain token is {letter!r}; expected one for each of the {len(alphabet)} bytes"
    for text, id in v.plain.items():
        if not alphabet.issuperset(text):
            yield f"token {id} is {text!r}, plain text; expected letters that stand for bytes"
        elif not text:
            yield f"token {id} is empty; expected text"


def _merges(v: FileVocabulary) -> Iterator[str]:
    if not v.merges:
        yield f"key {KEY}merges is missing, empty, or holds no strings; expected every merge"
        return
    if v.published and len(v.merges) != v.published.n_merges:
        yield f"key {KEY}merges has {len(v.merges):,}; expected {v.published.n_merges:,}, as published"
    ids = v.plain
    pairs = [tuple(merge.split(" ")) for merge in v.merges]
    first: dict[str, int] = {}  # rank of the first merge that gives a token
    for rank, pair in enumerate(pairs):
        first.setdefault("".join(pair), rank)
    times = Counter(pairs)
    for rank, (merge, pair) in enumerate(zip(v.merges, pairs, strict=True)):
        what = f"merge {rank} ({merge!r})"
        if len(pair) != 2 or not all(pair):
            yield f"{what} is malformed; expected two parts"
            continue
        for text in dict.fromkeys([*pair, "".join(pair)]):
            if text not in ids:
                yield f"{what} needs {text!r}, which is no plain token; expected it in the vocabulary"
        for part in pair:
            if first.get(part, -1) > rank:
                yield f"{what} needs {part!r}, which merge {first[part]} gives; expected that one before it"
        if times[pair] > 1 and first["".join(pair)] != rank:
            yield f"{what} stands twice; expected once"
    for text, id in ids.items():
        if len(text) > 1 and text not in first:
            yield f"token {id} ({text!r}) is the result of no merge; expected one"
    yield from _out_of_order(v.merges, [ids.get("".join(pair), -1) for pair in pairs])


def _out_of_order(merges: Sequence[str], ids: Sequence[int]) -> Iterator[str]:
    """Merges that swapped places. Where ids were given to tokens as training made them, which holds for all but a few
    places here or not at all, merges stand in the order of the ids that they give."""
    breaks = [rank for rank in range(1, len(ids)) if 0 <= ids[rank] < ids[rank - 1]]
    if len(breaks) <= MAX_BREAKS and 100 * len(breaks) < len(merges):
        for rank in breaks:
            yield (
                f"merge {rank} ({merges[rank]!r}) gives id {ids[rank]}, and the one before it id {ids[rank - 1]}; "
                "expected the order of ids, as all others are in"
            )


def _token_types(v: FileVocabulary, types: Any) -> Iterator[str]:
    """Known types, in one order: plain tokens, added ones, unused ones."""
    if types is not None:
        n_types = len(types) if is_array(types) else 0
        if n_types != len(v.tokens):
            yield f"key {KEY}token_type has {n_types:,}; expected one for each of {len(v.tokens):,} tokens"
        for id, type in enumerate(_values(types, len(v.tokens))):
            if not _is_kind(type):
                yield f"token {id} has the type {type!r}; expected one of {', '.join(str(int(kind)) for kind in KINDS)}"
    for id, (before, type) in enumerate(zip(v.types, v.types[1:], strict=False), 1):
        if KINDS[type] < KINDS[before]:
            yield (
                f"token {id} ({v.tokens[id]!r}) is {_name(type)}, behind {_name(before)} ones; expected plain tokens "
                "before added ones before unused ones"
            )


def _special_tokens(v: FileVocabulary, family: Family) -> Iterator[str]:
    ids = {text: id for id, text in enumerate(v.tokens)}
    for name, allowed in (("eos", STOP_TOKENS), ("padding", None)):
        id = v.metadata.get(f"{KEY}{name}_token_id")
        if id is None:
            continue
        if type(id) is not int or not 0 <= id < len(v.tokens):
            yield f"key {KEY}{name}_token_id {shown(id)}; expected an id below {len(v.tokens)}"
        elif v.types[id] != TokenType.CONTROL or (allowed and v.tokens[id] not in allowed):
            found = f"key {KEY}{name}_token_id is {id}, the {_name(v.types[id])} token {v.tokens[id]!r}"
            yield f"{found}; expected {' or '.join(allowed) if allowed else 'a control token'}"
    for text in family.needed_tokens:
        if text not in ids:
            yield f"no token is {text}; expected it, for the prompt"
        elif v.types[ids[text]] not in ADDED:
            yield f"token {ids[text]} ({text}) is {_name(v.types[ids[text]])}; expected control, for the prompt"
    first = next((text for text, type in zip(v.tokens, v.types, strict=True) if type in ADDED), FIRST_ADDED)
    if first != FIRST_ADDED:
        yield f"the first added token, {ids[first]}, is {first!r}; expected {FIRST_ADDED}"
    for text, id in v.published.ids.items() if v.published else ():
        if ids.get(text) != id:
            found = f"has id {ids[text]}" if text in ids else "is not there"
            yield f"token {text} {found}; expected {id}, as published"


def _padding(v: FileVocabulary) -> Iterator[str]:
    """What no id is used for is told by its text, and stands at the end."""
    for id, (text, type) in enumerate(zip(v.tokens, v.types, strict=True)):
        if type == UNUSED and text != f"[PAD{id}]":
            yield f"token {id} is {text!r}, and unused; expected [PAD{id}]"
        elif type != UNUSED and text == f"[PAD{id}]":
            yield f"token {id} ({text}) is {_name(type)}; expected unused"
    n = v.types.count(UNUSED)
    if v.published and n != v.published.n_unused:
        yield f"{n} tokens are unused; expected {v.published.n_unused}, as published"


def _name(type: int) -> str:
    return TokenType(type).name.lower().replace("_", "-")
