"""Vocabularies, against the `tokenizers` library; and the ways in which published ones were broken."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gguf import TokenType
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from mimo_convert.formats.vocabulary import BYTE_LETTERS, Vocabulary, check_findings, merge_findings, read_vocabulary
from quantize.errors import InputError
from tests.damage import edit_json
from tests.synthetic import ADDED_TOKENS, NOT_SPECIAL

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


def of_added(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Change the added token `<|box_start|>`."""
    return of_json(lambda values: change(values["added_tokens"][5]) and None)


def of_decoder(id: str) -> Callable[[Path], None]:
    """An added token of that id in tokenizer_config.json, read where there is no tokenizer.json."""

    def apply(folder: Path) -> None:
        without_tokenizer_json(folder)
        edit_json(folder / CONFIG, lambda values: values["added_tokens_decoder"].update({id: {"content": "x"}}))

    return apply


JSON, TXT, VOCAB, CONFIG = "tokenizer.json", "merges.txt", "vocab.json", "tokenizer_config.json"


def lost(text: str, n: int) -> str:
    """The pattern of an error about tokens whose merges were lost."""
    return rf"token \d+ \('{text}'\) is the result of no merge, the first of {n} such findings; expected one"


@pytest.mark.parametrize(
    ("change", "where", "says"),
    [
        (of_merges_txt(unnumbered), TXT, lost("#b", 96)),
        (of_merges_txt(lambda lines: lines[:-3]), TXT, lost(".*", 3)),
        (of_model(lambda m: m["merges"].clear()), JSON, lost(".*", 219)),
        (of_model(lambda m: m["merges"].append("Ġ zz")), JSON, "merge 219 ('Ġ zz') needs 'zz', which is not a"),
        (of_model(lambda m: m["merges"].append("# z")), JSON, "merge 219 ('# z') needs '#z', which is not a"),
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
        (of_config(pad_token=["x"]), "tokenizer_config.json", "pad_token is ['x']; expected a tok"),
        (of_config(pad_token={"content": 3}), "tokenizer_config.json", "pad_token is 3; expected a tok"),
        (of_config(eos_token=[[["x"] * 99]]), "tokenizer_config.json", "eos_token is a list of 1; expected a tok"),
        (of_model(lambda m: m["vocab"].update({"!": True})), JSON, "token '!' has the id True; expected a num"),
        (of_model(lambda m: m["vocab"].update({"!": 0.0})), JSON, "token '!' has the id 0.0; expected a num"),
        (of_model(lambda m: m["vocab"].update({"!": 10**99})), JSON, "token '!' has id 1000"),
        (of_model(lambda m: m["vocab"].update({"!": [0]})), JSON, "token '!' has the id [0]; expected a num"),
        (of_model(lambda m: m["vocab"].update({"": 505})), JSON, "token '' is not valid text"),
        (of_model(lambda m: m["vocab"].update({"x" * 9_999: -1})), JSON, f"token '{'x' * 80}'… has the id -1"),
        (of_model(lambda m: m["merges"].append(["a b", "c"])), JSON, 'merge ["a b", "c"] is malformed; expected two'),
        (of_model(lambda m: m["merges"].append(["\ud800", "c"])), JSON, 'merge ["\\ud800", "c"] is malformed; exp'),
        (of_model(lambda m: m["merges"].append([[[["a"]]]])), JSON, "merge a list of 1 is malformed; expected two"),
        (of_added(lambda a: a.update(id="478")), JSON, "token '<|box_start|>' has the id '478'; expected a num"),
        (of_added(lambda a: a.update(id=478.0)), JSON, "token '<|box_start|>' has the id 478.0; expected a num"),
        (of_added(lambda a: a.update(id=True)), JSON, "token '<|box_start|>' has the id True; expected a num"),
        (of_added(lambda a: a.update(id=-1)), JSON, "token '<|box_start|>' has the id -1; expected a num"),
        (of_added(lambda a: a.update(id=481)), JSON, "id 481 is given to both"),
        (of_added(lambda a: a.update(content=7)), JSON, "its added tokens are malformed: one has content 7, spec"),
        (of_added(lambda a: a.update(special="no")), JSON, "its added tokens are malformed: one has content '<|box_st"),
        (of_added(lambda a: a.update(content="\x1b[2J")), JSON, "token '\\x1b[2J' is not valid text"),
        (of_added(lambda a: a.update(content="a\x85b")), JSON, "token 'a\\x85b' is not valid text"),
        (of_added(lambda a: a.update(content="\udc00")), JSON, "token '\\udc00' is not valid text"),
        (of_added(lambda a: a.update(content="")), JSON, "token '' is not valid text"),
        (of_json(lambda t: t["added_tokens"].append(7)), JSON, "its added tokens are malformed: one is 7; expected an"),
        (of_json(lambda t: t["added_tokens"].append(t["added_tokens"][0])), JSON, "id 475 is given to both"),
        (of_json(lambda t: t.update(added_tokens="x")), JSON, "its added tokens are malformed: they are 'x'; expected"),
        (of_decoder("12abc"), CONFIG, "token 'x' has the id '12abc'; expected a num"),
        (of_decoder(" 12"), CONFIG, "token 'x' has the id ' 12'; expected a num"),
        (of_decoder("1_2"), CONFIG, "token 'x' has the id '1_2'; expected a num"),
        (of_decoder("+12"), CONFIG, "token 'x' has the id '+12'; expected a num"),
        (of_decoder("012"), CONFIG, "token 'x' has the id '012'; expected a num"),
        (of_decoder("٣"), CONFIG, "token 'x' has the id '٣'; expected a num"),
        (of_decoder("9" * 5_000), CONFIG, f"token 'x' has the id '{'9' * 80}'…; expected a num"),
        (remove(JSON, VOCAB), "", "no tokenizer files; expected tokenizer.json, or vocab.json and merges.txt"),
        (remove(JSON, TXT), TXT, "no such file"),
    ],
)  # fmt: skip
def test_a_broken_vocabulary_is_one_clear_error(
    folder: Path, change: Callable[[Path], None], where: str, says: str
) -> None:
    change(folder)
    with pytest.raises(InputError) as caught:
        read_vocabulary(folder, SIZE)
    said = str(caught.value).removeprefix(f"{folder / where}: ")
    assert said != str(caught.value)
    assert said.startswith(says) or re.match(says, said)


def test_a_vocabulary_larger_than_the_model_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=r"token '<\|eot\|>' has id 504; expected below vocab_size 504"):
        read_vocabulary(folder, SIZE - 8)


def test_a_size_that_no_vocabulary_has_is_refused_before_it_is_made(folder: Path) -> None:
    with pytest.raises(InputError, match=r"vocab_size of config\.json is 2,147,483,647; expected at most 1,048,576"):
        read_vocabulary(folder, 2**31 - 1)


@pytest.mark.parametrize("byte", [0x00, 0x20, 0x41, 0x7F, 0xAD, 0xC3, 0xFF])
def test_a_vocabulary_without_a_token_for_a_byte_is_refused(folder: Path, byte: int) -> None:
    [letter] = {letter for letter, number in bytes_of_letters().items() if number == byte}
    edit_json(folder / JSON, lambda t: renamed(t["model"]["vocab"], letter) and None)
    with pytest.raises(InputError) as error:
        read_vocabulary(folder, SIZE)
    said = f"byte 0x{byte:02x} has no token; expected the plain token {letter!r}"
    assert str(error.value) == f"{folder / JSON}: {said}; download the tokenizer files again"


def test_a_letter_that_is_an_added_token_is_no_plain_one(folder: Path) -> None:
    edit_json(folder / JSON, lambda t: t["added_tokens"].append({"id": t["model"]["vocab"]["A"], "content": "A"}))
    with pytest.raises(InputError, match="byte 0x41 has no token; expected the plain token 'A'"):
        read_vocabulary(folder, SIZE)


def bytes_of_letters() -> dict[str, int]:
    """The byte of each letter, as the library encodes characters: those that UTF-8 never uses by what is left."""
    encoder = ByteLevel(add_prefix_space=False, use_regex=False)
    found = {}
    for character in map(chr, [*range(0x800), *range(0x800, 0x110000, 0x1000)]):
        if not "\ud800" <= character <= "\udfff":
            [(letters, _)] = encoder.pre_tokenize_str(character)
            found |= dict(zip(letters, character.encode(), strict=True))
    left = [byte for byte in range(256) if byte not in found.values()]  # in the order of the letters
    return found | dict(zip(sorted(set(ByteLevel.alphabet()) - found.keys()), left, strict=True))


def renamed(vocab: dict[str, int], letter: str) -> dict[str, int]:
    """The vocabulary with another token where that letter was."""
    vocab["zz"] = vocab.pop(letter)
    return vocab


def test_the_letters_are_those_of_the_library() -> None:
    assert bytes_of_letters() == {letter: byte for byte, letter in enumerate(BYTE_LETTERS)}


# Any JSON at any place.

ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["\ud800", "0", "a b", "\x1b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each value of a JSON document; of a long list or object, to the first and the last few."""
    yield path
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    for key in dict.fromkeys([*keys[:3], *keys[-3:]]):
        yield from places(value[key], (*path, key))


def placed(value: Any, path: tuple[Any, ...], other: Any) -> Any:
    """The document with `other` at that place."""
    if not path:
        return other
    key, *rest = path
    if isinstance(value, dict):
        return value | {key: placed(value[key], tuple(rest), other)}
    return [*value[:key], placed(value[key], tuple(rest), other), *value[key + 1 :]]


@pytest.mark.parametrize("name", [JSON, VOCAB, CONFIG, "added_tokens.json"])
@given(data=st.data(), other=ANY_JSON)
def test_any_json_at_any_place_is_a_vocabulary_or_one_line(
    small_lm: Path, tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject, other: Any
) -> None:
    folder = tmp_path_factory.mktemp("any")
    for copied in (JSON, VOCAB, TXT, CONFIG):
        if not (copied == JSON != name) and not (copied == CONFIG and name == "added_tokens.json"):
            shutil.copy(small_lm / copied, folder)
    added = {text: N_ENTRIES + i for i, text in enumerate(ADDED_TOKENS)}
    before = added if name == "added_tokens.json" else json.loads((folder / name).read_text(encoding="utf-8"))
    path = data.draw(st.sampled_from(list(places(before))))
    (folder / name).write_text(json.dumps(placed(before, path, other)))
    said = ""
    try:
        found = read_vocabulary(folder, SIZE, ["<|eot|>"])
    except InputError as error:
        said = str(error).replace(str(folder), "")
    shutil.rmtree(folder)
    assert len(said) < 500
    assert said or (len(found.tokens) == SIZE and found.sha256)


def test_what_a_file_may_be_opened_with_is_found_all_the_same(folder: Path) -> None:
    """Duplicates and merges before those that give their parts: findings, and not fatal."""
    vocabulary = read_vocabulary(folder, SIZE)
    plain = {text: id for id, text in enumerate(vocabulary.tokens) if vocabulary.token_types[id] == 1}
    assert list(merge_findings(plain, vocabulary.merges)) == []
    twice = merge_findings(plain, [*vocabulary.merges, vocabulary.merges[3]])
    assert [str(finding) for finding in twice] == [
        f"merge {len(vocabulary.merges)} ({vocabulary.merges[3]!r}) is a duplicate; expected it once"
    ]
    backwards = list(merge_findings(plain, vocabulary.merges[::-1]))
    assert backwards
    assert not any(finding.fatal for finding in backwards)
    check_findings("x", backwards)
    with pytest.raises(
        InputError, match=r"^x: merge 0 \('a'\) is malformed, the first of \d+ such findings; expected two"
    ):
        check_findings("x", merge_findings(plain, ["a"]), "")
