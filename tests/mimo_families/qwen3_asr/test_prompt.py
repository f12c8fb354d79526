"""The prompt's ids at the published vocabulary's ids, and what is refused; responses parsed as the specification
says."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import BPE

from mimo_convert.formats.config import Config
from mimo_families.qwen3_asr.layout import FAMILY
from mimo_families.qwen3_asr.prompt import LANGUAGES, build_prompt, collapse, parse
from mimo_families.qwen3_asr.sizes import Qwen3ASRDims, dimensions
from quantize.errors import InputError
from runtime_check.run.system import Task
from runtime_check.text.tokenizer import configure
from tests.qwen3_checkpoint import ADDED_TOKENS, REAL_AUDIO, REAL_TEXT, config_values

from . import plain

D = dimensions(Config(Path("config.json"), config_values(REAL_TEXT, REAL_AUDIO)))
WORDS = {"system": 8948, "Ċ": 198, "user": 872, "assistant": 77091, "language": 11528, "ĠEnglish": 6364}
BEFORE = [151644, 8948, 198, 151645, 198, 151644, 872, 198, 151669]
BEHIND = [151670, 151645, 198, 151644, 77091, 198]


@pytest.fixture(scope="module")
def encode() -> Callable[[str], list[int]]:
    """The published tokenizer as far as prompts need it: its words, merged from the left, and the added tokens, at the
    published ids."""
    vocab, merges, filler = {}, [], iter(range(1000, 8000))
    for character in sorted({c for word in WORDS for c in word} | set("ĠTrisanolde")):
        vocab[character] = WORDS.get(character, next(filler))
    for word, word_id in WORDS.items():
        for end in range(2, len(word) + 1):
            if word[:end] not in vocab:
                vocab[word[:end]] = word_id if end == len(word) else next(filler)
                merges.append((word[: end - 1], word[end - 1]))
    vocab |= {token: 151643 + i for i, token in enumerate(ADDED_TOKENS)}
    tokenizer = Tokenizer(BPE(vocab=vocab, merges=merges))
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in ADDED_TOKENS])
    assert FAMILY.text is not None
    configure(tokenizer, FAMILY.text)
    return lambda text: list(tokenizer.encode(text, add_special_tokens=False).ids)


def test_ids_are_the_published_ones(encode: Callable[[str], list[int]]) -> None:
    found = build_prompt(143, encode, D, Task())
    assert found.tolist() == [*BEFORE, *[151676] * 143, *BEHIND]
    found = build_prompt(2, encode, D, Task(language="english"))
    assert found.tolist() == [*BEFORE, 151676, 151676, *BEHIND, 11528, 6364, 151704]


def test_a_context_stands_in_the_place_of_the_systems_text(encode: Callable[[str], list[int]]) -> None:
    hints = encode("Tristan Isolde")
    found = build_prompt(1, encode, D, Task(context="Tristan Isolde")).tolist()
    assert found == [*BEFORE[:3], *hints, *BEFORE[3:], 151676, *BEHIND]


def test_thirty_languages_can_be_forced() -> None:
    assert len(LANGUAGES) == 30
    assert LANGUAGES["chinese"] == "Chinese"
    assert all(name == key.capitalize() for key, name in LANGUAGES.items())


def test_a_context_with_audio_tokens_is_refused(encode: Callable[[str], list[int]]) -> None:
    with pytest.raises(InputError, match=r"--context: holds <\|audio_pad\|>, which stands for audio"):
        build_prompt(1, encode, D, Task(context="a <|audio_pad|> b"))


def test_a_prompt_that_leaves_no_room_is_refused(encode: Callable[[str], list[int]]) -> None:
    small: Qwen3ASRDims = replace(D, max_position_embeddings=116)
    assert len(build_prompt(100, encode, small, Task())) == 115
    with pytest.raises(InputError, match="audio: needs a prompt of 116 positions; expected fewer than 116"):
        build_prompt(101, encode, small, Task())


@pytest.mark.parametrize(
    ("response", "language", "expected"),
    [
        ("language English<asr_text>And so, my fellow.", "auto", ("English", "And so, my fellow.")),
        ("language German<asr_text> Guten Tag. \n", "auto", ("German", "Guten Tag.")),
        ("language None<asr_text>", "auto", ("", "")),
        ("LANGUAGE NONE<asr_text>hm", "auto", ("", "hm")),
        ("  \n ", "auto", ("", "")),
        ("", "german", ("", "")),
        ("no tag at all", "auto", ("", "no tag at all")),
        ("Guten Tag.", "german", ("German", "Guten Tag.")),
        ("language English<asr_text>Hi", "german", ("German", "language English<asr_text>Hi")),
        ("so:\nlanguage  cantonese \nlanguage Thai<asr_text>a<asr_text>b", "auto", ("Cantonese", "a<asr_text>b")),
        ("a language English<asr_text>x", "auto", ("", "x")),
        (f"language English<asr_text>{'ha ' * 30}", "auto", ("English", "ha ha")),
    ],
)
def test_a_response_is_parsed(response: str, language: str, expected: tuple[str, str]) -> None:
    said = parse(response, Task(language=language))
    assert (said.language, said.text) == expected


def test_runs_and_copies_collapse_to_one() -> None:
    assert collapse("a" * 20) == "a" * 20
    assert collapse("a" * 21) == "a"
    assert collapse("no" * 19) == "no" * 19
    assert collapse("no" * 20 + "!") == "no!"
    assert collapse("xy" + "abc " * 25 + "z" * 20 + "12" * 20) == "xyabc " + "z" + "12"


@given(
    st.lists(
        st.tuples(st.text("ab \n", min_size=1, max_size=21), st.sampled_from([1, 1, 2, 19, 20, 21, 40])), max_size=5
    )
)
@example([("a", 20), ("b", 20)])
@example([("b" * 19 + "a", 1), ("a", 19)])
@example([("ab", 20), ("a", 20)])
def test_collapsing_equals_the_specification(parts: list[tuple[str, int]]) -> None:
    text = "".join(piece * n for piece, n in parts)
    assert collapse(text) == plain.collapsed(text)
