"""Which type a tensor gets: the contract's section "Types", as a table; and the user's own rules before it."""

import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantize.errors import InputError
from quantize.recipes import (
    ROLE_TYPES,
    Rule,
    Typed,
    check_rules,
    choose_type,
    mixed_types,
    parse_recipe,
    parse_rule,
    recipe_text,
    rule_for,
    type_label,
)
from quantize.types import TYPES

MATRIX_ROLES = ["matrix", "embedding", "head"]  # of any type


@pytest.mark.parametrize("requested", TYPES)
@pytest.mark.parametrize("role", ROLE_TYPES)
def test_a_row_of_256_gets_what_its_role_asks_for(role: str, requested: str) -> None:
    of_encoder = requested if requested in ("f16", "bf16", "q8_0") else "q8_0"
    fixed = {"norm": "f32", "bias": "f32", "codebook": "f32", "table": "f32", "convolution": "f16"}
    fixed |= {"encoder_matrix": of_encoder, "vocoder_matrix": "f16"}
    expected = "f32" if requested == "f32" else fixed.get(role, requested)
    type, note = choose_type(role, 256, TYPES[requested])
    assert (type.name, note) == (expected, "")


@pytest.mark.parametrize("role", MATRIX_ROLES)
@pytest.mark.parametrize(
    ("requested", "row", "expected"),
    [
        ("q2_k", 128, "q4_0"), ("q3_k", 128, "q4_0"), ("q4_k", 128, "q4_0"), ("q5_k", 128, "q5_0"),
        ("q6_k", 288, "q8_0"), ("iq4_xs", 32, "iq4_nl"),
        ("q2_k", 48, "f16"), ("q3_k", 100, "f16"), ("q4_k", 16, "f16"), ("q5_k", 1, "f16"), ("q6_k", 48, "f16"),
        ("iq4_xs", 48, "f16"), ("iq4_nl", 48, "f16"), ("q8_0", 48, "f16"), ("q5_1", 48, "f16"), ("q5_0", 48, "f16"),
        ("q4_1", 48, "f16"), ("q4_0", 48, "f16"),
    ],
)  # fmt: skip
def test_a_row_that_is_no_multiple_of_the_block_falls_back_and_says_so(
    role: str, requested: str, row: int, expected: str
) -> None:
    type, note = choose_type(role, row, TYPES[requested])
    assert type.name == expected
    assert (
        note
        == f"rows of {row} are not a multiple of {256 if '_k' in requested or 'xs' in requested else 32}: {expected}"
    )


@pytest.mark.parametrize("requested", ["q8_0", "q6_k", "q4_k", "q2_k"])
def test_an_encoder_has_at_least_q8_0_unless_a_rule_or_its_file_says_otherwise(requested: str) -> None:
    name = "audio.blk.0.ffn.up.weight"
    assert chosen(name, "encoder_matrix", requested, "embed=f16") == "q8_0"
    assert chosen(name, "encoder_matrix", requested, "^audio=q5_k") == "q5_k"
    assert chosen(name, "encoder_matrix", requested, row=48) == "f16"
    assert choose_type("encoder_matrix", 256, TYPES[requested], stored=True)[0].name == requested


@pytest.mark.parametrize("requested", ["bf16", "q8_0", "q2_k"])
def test_a_vocoder_is_f16_unless_a_rule_or_its_file_says_otherwise(requested: str) -> None:
    name = "voc.blk.0.fc1.weight"
    assert chosen(name, "vocoder_matrix", requested, "^dec=f32") == "f16"
    assert chosen(name, "vocoder_matrix", requested, "^voc=q8_0") == "q8_0"
    assert choose_type("vocoder_matrix", 256, TYPES[requested], stored=True)[0].name == requested


@pytest.mark.parametrize("requested", ["f32", "f16", "bf16"])
def test_float_types_take_any_row(requested: str) -> None:
    assert choose_type("matrix", 7, TYPES[requested]) == (TYPES[requested], "")


@given(st.sampled_from(list(ROLE_TYPES)), st.integers(1, 20_000), st.sampled_from(list(TYPES.values())))
def test_whatever_is_chosen_fits_the_row(role: str, row: int, requested: object) -> None:
    type, _ = choose_type(role, row, requested)  # type: ignore[arg-type]
    assert row % type.block == 0


# Rules.

UP, EMBED = "model.layers.0.ffn.up.weight", "llm.embed.weight"
FIXED_ROLES = ["norm", "bias", "codebook", "convolution"]


def rules(*texts: str) -> list[Rule]:
    return [parse_rule(text, "--tensor-type") for text in texts]


def chosen(name: str, role: str, requested: str, *texts: str, row: int = 256) -> str:
    return choose_type(role, row, TYPES[requested], name, rules(*texts))[0].name


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], "q4_k"),
        (["ffn=q8_0"], "q8_0"),
        (["ffn=q8_0", "up=f16"], "q8_0"),
        (["up=f16", "ffn=q8_0"], "f16"),
        (["embed=f16", ".=q6_k"], "q6_k"),
        (["^ffn=q8_0"], "q4_k"),
        ([r"layers\.[1-9]=q8_0"], "q4_k"),
        ([r"^model\.layers\.0\..*\.weight$=bf16"], "bf16"),
    ],
)
def test_the_first_rule_found_anywhere_in_the_name_wins(texts: list[str], expected: str) -> None:
    assert chosen(UP, "matrix", "q4_k", *texts) == expected


@given(st.lists(st.sampled_from(["ffn", "up", "embed", "layers", "head", "^llm", "weight$"]), max_size=5), st.data())
def test_whatever_the_rules_the_first_match_wins(patterns: list[str], data: st.DataObject) -> None:
    types = [data.draw(st.sampled_from(list(TYPES))) for _ in patterns]
    for name in (UP, EMBED):
        wins = [type for pattern, type in zip(patterns, types, strict=True) if re.search(pattern, name)]
        texts = [f"{pattern}={type}" for pattern, type in zip(patterns, types, strict=True)]
        assert chosen(name, "matrix", "q5_k", *texts) == [*wins, "q5_k"][0]


@pytest.mark.parametrize("role", FIXED_ROLES)
@pytest.mark.parametrize("requested", ["f32", "q4_k", "bf16"])
def test_no_rule_changes_a_type_that_the_role_fixes(role: str, requested: str) -> None:
    assert chosen("x", role, requested, "x=q8_0") == chosen("x", role, requested)


@pytest.mark.parametrize("role", MATRIX_ROLES)
def test_a_rule_holds_in_an_f32_file_too(role: str) -> None:
    assert chosen(UP, role, "f32", "up=q4_k") == "q4_k"
    assert chosen(UP, role, "f32", "embed=q4_k") == "f32"
    assert chosen(UP, role, "q4_k", "up=f32") == "f32"


@pytest.mark.parametrize(("row", "expected"), [(128, "q5_0"), (48, "f16")])
def test_a_rules_type_falls_back_like_any_other_and_says_so(row: int, expected: str) -> None:
    type, note = choose_type("matrix", row, TYPES["f32"], UP, rules("up=q5_k"))
    assert (type.name, note) == (expected, f"rows of {row} are not a multiple of 256: {expected}")


@pytest.mark.parametrize(
    ("text", "pattern", "type"),
    [
        ("up=q8_0", "up", "q8_0"),
        ("up=Q8_0", "up", "q8_0"),
        (" up = IQ4_NL ", "up", "iq4_nl"),
        (r"(?i)UP.*=q8_0", r"(?i)UP.*", "q8_0"),
        ("a=b=f16", "a=b", "f16"),
        (r"a{2,3}\.(b|c)$=bf16", r"a{2,3}\.(b|c)$", "bf16"),
    ],
)
def test_a_rule_is_what_stands_before_and_behind_the_last_equals_sign(text: str, pattern: str, type: str) -> None:
    rule = parse_rule(text, "here")
    assert (rule.pattern, rule.ggml_type, rule.where) == (pattern, TYPES[type], "here")


NO_RULE = f"is not a rule; expected REGEX=TYPE, the type one of {' '.join(TYPES)}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", f"'' {NO_RULE}"),
        ("q8_0", f"'q8_0' {NO_RULE}"),
        ("=q8_0", f"'=q8_0' {NO_RULE}"),
        ("  =q8_0", f"'  =q8_0' {NO_RULE}"),
        ("up=", f"'up=' {NO_RULE}"),
        ("up=q9_z", f"'up=q9_z' {NO_RULE}"),
        ("up=q8_0 # a note", f"'up=q8_0 # a note' {NO_RULE}"),
        ("(up=q8_0", "'(up' is not a regular expression: missing ): (up; expected RE2 syntax"),
        ("*=q8_0", "'*' is not a regular expression: no argument for repetition operator: *; expected RE2 syntax"),
        ("a\nb=q9_z", f"'a\\nb=q9_z' {NO_RULE}"),
        ("a\nb=q8_0", f"'a\\nb=q8_0' {NO_RULE}"),
        ("a\u2028b=q8_0", f"'a\\u2028b=q8_0' {NO_RULE}"),
        ("a\udcffb=q8_0", f"'a\\udcffb=q8_0' {NO_RULE}"),
    ],
)
def test_what_is_no_rule_is_one_line(text: str, says: str) -> None:
    with pytest.raises(InputError) as error:
        parse_rule(text, "--tensor-type")
    assert str(error.value) == f"--tensor-type: {says}"


@pytest.mark.parametrize(
    ("most", "rule", "says"),
    [
        (1_000, "a=q8_0", "holds more than 1,000 rules; expected fewer, about more tensors each"),
        (
            10,
            ".{240}=q8_0",
            "its first 11 rules are too large; expected at most 20,000 instructions of RE2, all together",
        ),
    ],
)
def test_a_recipe_holds_no_more_rules_than_can_be_matched(most: int, rule: str, says: str) -> None:
    name = [("a" * 300, "matrix")]
    made = parse_recipe(f"{rule}\n" * most, "r.txt")
    check_rules(made, name)
    assert parse_recipe(recipe_text(made), "again") == parse_recipe("\n".join([rule] * most), "again")
    with pytest.raises(InputError, match=f"^r\\.txt: {says}$"):
        parse_recipe(f"{rule}\n" * (most + 1), "r.txt")
    with pytest.raises(InputError, match=f"^rules: {says}$"):
        check_rules([*made, made[0]], name)
    with pytest.raises(InputError, match=f"^x\\.gguf: {says}$"):
        recipe_text([*made, made[0]], "x.gguf")


def test_a_recipe_of_megabytes_is_not_looked_at() -> None:
    with pytest.raises(InputError, match=r"^r\.txt: has 9,000,000 characters; expected at most 100,000$"):
        parse_recipe("#" * 9_000_000, "r.txt")
    with pytest.raises(InputError, match=r"^x\.gguf: its rules have [\d,]+ characters; expected at most 100,000$"):
        recipe_text(rules(*[f"^{'a' * 1_500}$=q8_0"] * 100), "x.gguf")


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_recipe_is_a_rule_a_line_among_comments_and_blank_lines(newline: str) -> None:
    text = newline.join(["# mine", "", "up=q8_0", "   ", "  # embed=f16", "  embed = F16", "#"])
    assert [(str(rule), rule.where) for rule in parse_recipe(text, "r.txt")] == [
        ("up=q8_0", "r.txt:3"),
        ("embed=f16", "r.txt:6"),
    ]


def test_a_recipe_without_rules_has_none() -> None:
    assert parse_recipe("", "r.txt") == parse_recipe("# nothing\n\n", "r.txt") == []


@pytest.mark.parametrize("wrong", ["up", "up=q9_z", "(=q8_0", "=q8_0"])
def test_a_wrong_line_of_a_recipe_is_named_by_its_number(wrong: str) -> None:
    with pytest.raises(InputError, match=r"^dir/r\.txt:4: '"):
        parse_recipe(f"# mine\n\nup=q8_0\n{wrong}\nembed=f16\n", "dir/r.txt")


@given(st.lists(st.tuples(st.text(max_size=6), st.sampled_from(list(TYPES))), max_size=4))
def test_what_is_recorded_of_rules_are_the_same_rules(texts: list[tuple[str, str]]) -> None:
    found = []
    for pattern, type in texts:
        with suppress(InputError):
            found.append(parse_rule(f"{pattern}={type}", "x"))
    again = parse_recipe(recipe_text(found), "x")
    expected = [(rule.pattern, rule.ggml_type) for rule in found]
    assert [(rule.pattern.replace(r"\#", "#"), rule.ggml_type) for rule in again] == [
        (pattern.replace(r"\#", "#"), type) for pattern, type in expected
    ]


def test_a_rule_that_looks_like_a_comment_is_recorded_as_a_rule() -> None:
    [rule] = parse_recipe(recipe_text(rules("#|up=q8_0")), "x")
    assert (rule.ggml_type, rule.matches(UP, "matrix"), rule.matches("a#b", "matrix")) == (TYPES["q8_0"], True, True)
    assert not rule.matches(EMBED, "embedding")


def test_a_tensors_own_rule_is_about_it_alone() -> None:
    rule = rule_for(UP, TYPES["q8_0"], "x")
    assert str(rule) == r"^model\.layers\.0\.ffn\.up\.weight$=q8_0"
    assert rule.matches(UP, "matrix")
    assert not any(rule.matches(name, "matrix") for name in (f"x{UP}", f"{UP}x", UP.replace(".", "_")))


TENSORS = [(UP, "matrix"), (EMBED, "embedding"), ("llm.final_norm.weight", "norm"), ("encoder.conv1.bias", "bias")]


def test_rules_that_each_match_something_pass() -> None:
    check_rules([], [])
    check_rules(rules("up=q8_0", "embed=f16", "weight=f32"), TENSORS)


def test_a_rule_that_is_never_first_is_no_mistake() -> None:
    check_rules(rules(".=q8_0", "embed=f16"), TENSORS)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("down=q8_0", "down=q8_0 matches no tensor"),
        ("^up=q8_0", "^up=q8_0 matches no tensor"),
        ("norm=q8_0", "norm=q8_0 matches only 1 tensors whose type is fixed"),
        ("norm|bias=q8_0", "norm|bias=q8_0 matches only 2 tensors whose type is fixed"),
    ],
)
def test_a_rule_that_is_about_nothing_is_a_mistake(text: str, says: str) -> None:
    with pytest.raises(InputError) as error:
        check_rules(rules("up=f16", text), TENSORS)
    assert str(error.value) == f"--tensor-type: {says}; --dry-run lists every tensor"


def test_a_recipes_rule_that_is_about_nothing_is_named_by_its_line() -> None:
    with pytest.raises(InputError, match=r"^r\.txt:2: down=q8_0 matches no tensor"):
        check_rules(parse_recipe("up=f16\ndown=q8_0\n", "r.txt"), TENSORS)


# Mixes.

MATRICES = [
    Typed("llm.embed.weight", "embedding", 256, TYPES["q6_k"]),
    Typed("lm_head.weight", "head", 256, TYPES["q6_k"]),
    Typed("a.ffn.up.weight", "matrix", 256, TYPES["f16"]),
    Typed("a.ffn.down.weight", "matrix", 256, TYPES["q4_k"]),
    Typed("b.ffn.down.weight", "matrix", 32, TYPES["q4_0"]),  # no multiple of a block of 256
    Typed("a.norm.weight", "norm", 256, TYPES["f32"]),
    Typed("a.attn.o.weight", "matrix", 256, TYPES["f32"]),  # with a weight that F16 cannot hold
]


def test_a_mix_counts_what_rules_chose_and_nothing_else() -> None:
    mixed = mixed_types(MATRICES, TYPES["q4_k"], rules("up=f16", "head|embed=q6_k", "down=q4_k"))
    assert list(mixed.items()) == [("q6_k", 2), ("f16", 1)]
    assert type_label("q4_k", mixed) == "q4_k + 2 q6_k + 1 f16"
    assert mixed_types(MATRICES, TYPES["q4_k"], rules()) == {}
    assert type_label("q4_k", {}) == "q4_k"


def test_in_a_file_that_records_no_rules_every_matrix_of_another_type_counts() -> None:
    assert mixed_types(MATRICES, TYPES["q4_k"], None) == {"q6_k": 2, "f16": 1, "f32": 1}
