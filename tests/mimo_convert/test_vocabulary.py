"""Vocabularies, against the `tokenizers` library; and the ways in which published ones were broken."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gguf import TokenType
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import BPE

from mimo_convert.vocabulary import Vocabulary, read_vocabulary
from quantize.errors import InputError

from ..damage import edit_json
from ..synthetic import ADDED_TOKENS, NOT_SPECIAL

SIZE, N_ENTRIES = 512, 512 - 7 - 30  # of the small checkpoint: 7 unused slots, 30 added tokens


@pytest.fixture
def folder(small_lm: Path, tmp_path: Path) -> Path:
    """The tokenizer files alone, to change."""
    for name in ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json"):
        shutil.copy(small_lm / name, tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def vocabulary(small_lm: Path) -> Vocabulary:
    return read_vocabulary(small_lm, SIZE)


def test_it_holds_exactly_vocab_size_tokens_each_where_tokenizers_puts_it(
    small_lm: Path, vocabulary: Vocabulary
) -> None:
    theirs = Tokenizer.from_file(str(small_lm / "tokenizer.json"))
    assert len(vocabulary.tokens) == len(vocabulary.token_types) == SIZE
    for id, text in enumerate(vocabulary.tokens):
        assert text == (theirs.id_to_token(id) or f"[PAD{id}]")
    assert vocabulary.tokens[-8:] == [ADDED_TOKENS[-1], *(f"[PAD{id}]" for id in range(505, 512))]


def test_token_types_tell_control_tokens_padding_and_text_apart(vocabulary: Vocabulary) -> None:
    added = [TokenType.USER_DEFINED if text in NOT_SPECIAL else TokenType.CONTROL for text in ADDED_TOKENS]
    assert vocabulary.token_types == [TokenType.NORMAL] * N_ENTRIES + added + [TokenType.UNUSED] * 7
    assert vocabulary.token_types.count(5) == 7  # UNUSED


def test_every_merge_is_there_in_order_and_the_96_that_begin_with_a_hash_among_them(
    small_lm: Path, vocabulary: Vocabulary
) -> None:
    assert vocabulary.merges == (small_lm / "merges.txt").read_text(encoding="utf-8").splitlines()[1:]
    assert len(vocabulary.merges) == N_ENTRIES - 256
    assert sum(merge.startswith("#") for merge in vocabulary.merges) == 96


def test_the_end_and_the_padding_are_the_tokens_the_config_names(folder: Path, vocabulary: Vocabulary) -> None:
    assert vocabulary.eos_token_id == vocabulary.padding_token_id == N_ENTRIES
    edit_json(
        folder / "tokenizer_config.json", lambda c: c.update(eos_token={"content": "<|im_end|>"}, pad_token="<|eot|>")
    )
    changed = read_vocabulary(folder, SIZE)
    assert (changed.eos_token_id, changed.padding_token_id) == (N_ENTRIES + 2, N_ENTRIES + 29)


def without_tokenizer_json(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def rewrite_merges(folder: Path, form: Callable[[list[str]], Any]) -> None:
    merges = [line.split(" ") for line in (folder / "merges.txt").read_text(encoding="utf-8").splitlines()[1:]]
    edit_json(folder / "tokenizer.json", lambda t: t["model"].update(merges=[form(merge) for merge in merges]))


def merges_as_pairs(folder: Path) -> None:
    rewrite_merges(folder, list)


def merges_as_strings(folder: Path) -> None:
    rewrite_merges(folder, " ".join)


def merges_txt_without_version(folder: Path) -> None:
    without_tokenizer_json(folder)
    text = (folder / "merges.txt").read_text(encoding="utf-8")
    (folder / "merges.txt").write_text(text.partition("\n")[2], encoding="utf-8")


def merges_txt_of_windows(folder: Path) -> None:
    without_tokenizer_json(folder)
    text = (folder / "merges.txt").read_text(encoding="utf-8")
    (folder / "merges.txt").write_bytes(text.replace("\n", "\r\n").encode())


def no_tokenizer_config(folder: Path) -> None:
    (folder / "tokenizer_config.json").unlink()


@pytest.mark.parametrize(
    "change",
    [without_tokenizer_json, merges_as_pairs, merges_as_strings, merges_txt_without_version, merges_txt_of_windows,
     no_tokenizer_config],
)  # fmt: skip
def test_every_form_of_the_files_gives_the_same_vocabulary(
    folder: Path, vocabulary: Vocabulary, change: Callable[[Path], None]
) -> None:
    change(folder)
    assert read_vocabulary(folder, SIZE) == vocabulary


def test_added_tokens_json_serves_where_the_config_lists_none(folder: Path, vocabulary: Vocabulary) -> None:
    without_tokenizer_json(folder)
    no_tokenizer_config(folder)
    (folder / "added_tokens.json").write_text(json.dumps({t: N_ENTRIES + i for i, t in enumerate(ADDED_TOKENS)}))
    assert read_vocabulary(folder, SIZE).tokens == vocabulary.tokens


@given(text=st.text() | st.text("# !-:=abc") | st.text("etaoinshrdlu ", max_size=60))
def test_its_tokens_and_merges_alone_rebuild_the_tokenizer(small_lm: Path, vocabulary: Vocabulary, text: str) -> None:
    theirs = Tokenizer.from_file(str(small_lm / "tokenizer.json"))
    rebuilt = Tokenizer.from_file(str(small_lm / "tokenizer.json"))
    ids = {text: id for id, text in enumerate(vocabulary.tokens)}
    left_right = [tuple(merge.split(" ")) for merge in vocabulary.merges]
    rebuilt.model = BPE(vocab=ids, merges=left_right)
    assert rebuilt.encode(text).ids == theirs.encode(text).ids


def of_json(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Change tokenizer.json."""
    return lambda folder: edit_json(folder / "tokenizer.json", change)


def of_model(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    return of_json(lambda values: change(values["model"]) and None)


def of_merges_txt(change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    """Change the lines of merges.txt, which is read where there is no tokenizer.json."""

    def apply(folder: Path) -> None:
        without_tokenizer_json(folder)
        lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
        (folder / "merges.txt").write_text("\n".join(change(lines)) + "\n", encoding="utf-8")

    return apply


def of_config(**values: Any) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder / "tokenizer_config.json", lambda config: config.update(values))


def remove(*names: str) -> Callable[[Path], None]:
    return lambda folder: [(folder / name).unlink() for name in names] and None


def unnumbered(lines: list[str]) -> list[str]:
    """What a reader leaves that takes every line beginning with `#` for a comment: the published defect."""
    return [line for line in lines if not line.startswith("#")]


JSON, TXT, VOCAB = "tokenizer.json", "merges.txt", "vocab.json"


@pytest.mark.parametrize(
    ("change", "where", "says"),
    [
        (of_merges_txt(unnumbered), TXT, "96 tokens are the result of no merge, '#b' first; expected 219 merges"),
        (of_merges_txt(lambda lines: lines[:-3]), TXT, "3 tokens are the result of no merge"),
        (of_model(lambda m: m["merges"].clear()), JSON, "219 tokens are the result of no merge"),
        (of_model(lambda m: m["merges"].append("Ġ zz")), JSON, "merge 219 ('Ġ zz') needs 'zz', which is not in"),
        (of_model(lambda m: m["merges"].append("# z")), JSON, "merge 219 ('# z') needs '#z', which is not in"),
        (of_model(lambda m: m["merges"].append("abc")), JSON, 'merge "abc" is malformed; expected two parts'),
        (of_model(lambda m: m["merges"].append(["a", 1])), JSON, 'merge ["a", 1] is malformed; expected two parts'),
        (of_merges_txt(lambda lines: [*lines, "a b c"]), TXT, 'merge "a b c" is malformed; expected two parts'),
        (of_model(lambda m: m.update(merges=None)), JSON, "its BPE model is incomplete"),
        (of_model(lambda m: m.pop("vocab")), JSON, "its BPE model is incomplete"),
        (of_json(lambda t: t.pop("model") and None), JSON, "holds no BPE model"),
        (of_model(lambda m: m.update(type="Unigram")), JSON, "holds no BPE model"),
        (of_model(lambda m: m["vocab"].update(zz=512)), JSON, "token 'zz' has id 512; expected below vocab_size 512"),
        (of_model(lambda m: m["vocab"].update({"!": 510})), JSON, "no token has id 0; expected every id below 511"),
        (of_model(lambda m: m["vocab"].update({"\ud800": 505})), JSON, "token '\\ud800' is not valid text"),
        (of_model(lambda m: m["vocab"].update({"!": 9})), JSON, "id 9 is given to both"),
        (of_model(lambda m: m["vocab"].update({"!": -1})), JSON, "token '!' has the id -1"),
        (of_model(lambda m: m["vocab"].update({"!": "0"})), JSON, "token '!' has the id '0'"),
        (of_json(lambda t: t["added_tokens"].pop(3) and None), JSON, "no token has id 478"),
        (of_json(lambda t: t["added_tokens"][3].update(id=5)), JSON, "id 5 is given to both"),
        (of_json(lambda t: t["added_tokens"][3].update(content="!")), JSON, "token '!' has two ids, 0 and 478"),
        (of_json(lambda t: t["added_tokens"][3].pop("id") and None), JSON, "its added tokens are malformed"),
        (of_json(lambda t: t.update(added_tokens=None)), JSON, "its added tokens are malformed"),
        (of_config(eos_token="<|none|>"), "tokenizer_config.json", "eos_token is '<|none|>', which is not in the voc"),
        (of_config(pad_token=["x"]), "tokenizer_config.json", "pad_token is \"['x']\", which is not in the vocabulary"),
        (remove(JSON, VOCAB), "", "no tokenizer files; expected tokenizer.json, or vocab.json and merges.txt"),
        (remove(JSON, TXT), TXT, "cannot be read"),
    ],
)  # fmt: skip
def test_a_broken_vocabulary_is_one_clear_error(
    folder: Path, change: Callable[[Path], None], where: str, says: str
) -> None:
    change(folder)
    with pytest.raises(InputError) as caught:
        read_vocabulary(folder, SIZE)
    assert str(caught.value).startswith(f"{folder / where}: {says}")


def test_a_vocabulary_larger_than_the_model_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=r"token '<\|eot\|>' has id 504; expected below vocab_size 504"):
        read_vocabulary(folder, SIZE - 8)
