"""Responses parsed as the specification says."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mimo_families.qwen3_asr.transcript import collapse, parse
from runtime_check.run.system import Task

from . import plain


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
    assert parse(response, Task(language=language)) == expected


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
