"""Lint rules of the vocabulary: tokens, merges, token types, special tokens, padding."""

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFValueType as V

from mimo_convert.formats.gguf import GGUFFile, is_array, read_gguf
from mimo_convert.formats.vocabulary import Vocabulary
from mimo_families.mimo_audio import layout as mimo_asr
from runtime_check.static.vocabulary import findings
from tests.gguf_edit import Key, rewrite
from tests.synthetic import ADDED_TOKENS, N_PADDING, NOT_SPECIAL, REAL_VOCAB_SIZE, random_merges

from .linted import problems

TEXT = mimo_asr.FAMILY.text
assert TEXT


@pytest.mark.parametrize("value", [7, "x", True, 1.5, ["1"] * 1024, [1.0] * 1024, [True] * 1024, [1] * 3, np.arange(3),
                                   np.ones(1024), np.ones(1024, bool), np.zeros(5_000_000, np.int32)],
                         ids=lambda value: f"{type(value).__name__} {str(value)[:9]}")  # fmt: skip
@pytest.mark.parametrize("name", ["token_type", "model", "pre", "tokens", "merges", "eos_token_id"])
def test_a_vocabulary_of_any_type_is_findings(lm: Path, name: str, value: Any) -> None:
    file = read_gguf(lm)
    key = f"tokenizer.ggml.{name}"
    strings = isinstance(value, list) and isinstance(value[0], str)
    types = {**file.value_types, key: V.STRING if strings else V.INT32}
    changed = dataclasses.replace(file, metadata={**file.metadata, key: value}, value_types=types)
    lines = [line for _, _, lines in findings(changed, TEXT, 1024) for line in lines]
    assert lines
    assert all(len(line) < 500 for line in lines)


Lists = dict[str, Any]


def told(lm: Path, tmp_path: Path, change: Callable[[Lists], object]) -> dict[str, tuple[str, ...]]:
    """What is wrong with a file whose tokenizer's keys, by their last part, are as `change` leaves them."""
    kept = read_gguf(lm).metadata
    lists = {key.removeprefix("tokenizer.ggml."): value for key, value in kept.items() if "tokenizer.ggml" in key}
    lists = {key: np.array(value).tolist() if is_array(value) else value for key, value in lists.items()}
    change(lists)

    def keys(key: Key) -> Key | None:
        if not key.name.startswith("tokenizer.ggml."):
            return key
        value = lists.get(key.name.removeprefix("tokenizer.ggml."))
        return None if value is None else key._replace(value=value)

    return problems(rewrite(lm, tmp_path / "x.gguf", keys=keys))


def put(name: str, at: int, value: Any) -> Callable[[Lists], None]:
    def change(lists: Lists) -> None:
        lists[name][at] = value

    return change


def swapped(name: str, a: int, b: int) -> Callable[[Lists], None]:
    def change(lists: Lists) -> None:
        lists[name][a], lists[name][b] = lists[name][b], lists[name][a]

    return change


def cut_tokens(lists: Lists) -> None:
    for name in ("tokens", "token_type"):
        del lists[name][1000:]


EOT, UNKNOWN_TYPE = 987, 9  # <|endoftext|>, the first behind the plain tokens of tiny


@pytest.mark.parametrize(
    ("change", "rule", "says"),
    [
        (lambda lists: lists.pop("tokens"), "vocabulary", "key tokenizer.ggml.tokens is missing, empty, or holds no"),
        (cut_tokens, "vocabulary", "key tokenizer.ggml.tokens has 1,000; expected vocab_size, 1,024"),
        (put("tokens", 300, "Ġthe"), "vocabulary", "token 300 is 'Ġthe', as token "),
        (put("tokens", 5, "QQ"), "vocabulary", "byte 0x26 has no token; expected the plain token '&'"),
        (put("tokens", 400, "two words"), "vocabulary", "token 400 is 'two words', plain text; expected letters that"),
        (put("tokens", 400, ""), "vocabulary", "token 400 is empty; expected text"),
        (lambda lists: lists.update(pre="gpt-2"), "vocabulary", "key tokenizer.ggml.pre is 'gpt-2'; expected 'qwen2'"),
        (lambda lists: lists.pop("model"), "vocabulary", "key tokenizer.ggml.model is missing; expected 'gpt2'"),
        (lambda lists: lists.pop("merges"), "merges", "key tokenizer.ggml.merges is missing, empty"),
        (lambda lists: lists["merges"].pop(50), "merges", "token 306 ("),
        (put("merges", 50, "aXb"), "merges", "merge 50 ('aXb') is malformed; expected two parts"),
        (put("merges", 50, "q qzzz"), "merges", "merge 50 ('q qzzz') needs 'qzzz', which is not a plain token; exp"),
        (lambda lists: lists["merges"].append(lists["merges"][3]), "merges", "merge 731 ("),
        (swapped("merges", 100, 101), "merges", "merge 101 ("),
        (swapped("merges", 300, 700), "merges", "merge 301 ("),
        (put("token_type", 300, UNKNOWN_TYPE), "token types", "token 300 has the type 9; expected one of 1, 3, 4, 5"),
        (lambda lists: lists["token_type"].pop(), "token types", "key tokenizer.ggml.token_type has 1,023; expected"),
        (put("token_type", 300, 3), "token types", "token 301 ("),
        (put("token_type", EOT + 2, 1), "token types", "token 989 ('<|im_end|>') is normal, behind control ones;"),
        (put("token_type", EOT + 22, 1), "special tokens", "token 1009 (<|sosp|>) is normal; expected control, for"),
        (put("tokens", EOT + 24, "<|emtpy|>"), "special tokens", "no token is <|empty|>; expected it, for the prompt"),
        (swapped("tokens", EOT, EOT + 3), "special tokens", "the first added token, 987, is '<|object_ref_start|>'"),
        (lambda lists: lists.update(eos_token_id=0), "special tokens",
         "key tokenizer.ggml.eos_token_id is 0, the normal token '!'; expected <|im_end|> or <|endoftext|>"),
        (lambda lists: lists.update(eos_token_id=1009), "special tokens",
         "key tokenizer.ggml.eos_token_id is 1009, the control token '<|sosp|>'; expected <|im_end|> or"),
        (lambda lists: lists.update(padding_token_id=1024), "special tokens",
         "key tokenizer.ggml.padding_token_id is 1024; expected an id below 1024"),
        (lambda lists: lists.update(padding_token_id=1020), "special tokens",
         "key tokenizer.ggml.padding_token_id is 1020, the unused token '[PAD1020]'; expected a control token"),
        (put("tokens", 1020, "[PAD7]"), "padding", "token 1020 is '[PAD7]', and unused; expected [PAD1020]"),
        (put("token_type", 1023, 3), "padding", "token 1023 ([PAD1023]) is control; expected unused"),
        (put("token_type", 1000, 5), "padding", "token 1000 is '<|video_pad|>', and unused; expected [PAD1000]"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_vocabulary_is_found_by_its_rule(
    lm: Path, tmp_path: Path, change: Callable[[Lists], object], rule: str, says: str
) -> None:
    found = told(lm, tmp_path, change)
    assert any(line.startswith(says) for line in found[rule]), found
    assert found.keys() <= {"metadata", "vocabulary", "merges", "token types", "special tokens", "padding"}


def test_two_merges_that_changed_places_are_named(lm: Path, tmp_path: Path) -> None:
    lines = told(lm, tmp_path, swapped("merges", 300, 700))["merges"]
    merges = read_gguf(lm).metadata["tokenizer.ggml.merges"]
    assert (
        f"merge 301 ({merges[301]!r}) gives id 557, and the one before it id 956; expected the order of ids"
        in lines[-2]
    )
    assert f"merge 700 ({merges[300]!r}) gives id 556" in lines[-1]


def test_a_merge_before_one_that_it_needs_is_found_whatever_the_order_of_ids(lm: Path, tmp_path: Path) -> None:
    def shuffle(lists: Lists) -> None:
        random.Random(0).shuffle(lists["merges"])

    lines = told(lm, tmp_path, shuffle)["merges"]
    assert len(lines) == 11
    assert all(" gives; expected that one before it" in line for line in lines[:10])


def test_lost_merges_are_counted_when_they_are_many(lm: Path, tmp_path: Path) -> None:
    def without_spaces(lists: Lists) -> None:
        lists["merges"] = [merge for merge in lists["merges"] if not merge.startswith("Ġ")]

    lines = told(lm, tmp_path, without_spaces)["merges"]
    lost = sum(merge.startswith("Ġ") for merge in read_gguf(lm).metadata["tokenizer.ggml.merges"])
    found = [line for line in lines if line.endswith("is the result of no merge; expected one")]
    assert len(found) == 10
    assert lines[-1] == f"… and {lost - 10} more"


@pytest.fixture(scope="module")
def published() -> Vocabulary:
    """As many tokens as the published model has, in the same places."""
    plain, pairs = random_merges(REAL_VOCAB_SIZE - N_PADDING - len(ADDED_TOKENS), seed=0)
    padding = [f"[PAD{id}]" for id in range(REAL_VOCAB_SIZE - N_PADDING, REAL_VOCAB_SIZE)]
    types = [1] * len(plain) + [4 if text in NOT_SPECIAL else 3 for text in ADDED_TOKENS] + [5] * N_PADDING
    merges = [" ".join(pair) for pair in pairs]
    return Vocabulary([*plain, *ADDED_TOKENS, *padding], types, merges, len(plain), len(plain))


def found_in(vocabulary: Vocabulary) -> dict[str, list[str]]:
    """What is wrong with it, as in a file."""
    metadata = {f"tokenizer.ggml.{key.replace('types', 'type')}": value for key, value in vars(vocabulary).items()} | {
        "tokenizer.ggml.model": "gpt2"
    }
    file = GGUFFile(Path("x"), metadata, dict.fromkeys(metadata, V.STRING), {}, 0)
    every = {name: list(lines) for name, _, lines in findings(file, TEXT, REAL_VOCAB_SIZE)}
    return {name: lines for name, lines in every.items() if lines}


def test_a_vocabulary_of_the_published_size_passes(published: Vocabulary) -> None:
    assert found_in(published) == {}


def test_a_vocabulary_of_the_published_size_must_have_the_published_ids(published: Vocabulary) -> None:
    tokens, types = list(published.tokens), list(published.token_types)
    tokens[151_665], tokens[151_666] = tokens[151_666], tokens[151_665]
    assert found_in(dataclasses.replace(published, tokens=tokens)) == {
        "special tokens": [
            "token <|sosp|> has id 151666; expected 151665, as published",
            "token <|eosp|> has id 151665; expected 151666, as published",
        ]
    }
    tokens, types[151_672] = list(published.tokens), 5
    tokens[151_672] = "[PAD151672]"
    assert found_in(dataclasses.replace(published, tokens=tokens, token_types=types)) == {
        "special tokens": ["token <|eot|> is not there; expected 151672, as published"],
        "padding": ["8 tokens are unused; expected 7, as published"],
    }


def test_the_96_lost_merges_of_published_files_are_found(published: Vocabulary) -> None:
    merges = [merge for merge in published.merges if not merge.startswith("#")]
    lines = found_in(dataclasses.replace(published, merges=merges))["merges"]
    assert lines[0] == "key tokenizer.ggml.merges has 151,291; expected 151,387, as published"
    assert sum(line.endswith("is the result of no merge; expected one") for line in lines) == 96
