"""Tokenizer files → token list, token types, merges and special ids, checked before they are believed.

Published GGUF files of this model have shipped with a truncated vocabulary, without merges, and without the 96 merges
that begin with `#`; every rule here is one of those mistakes made impossible.
"""

import hashlib
import json
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import TokenType

from quantize.errors import InputError

from .files import read_text
from .json_file import MOST_BYTES, SURROGATE, read_json

AGAIN = "download the tokenizer files again"
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # a byte-level token has none: its letters stand for bytes
ID = re.compile("0|[1-9][0-9]{0,9}")  # as a key of added_tokens_decoder
MAX_TOKENS = 1 << 20  # of a vocabulary: the largest published ones have 262,144
MAX_SHOWN = 80  # characters of a value in an error


def byte_letters() -> str:
    """The letter that stands for each of the 256 bytes in a byte-level vocabulary, in the order of the bytes.

    As GPT-2's `bytes_to_unicode` has it: what is printable in Latin-1 stands for itself; for the others, in order,
    stand the characters from 256 on.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return "".join(chr(byte if byte in printable else 256 + others.index(byte)) for byte in range(256))


BYTE_LETTERS = byte_letters()


@dataclass(frozen=True)
class Vocabulary:
    """`tokens[id]` and `token_types[id]` for every id below vocab_size; `merges` as "left right", best first."""

    tokens: list[str]
    token_types: list[int]
    merges: list[str]
    eos_token_id: int
    padding_token_id: int

    @property
    def sha256(self) -> str:
        return vocabulary_sha256(self.tokens, self.merges)


def vocabulary_sha256(tokens: Sequence[str], merges: Sequence[str]) -> str:
    """What tells two vocabularies apart: the hash of every token and merge, in order."""
    return hashlib.sha256("\n".join([*tokens, "", *merges]).encode()).hexdigest()


def read_vocabulary(folder: Path, vocab_size: int, needed: Sequence[str] = ()) -> Vocabulary:
    """The vocabulary of a checkpoint folder, from tokenizer.json or else vocab.json + merges.txt.

    Ids that no entry uses become `[PAD<id>]` of type UNUSED, up to exactly `vocab_size` tokens. Raises InputError for a
    vocabulary larger than that; an id missing or given twice; text that no token can be; a byte that has no token; a
    merge whose parts or result are not in the vocabulary; merges that do not reach every token, as when some were lost;
    a token of `needed`, which the model's prompt is made of, that is no added token; an end-of-text token that is not
    there.
    """
    if vocab_size > MAX_TOKENS:
        raise InputError(folder, f"vocab_size of config.json is {vocab_size:,}", expected=f"at most {MAX_TOKENS:,}")
    source = merges_source = folder / "tokenizer.json"
    if source.exists():
        vocab, merges, added = _from_tokenizer_json(source)
    elif (folder / "vocab.json").exists():
        source, merges_source = folder / "vocab.json", folder / "merges.txt"
        vocab, merges, added = _from_vocab_and_merges(folder)
    else:
        raise InputError(folder, "no tokenizer files", expected="tokenizer.json, or vocab.json and merges.txt")

    tokens: list[str | None] = [None] * vocab_size
    types = [int(TokenType.UNUSED)] * vocab_size
    entries = [(text, id, TokenType.NORMAL) for text, id in vocab.items()]
    entries += [
        (text, id, TokenType.CONTROL if special else TokenType.USER_DEFINED) for id, (text, special) in added.items()
    ]
    for text, id, type in entries:
        check_id(source, text, id)
        if not text or SURROGATE.search(text) or CONTROL.search(text):
            raise InputError(source, f"token {shown(text)} is not valid text", todo=AGAIN)
        if id >= vocab_size:
            raise InputError(
                source, f"token {text!r} has id {id}", expected=f"below vocab_size {vocab_size} of config.json"
            )
        if tokens[id] not in (None, text):
            raise InputError(source, f"id {id} is given to both {tokens[id]!r} and {text!r}")
        tokens[id], types[id] = text, int(type)

    n_used = max((id for _, id, _ in entries), default=-1) + 1
    if None in tokens[:n_used]:
        raise InputError(
            source, f"no token has id {tokens.index(None)}", expected=f"every id below {n_used}", todo=AGAIN
        )
    plain = {text: id for text, id in vocab.items() if types[id] == TokenType.NORMAL}  # the others were added, too
    check_bytes(source, plain)
    check_merges(merges_source, plain, merges)
    for token in needed:
        if token not in {text for text, _ in added.values()}:
            raise InputError(source, f"{token} is no added token, and the prompt needs it", todo=AGAIN)

    padded = [text if text is not None else f"[PAD{id}]" for id, text in enumerate(tokens)]
    ids = {text: id for id, text in enumerate(padded)}
    for id, text in enumerate(padded):
        if ids[text] != id:
            raise InputError(source, f"token {text!r} has two ids, {id} and {ids[text]}")
    eos, pad = (_special_id(folder, ids, key) for key in ("eos_token", "pad_token"))
    return Vocabulary(padded, types, merges, eos, pad)


def check_id(source: object, text: str, id: Any) -> None:
    """An id is a number from 0, and no truth value."""
    if type(id) is not int or id < 0:
        raise InputError(source, f"token {shown(text)} has the id {shown(id)}", expected="a number from 0")


def check_bytes(source: object, plain: Collection[str], todo: str = AGAIN) -> None:
    """Every byte has a plain token, so that every text can be said."""
    missing = [byte for byte, letter in enumerate(BYTE_LETTERS) if letter not in plain]
    if missing:
        raise InputError(
            source, f"{len(missing)} of the 256 bytes have no token, 0x{missing[0]:02x} first",
            expected=f"the plain token {BYTE_LETTERS[missing[0]]!r}", todo=todo,
        )  # fmt: skip


def check_merges(source: object, vocab: Collection[str], merges: Sequence[str], todo: str = AGAIN) -> None:
    """Every merge joins two known tokens to a third, and every token longer than a byte is what some merge gives."""
    reachable = set()
    for rank, merge in enumerate(merges):
        left, right = merge.split(" ")
        for part in (left, right, left + right):
            if part not in vocab:
                raise InputError(
                    source, f"merge {rank} ({merge!r}) needs {part!r}, which is not in the vocabulary", todo=todo
                )
        reachable.add(left + right)
    lost = [text for text in vocab if len(text) > 1 and text not in reachable]
    if lost:
        raise InputError(
            source, f"{len(lost)} tokens are the result of no merge, {lost[0]!r} first",
            expected=f"{len(merges) + len(lost)} merges, found {len(merges)}", todo=todo,
        )  # fmt: skip


Added = dict[int, tuple[str, bool]]  # id → text, special


def _from_tokenizer_json(path: Path) -> tuple[dict[str, int], list[str], Added]:
    values = read_json(path)
    model = values.get("model")
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE":
        raise InputError(path, "holds no BPE model", expected="model.vocab and model.merges")
    vocab, merges = model.get("vocab"), model.get("merges")
    if not isinstance(vocab, dict) or not isinstance(merges, list):
        raise InputError(path, "its BPE model is incomplete", expected="model.vocab and model.merges")
    return vocab, [_merge(path, merge) for merge in merges], _added(path, values.get("added_tokens", []))


def _from_vocab_and_merges(folder: Path) -> tuple[dict[str, int], list[str], Added]:
    path = folder / "merges.txt"
    lines = read_text(path, MOST_BYTES, todo="vocab.json needs it beside it").replace("\r\n", "\n").split("\n")
    if lines[0].startswith("#version"):  # the only comment of the format: other lines may begin with `#` and be merges
        lines = lines[1:]
    merges = [_merge(path, line) for line in lines if line]

    config = folder / "tokenizer_config.json"
    decoder = read_json(config).get("added_tokens_decoder", {}) if config.exists() else {}
    added = _added(config, decoder)
    if not added and (folder / "added_tokens.json").exists():
        path = folder / "added_tokens.json"
        added = _added(path, [{"id": id, "content": text} for text, id in read_json(path).items()])
    return read_json(folder / "vocab.json"), merges, added


def _merge(path: Path, merge: Any) -> str:
    """A merge as "left right", from that form or from [left, right]."""
    parts = merge.split(" ") if isinstance(merge, str) else merge
    if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(p, str) and p for p in parts):
        raise InputError(path, f"merge {shown(merge, json.dumps)} is malformed", expected="two parts")
    if any(" " in part or SURROGATE.search(part) for part in parts):
        raise InputError(path, f"merge {shown(merge, json.dumps)} is malformed", expected="two parts of valid text")
    return " ".join(parts)


def _added(path: Path, entries: Any) -> Added:
    """Added tokens by id, from a list of entries with ids or from id → entry. Raises InputError for any other thing."""
    malformed = "its added tokens are malformed"
    if not isinstance(entries, list | dict):
        raise InputError(path, f"{malformed}: they are {shown(entries)}", expected="a list of them", todo=AGAIN)
    added: Added = {}
    for key in entries:
        entry, where = (key, "one") if isinstance(entries, list) else (entries[key], f"that of id {shown(key)}")
        if not isinstance(entry, dict):
            raise InputError(path, f"{malformed}: {where} is {shown(entry)}", expected="an object", todo=AGAIN)
        text, special = entry.get("content"), entry.get("special", True)
        if not isinstance(text, str) or not isinstance(special, bool):
            found = f"content {shown(text)}, special {shown(special)}"
            raise InputError(path, f"{malformed}: {where} has {found}", expected="a text; true or false", todo=AGAIN)
        id = entry.get("id") if isinstance(entries, list) else int(key) if ID.fullmatch(key) else key
        if id is None:
            raise InputError(path, f"{malformed}: {shown(text)} has no id", expected="a number from 0", todo=AGAIN)
        check_id(path, text, id)
        if id in added:
            raise InputError(path, f"id {shown(id)} is given to both {shown(added[id][0])} and {shown(text)}")
        added[id] = text, special
    return added


def _special_id(folder: Path, ids: dict[str, int], key: str) -> int:
    """The id of the token that tokenizer_config.json names as `key`; Qwen2's own end-of-text token otherwise."""
    path = folder / "tokenizer_config.json"
    value = read_json(path).get(key) if path.exists() else None
    text = value.get("content") if isinstance(value, dict) else value
    text = "<|endoftext|>" if text is None or text == "" else text
    if not isinstance(text, str):
        raise InputError(path, f"{key} is {shown(text)}", expected="a token's text", todo=AGAIN)
    if text not in ids:
        raise InputError(path, f"{key} is {shown(text)}, which is not in the vocabulary")
    return ids[text]


def shown(value: Any, form: Callable[[Any], str] = repr) -> str:
    """A value of a file as an error shows it: one that is large, or holds others in others, by its size alone."""
    if isinstance(value, str):
        return form(value) if len(value) <= MAX_SHOWN else f"{form(value[:MAX_SHOWN])}…"
    if isinstance(value, list | dict):
        nested = any(isinstance(part, list | dict) for part in value)
        kind = "a list" if isinstance(value, list) else "an object"
        text = "" if nested or len(value) > 4 else form(value)
        return text if text and len(text) <= MAX_SHOWN else f"{kind} of {len(value):,}"
    text = form(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
