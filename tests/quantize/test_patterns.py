"""Patterns of rules: in linear time, whoever wrote them; and with the meaning that they had for Python's `re`."""

import re
import string
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mimo_convert.formats.config import Config
from mimo_families.mimo_audio import layout as mimo_asr
from mimo_families.mimo_tokenizer import layout as mimo_tokenizer
from quantize.errors import InputError
from quantize.patterns import CONSTRUCTS, compile_pattern
from tests.synthetic import REAL_ASR_CONFIG, REAL_TOKENIZER_CONFIG

LINEAR = "which rules cannot: they are matched by RE2 in linear time; expected"
PYTHON = "which rules cannot: RE2 does not read it as Python does, and files may hold either; expected"


def refusal(pattern: str) -> str:
    with pytest.raises(InputError) as error:
        compile_pattern(pattern, "--tensor-type")
    line = str(error.value)
    assert line.isprintable()
    return line.removeprefix("--tensor-type: ")


REFUSED = [
    ("(?!llm).*", f"uses look-ahead (?!, {LINEAR} a pattern in RE2 syntax"),
    ("(?=.*up)w", f"uses look-ahead (?=, {LINEAR}"),
    ("(?<=up).w", f"uses look-behind (?<=, {LINEAR}"),
    ("(?<!up).w", f"uses look-behind (?<!, {LINEAR}"),
    (r"(.)x\1", rf"uses a back-reference \1, {LINEAR}"),
    (r"(.)x\12", rf"uses a back-reference \12, {LINEAR}"),
    ("(?P<n>.)x(?P=n)", f"uses a back-reference (?P=n), {LINEAR}"),
    ("(?>up|u)p", f"uses an atomic group (?>, {LINEAR}"),
    ("(u)?(?(1)p|q)", f"uses a conditional (?(, {LINEAR}"),
    ("u(?#a note)p", f"uses a comment (?#, {LINEAR}"),
    ("(?x) u p", f"uses a flag (?x, {LINEAR}"),
    ("(?a)up", f"uses a flag (?a, {LINEAR}"),
    ("u++p", f"uses a possessive quantifier ++, {LINEAR}"),
    ("u*+p", f"uses a possessive quantifier *+, {LINEAR}"),
    ("u?+p", f"uses a possessive quantifier ?+, {LINEAR}"),
    ("u{1,2}+p", f"uses a possessive quantifier {{1,2}}+, {LINEAR}"),
    (r"up\.weight\Z", rf"uses the end of the text \Z, {LINEAR} $"),
    (r"\u0075p", rf"uses a Unicode escape \u, {LINEAR} \x{{…}}"),
    (r"\N{DIGIT ONE}", rf"uses a Unicode escape \N, {LINEAR}"),
    ("u{,2}p", f"uses a repetition without a minimum {{,2}}, {PYTHON} {{0,…}}"),
    ("u{99999}p", f"uses a repetition too often {{99999}}, {PYTHON} at most 1000 times"),
    ("[[:alpha:]]", f"uses a POSIX class [[:alpha:], {PYTHON} a class such as"),
]


@pytest.mark.parametrize(("pattern", "says"), REFUSED, ids=[pattern for pattern, _ in REFUSED])
def test_what_re2_cannot_match_or_reads_otherwise_is_named(pattern: str, says: str) -> None:
    assert refusal(pattern).startswith(f"{pattern!r} {says}")


def test_every_construct_that_is_refused_is_among_those_above() -> None:
    tried = " ".join(says for _, says in REFUSED)
    assert [construct.name for construct in CONSTRUCTS if f"uses {construct.name} " not in tried] == []


@pytest.mark.parametrize(
    ("pattern", "name"),
    [(r"\(\?!", "a(?!b"), ("[(?!]u", "?u"), (r"\\Z", r"\Z"), (r"u\++", "u++"), (r"\Q(?=\E", "(?="), (r"[\].]{2}", "]."),
     ("[]x]u", "]u"), ("[^]x]u", "yu"), (r"\141", "a"), ("u{,}?|x".replace("{,}", "{0,}"), "x"), ("{,a}", "{,a}")],
)  # fmt: skip
def test_what_only_looks_like_one_is_taken_as_it_is(pattern: str, name: str) -> None:
    assert compile_pattern(pattern, "x").search(name)


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("(" * 1_999, "is not a regular expression: missing ): ((("),
        ("(" * 1_000 + ")" * 1_000, "is too large for a rule; expected at most 2,000 instructions of RE2"),
        ("a" * 2_001, "has 2,001 characters; expected at most 2,000"),
        (".{1000}", "is too large for a rule; expected at most 2,000 instructions of RE2"),
        ("(.?){1000}", "is too large for a rule; expected at most 2,000 instructions of RE2"),
        ("((a{1000}){1000})", "is not a regular expression: invalid repetition size: {1000}; expected RE2 syntax"),
        (r"[z-a]", "is not a regular expression: invalid character class range: z-a; expected RE2 syntax"),
        ("up\\", "is not a regular expression: trailing \\; expected RE2 syntax"),
        (r"\é", r"is not a regular expression: invalid escape sequence: \é; expected RE2 syntax"),
    ],
)
def test_what_is_too_large_or_no_pattern_is_one_line_of_bounded_length(pattern: str, says: str) -> None:
    line = refusal(pattern)
    shown = repr(pattern if len(pattern) <= 100 else f"{pattern[:100]}…")
    assert line.startswith(f"{shown} {says}")
    assert len(line) < 500


# The meaning that rules had before: Python's.


NAMES = sorted(
    {
        tensor.name
        for family, config in ((mimo_asr, REAL_ASR_CONFIG), (mimo_tokenizer, REAL_TOKENIZER_CONFIG))
        for layout in family.FAMILY.layouts
        for tensor in family.FAMILY.tensors(family.dimensions(Config(Path("config.json"), config)), layout)
    }
)
WORDS = ["llm", "model", "layers", "attn", "blk", "norm", "weight", "bias", "audio", "ffn", "codebook", "0", "1", "35"]
atoms = st.sampled_from(
    [*WORDS, r"\.", ".", r"\d", r"\w", r"\W", r"\D", "[0-9]", "[^a-m]", "^", "$", r"\b", r"\B", r"\A"]
)
SYNTAX = [
    *r"^$.|()[]{}*+?\-,:=!<>",
    "(?:",
    "(?i)",
    "(?i:",
    "(?P<a>",
    r"\d",
    r"\w",
    r"\b",
    r"\1",
    r"\Z",
    "{2}",
    "{1,}",
    "{,2}",
]
patterns = st.recursive(
    atoms,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=4).map("".join)
        | st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"({'|'.join(parts)})")
        | st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{0,3}", "{1,}", "*?"])).map(
            lambda p: f"(?:{p[0]}){p[1]}"
        )
    ),
    max_leaves=10,
)


def agree(pattern: str, names: list[str]) -> None:
    """What Python and a rule both take for a pattern is found by both in the same names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            theirs, ours = re.compile(pattern), compile_pattern(pattern, "x")
        except (re.error, InputError, OverflowError):
            return
    for name in names:
        assert (ours.search(name) is not None) == (theirs.search(name) is not None), (pattern, name)


@given(patterns, st.lists(st.sampled_from(NAMES), min_size=1, max_size=8))
def test_simple_patterns_mean_what_they_meant_to_python(pattern: str, names: list[str]) -> None:
    agree(pattern, names)


@given(st.lists(st.sampled_from([*SYNTAX, *string.ascii_lowercase[:4], "0", "."]), max_size=8).map("".join))
@example("a{,2}b")
@example("[[:d:]")
@example(r"(a)(b)\12")
@example("a{0,2}$")
def test_whatever_both_accept_means_the_same(pattern: str) -> None:
    if not re.search(r"[*+}?][^)]*\)+[*+{]", pattern):  # what Python could take years for
        agree(pattern, ["a", "ab", "abcd.0", "a.b.0.d", "aabb", "dcba", "0.0", "llm.blk.0.attn_q.weight"])


CATASTROPHIC = ["(.+)+!", "(a|a)*!", "(a|aa)+!", "(.*)*!", "((a+)+)+!", "(.*.*)*.*!", "(a?){200}a{200}!", "(?i)(k|K)*!"]


@pytest.mark.parametrize("pattern", CATASTROPHIC)
def test_a_pattern_that_would_backtrack_for_years_is_done_and_silent(pattern: str) -> None:
    """In a process of its own, which could be ended; a name of 100,000 letters."""
    code = f"from quantize.patterns import compile_pattern as c; print(c({pattern!r}, 'x').search('a' * 100_000))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("None\n", "")
