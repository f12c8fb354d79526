"""Tokenizer files → tokens, token types, merges and special ids, validated before use.

Published GGUF files of this model have shipped with a truncated vocabulary, without merges, and without the 96 merges
that begin with `#`; the rules here detect each of these.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from gguf import TokenType

from mimo_convert.files import MOST_JSON_BYTES, read_text
from mimo_convert.formats.json_file import SURROGATE, read_json
from quantize.errors import InputError

AGAIN = "download the tokenizer files again"
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # a byte-level token has none: its letters stand for bytes
ID = re.compile("0|[1-9][0-9]{0,9}")  # as a key of added_tokens_decoder
MAX_TOKENS = 1 << 20  # of a vocabulary: the largest published ones have 262,144
MAX_SHOWN = 80  # characters of a value in an error
Numbers = npt.NDArray[Any]


def byte_letters() -> str:
    """The letter of each of the 256 bytes in a byte-level vocabulary, in byte order.

    Source: GPT-2's `bytes_to_unicode` (encoder.py): bytes that are printable in Latin-1 stand for themselves, the
    others for the characters from 256 on.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return "".join(chr(byte if byte in printable else 256 + others.index(byte)) for byte in range(256))


BYTE_LETTERS = byte_letters()


@dataclass(frozen=True)
class Vocabulary:
    """`tokens[id]` and `token_types[id]` for every id below vocab_size; `merges` as "left right" in order of rank."""

    tokens: list[str]
    token_types: list[int]
    merges: list[str]
    eos_token_id: int
    padding_token_id: int

    @property
    def sha256(self) -> str:
        """A hash over every token and merge, in order."""
        return vocabulary_sha256(self.tokens, self.merges)


def vocabulary_sha256(tokens: Sequence[str], merges: Sequence[str]) -> str:
    """A hash over every token and merge, in order."""
    return hashlib.sha256("\n".join([*tokens, "", *merges]).encode()).hexdigest()


def read_vocabulary(
    folder: Path, vocab_size: int, needed: Sequence[str] = (), end_of_text: str = "<|endoftext|>"
) -> Vocabulary:
    """The vocabulary of a checkpoint folder, from tokenizer.json or else vocab.json + merges.txt.

    Ids that no entry uses become `[PAD<id>]` of type UNUSED, up to exactly `vocab_size` tokens. Raises InputError for a
    vocabulary larger than that; an id missing or given twice; text that no token can be; a byte that has no token; a
    merge whose parts or result are not in the vocabulary; merges that do not reach every token, as when some were lost;
    a token of `needed`, for the model's prompt, that is not an added token; a missing end-of-text token.
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
    entries = [(text, token_id, TokenType.NORMAL) for text, token_id in vocab.items()]
    entries += [
        (text, token_id, TokenType.CONTROL if special else TokenType.USER_DEFINED)
        for token_id, (text, special) in added.items()
    ]
    texts = [text for text, _, _ in entries]
    all_valid = all(texts) and is_valid(" ".join(texts))  # one by one only to say which is not
    for text, token_id, token_type in entries:
        check_id(source, text, token_id)
        if not (all_valid or is_valid(text)):
            raise InputError(source, f"token {shown(text)} is not valid text", todo=AGAIN)
        if token_id >= vocab_size:
            raise InputError(
                source, f"token {text!r} has id {token_id}", expected=f"below vocab_size {vocab_size} of config.json"
            )
        if tokens[token_id] not in (None, text):
            raise InputError(source, f"id {token_id} is given to both {tokens[token_id]!r} and {text!r}")
        tokens[token_id], types[token_id] = text, int(token_type)

    n_used = max((token_id for _, token_id, _ in entries), default=-1) + 1
    if None in tokens[:n_used]:
        raise InputError(
            source, f"no token has id {tokens.index(None)}", expected=f"every id below {n_used}", todo=AGAIN
        )
    plain = {
        text: token_id for text, token_id in vocab.items() if types[token_id] == TokenType.NORMAL
    }  # the others were added, too
    check_findings(source, byte_findings(plain))
    check_findings(merges_source, merge_findings(plain, merges))
    for token in needed:
        if token not in {text for text, _ in added.values()}:
            raise InputError(source, f"{token} is not an added token, and the prompt needs it", todo=AGAIN)

    padded = [text if text is not None else f"[PAD{token_id}]" for token_id, text in enumerate(tokens)]
    ids = {text: token_id for token_id, text in enumerate(padded)}
    for token_id, text in enumerate(padded):
        if ids[text] != token_id:
            raise InputError(source, f"token {text!r} has two ids, {token_id} and {ids[text]}")
    eos, pad = (_special_id(folder, ids, key, end_of_text) for key in ("eos_token", "pad_token"))
    return Vocabulary(padded, types, merges, eos, pad)


def is_valid(text: str) -> bool:
    """Whether a text can be a token's: not empty, of whole characters, none of which is a control character."""
    return bool(text) and not SURROGATE.search(text) and not CONTROL.search(text)


def check_id(source: object, text: str, token_id: Any) -> None:
    """Raise InputError unless a token id is an integer ≥ 0."""
    if type(token_id) is not int or token_id < 0:
        raise InputError(source, f"token {shown(text)} has the id {shown(token_id)}", expected="a number from 0")


class Finding(NamedTuple):
    """A vocabulary error with what was expected; `fatal` if no tokenizer could be built."""

    text: str
    expected: str
    fatal: bool = True

    def __str__(self) -> str:
        return f"{self.text}; expected {self.expected}"


def check_findings(source: object, findings: Iterable[Finding], todo: str = AGAIN) -> None:
    """Raise InputError for the first fatal finding, with their number."""
    fatal = (finding for finding in findings if finding.fatal)
    for first in fatal:
        n = 1 + sum(1 for _ in fatal)
        text = f"{first.text}, the first of {n:,} such findings" if n > 1 else first.text
        raise InputError(source, text, expected=first.expected, todo=todo)


def byte_findings(plain: Collection[str]) -> Iterator[Finding]:
    """Find bytes without a plain token: text with them could not be tokenized."""
    for byte, letter in enumerate(BYTE_LETTERS):
        if letter not in plain:
            yield Finding(f"byte 0x{byte:02x} has no token", f"the plain token {letter!r}")


def merge_findings(plain: Mapping[str, int], merges: Sequence[str]) -> Iterator[Finding]:
    """Find merges that are malformed, duplicate, out of order, or whose parts or result are not plain tokens; and plain
    tokens longer than a byte that no merge produces. `plain` maps each plain token to its id."""
    n_ids = max(plain.values(), default=-1) + 1
    found = _with_ids(plain, merges)
    suspects: list[int] = np.flatnonzero(~found.are_sound(n_ids)).tolist()
    yield from _findings_of(suspects, plain, merges) if suspects else ()
    reached = np.zeros(n_ids, np.bool_)
    reached[found.whole[found.whole >= 0]] = True
    for (text, token_id), is_reached in zip(plain.items(), reached[list(plain.values())].tolist(), strict=True):
        if not is_reached and len(text) > 1:
            yield Finding(f"token {token_id} ({text!r}) is the result of no merge", "one")


class _Merges(NamedTuple):
    """The ids of the parts of merges, and of their results, (merges,) int64, -1 for what is not a plain token; and
    whether each has two parts."""

    left: Numbers
    right: Numbers
    whole: Numbers
    has_two: Numbers

    def are_sound(self, n_ids: int) -> Numbers:
        """Whether nothing is found of each merge, (merges,) bool; ids are below `n_ids`."""
        ranks = np.arange(len(self.whole))
        known = self.has_two & (self.left >= 0) & (self.right >= 0) & (self.whole >= 0)
        first = np.full(n_ids + 1, -1)  # rank of the first merge that gives each token
        ids, first_ranks = np.unique(self.whole, return_index=True)
        first[ids] = first_ranks
        once = np.zeros(len(ranks), np.bool_)
        pairs = np.where(known, self.left * n_ids + self.right, -1)
        _, ranks_of_pairs, times = np.unique(pairs, return_index=True, return_counts=True)
        once[ranks_of_pairs[times == 1]] = True
        return known & once & (first[self.left] <= ranks) & (first[self.right] <= ranks)


def _with_ids(plain: Mapping[str, int], merges: Sequence[str]) -> _Merges:
    parts = [merge.partition(" ") for merge in merges]
    texts = [part[0] for part in parts], [part[2] for part in parts], [merge.replace(" ", "") for merge in merges]
    left, right, whole = (np.fromiter(map(plain.get, of, repeat(-1)), np.int64, len(merges)) for of in texts)
    return _Merges(left, right, whole, np.fromiter(map(str.count, merges, repeat(" ")), np.int64, len(merges)) == 1)


def _findings_of(ranks: Iterable[int], plain: Mapping[str, int], merges: Sequence[str]) -> Iterator[Finding]:
    """The findings of the merges of these ranks."""
    pairs = [tuple(merge.split(" ")) for merge in merges]
    times = Counter(pairs)
    first: dict[str, int] = {}  # rank of the first merge that gives a token
    for rank, pair in enumerate(pairs):
        first.setdefault("".join(pair), rank)
    for rank in ranks:
        merge, pair = merges[rank], pairs[rank]
        what = f"merge {rank} ({merge!r})"
        if len(pair) != 2 or not all(pair):
            yield Finding(f"{what} is malformed", "two parts")
            continue
        for text in dict.fromkeys([*pair, "".join(pair)]):
            if text not in plain:
                yield Finding(f"{what} needs {text!r}, which is not a plain token", "it in the vocabulary")
        for part in pair:
            if first.get(part, -1) > rank:
                needs = f"{what} needs {part!r}, which merge {first[part]} gives"
                yield Finding(needs, "that one before it", fatal=False)
        if times[pair] > 1 and first["".join(pair)] != rank:
            yield Finding(f"{what} is a duplicate", "it once", fatal=False)


Added = dict[int, tuple[str, bool]]  # id → text, special


def _from_tokenizer_json(path: Path) -> tuple[dict[str, int], list[str], Added]:
    values = read_json(path)
    model = values.get("model")
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE":
        raise InputError(path, "holds no BPE model", expected="model.vocab and model.merges")
    vocab, merges = model.get("vocab"), model.get("merges")
    if not isinstance(vocab, dict) or not isinstance(merges, list):
        raise InputError(path, "its BPE model is incomplete", expected="model.vocab and model.merges")
    return vocab, _merges(path, merges), _added(path, values.get("added_tokens", []))


def _from_vocab_and_merges(folder: Path) -> tuple[dict[str, int], list[str], Added]:
    path = folder / "merges.txt"
    lines = read_text(path, MOST_JSON_BYTES, todo="vocab.json requires it").replace("\r\n", "\n").split("\n")
    if lines[0].startswith("#version"):  # the only comment of the format: other lines may begin with `#` and be merges
        lines = lines[1:]
    merges = _merges(path, [line for line in lines if line])

    config = folder / "tokenizer_config.json"
    decoder = read_json(config).get("added_tokens_decoder", {}) if config.exists() else {}
    added = _added(config, decoder)
    if not added and (folder / "added_tokens.json").exists():
        path = folder / "added_tokens.json"
        added = _added(path, [{"id": token_id, "content": text} for text, token_id in read_json(path).items()])
    return read_json(folder / "vocab.json"), merges, added


def _merges(path: Path, merges: Sequence[Any]) -> list[str]:
    """Parse merges, each "left right" or [left, right], to "left right"."""
    parsed = [_merge(path, merge) for merge in merges]
    if SURROGATE.search("\n".join(parsed)):
        bad = next(merge for merge, text in zip(merges, parsed, strict=True) if SURROGATE.search(text))
        raise InputError(path, f"merge {shown(bad, json.dumps)} is malformed", expected="two parts of valid text")
    return parsed


def _merge(path: Path, merge: Any) -> str:
    parts = merge.split(" ") if isinstance(merge, str) else merge
    if not isinstance(parts, list) or len(parts) != 2:
        raise InputError(path, f"merge {shown(merge, json.dumps)} is malformed", expected="two parts")
    left, right = parts
    if not (isinstance(left, str) and isinstance(right, str) and left and right):
        raise InputError(path, f"merge {shown(merge, json.dumps)} is malformed", expected="two parts")
    if " " in left or " " in right:
        raise InputError(path, f"merge {shown(merge, json.dumps)} is malformed", expected="two parts of valid text")
    return f"{left} {right}"


def _added(path: Path, entries: Any) -> Added:
    """Added tokens by id, from a list of entries or a mapping of ids to them. Raises InputError for anything else."""
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
        token_id = entry.get("id") if isinstance(entries, list) else int(key) if ID.fullmatch(key) else key
        if token_id is None:
            raise InputError(path, f"{malformed}: {shown(text)} has no id", expected="a number from 0", todo=AGAIN)
        check_id(path, text, token_id)
        if token_id in added:
            raise InputError(
                path, f"id {shown(token_id)} is given to both {shown(added[token_id][0])} and {shown(text)}"
            )
        added[token_id] = text, special
    return added


def _special_id(folder: Path, ids: dict[str, int], key: str, default: str) -> int:
    """The id of the token that tokenizer_config.json names as `key`, else that of `default`."""
    path = folder / "tokenizer_config.json"
    value = read_json(path).get(key) if path.exists() else None
    text = value.get("content") if isinstance(value, dict) else value
    text = default if text is None or text == "" else text
    if not isinstance(text, str):
        raise InputError(path, f"{key} is {shown(text)}", expected="a token's text", todo=AGAIN)
    if text not in ids:
        raise InputError(path, f"{key} is {shown(text)}, which is not in the vocabulary")
    return ids[text]


def shown(value: Any, form: Callable[[Any], str] = repr) -> str:
    """A JSON value for a message; large or nested values by their size."""
    if isinstance(value, str):
        return form(value) if len(value) <= MAX_SHOWN else f"{form(value[:MAX_SHOWN])}…"
    if isinstance(value, list | dict):
        nested = any(isinstance(part, list | dict) for part in value)
        kind = "a list" if isinstance(value, list) else "an object"
        text = "" if nested or len(value) > 4 else form(value)
        return text if text and len(text) <= MAX_SHOWN else f"{kind} of {len(value):,}"
    text = form(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
