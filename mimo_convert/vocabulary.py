"""Tokenizer files → token list, token types, merges and special ids, checked before they are believed.

Published GGUF files of this model have shipped with a truncated vocabulary, without merges, and without the 96 merges
that begin with `#`; every rule here is one of those mistakes made impossible.
"""

import hashlib
import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import TokenType

from quantize.errors import InputError

from .json_file import read_json

AGAIN = "download the tokenizer files again"
SURROGATE = re.compile("[\ud800-\udfff]")  # JSON can say half a character; UTF-8 cannot


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
    vocabulary larger than that; an id missing or given twice; a merge whose parts or result are not in the vocabulary;
    merges that do not reach every token, as when some were lost; a token of `needed`, which the model's prompt is made
    of, that is no added token; an end-of-text token that is not there.
    """
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
        if not isinstance(id, int) or id < 0:
            raise InputError(source, f"token {text!r} has the id {id!r}", expected="a number from 0")
        if SURROGATE.search(text):
            raise InputError(source, f"token {text!r} is not valid text", todo=AGAIN)
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
    check_merges(merges_source, vocab, merges)
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
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(path, f"cannot be read: {error}", todo="vocab.json needs it beside it") from error
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
        raise InputError(path, f"merge {json.dumps(merge)} is malformed", expected="two parts")
    return " ".join(parts)


def _added(path: Path, entries: Any) -> Added:
    """Added tokens by id, from a list of entries with ids or from id → entry."""
    try:
        pairs = entries.items() if isinstance(entries, dict) else [(entry["id"], entry) for entry in entries]
        return {int(id): (str(entry["content"]), bool(entry.get("special", True))) for id, entry in pairs}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(path, "its added tokens are malformed", todo="download it again") from error


def _special_id(folder: Path, ids: dict[str, int], key: str) -> int:
    """The id of the token that tokenizer_config.json names as `key`; Qwen2's own end-of-text token otherwise."""
    path = folder / "tokenizer_config.json"
    value = read_json(path).get(key) if path.exists() else None
    text = value.get("content") if isinstance(value, dict) else value
    text = str(text or "<|endoftext|>")
    if text not in ids:
        raise InputError(path, f"{key} is {text!r}, which is not in the vocabulary")
    return ids[text]
