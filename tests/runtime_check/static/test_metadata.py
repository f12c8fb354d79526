"""Lint rules of metadata: types and ranges of keys, recipes."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFValueType as V

from tests.gguf_edit import Key, rewrite

from .linted import changed, checked, only, problems, valued


@pytest.mark.parametrize(
    ("name", "value", "type", "says"),
    [
        ("mimo_asr.llm.vocab_size", "1024", V.STRING, "is '1024', string; expected uint32"),
        ("mimo_asr.llm.vocab_size", 1024.0, V.FLOAT32, "is 1024.0, float32; expected uint32"),
        ("mimo_asr.llm.num_layers", 2, V.UINT64, "is 2, uint64; expected uint32"),
        ("mimo_asr.audio.speech_vocab.3", -129, V.INT32, "is -129, int32; expected uint32"),
        ("mimo_asr.llm.num_layers", 0, None, "is 0; expected a positive number"),
        ("mimo_asr.llm.num_layers", None, None, "is missing; expected uint32"),
        ("mimo_asr.llm.rope_theta", None, None, "is missing; expected float32"),
        ("mimo_asr.llm.rope_theta", 10.0, None, "is 10; expected 1000 to 1e+09"),
        ("mimo_asr.llm.rms_norm_eps", 1.0, None, "is 1; expected 1e-12 to 0.01"),
        ("mimo_asr.llm.rms_norm_eps", 0.0, None, "is 0; expected 1e-12 to 0.01"),
        ("mimo_asr.audio.speech_zeroemb.0", 1023, None, "is 1023; expected the last id, 1024"),
        ("mimo_asr.audio.delay_pattern", "0-1-2-3-4-5-6", None, "is '0-1-2-3-4-5-6'; expected 8 numbers joined by"),
        ("general.quantization_version", 3, None, "is 3; expected 2"),
        ("tokenizer.ggml.eos_token_id", 987, V.UINT64, "is 987, uint64; expected uint32"),
    ],
)
def test_a_key_that_cannot_be_is_named(
    lm: Path, tmp_path: Path, name: str, value: Any, type: V | None, says: str
) -> None:
    found = problems(valued(lm, tmp_path / "x.gguf", name, value, type))["metadata"]
    assert found[0].replace("key ", "").startswith(f"{name} {says}")


def test_what_is_wrong_with_one_size_does_not_hide_what_is_wrong_with_another(lm: Path, tmp_path: Path) -> None:
    layers = valued(lm, tmp_path / "x.gguf", "mimo_asr.llm.num_layers", 2, V.UINT64)
    assert problems(valued(layers, tmp_path / "y.gguf", "mimo_asr.audio.channels", 7))["metadata"] == (
        "key mimo_asr.llm.num_layers is 2, uint64; expected uint32",
        "keys mimo_asr.audio.speech_vocab.N: 8 of them; expected 7 (channels)",
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_a_theta_that_is_no_number_is_named(lm: Path, tmp_path: Path, value: float) -> None:
    lines = problems(valued(lm, tmp_path / "x.gguf", "mimo_asr.llm.rope_theta", value))["metadata"]
    assert any(line.startswith(f"key mimo_asr.llm.rope_theta is {value:g}; expected 1000") for line in lines)


def test_a_list_where_a_text_should_be_and_a_text_where_a_list(lm: Path, tmp_path: Path) -> None:
    keys = changed(
        general__name=Key("general.name", ["a"], V.ARRAY, V.STRING),
        tokenizer__ggml__merges=Key("tokenizer.ggml.merges", "a b", V.STRING),
    )
    found = problems(rewrite(lm, tmp_path / "x.gguf", keys=keys))
    assert found["metadata"] == (
        "key general.name holds 1 values, a list of string; expected string",
        "key tokenizer.ggml.merges is 'a b', string; expected a list of string",
    )
    assert found["merges"] == (
        "key tokenizer.ggml.merges is missing, empty, or holds no strings; expected every merge",
    )


def test_a_recipe_that_cannot_be_read_leaves_the_types_unexamined(lm: Path, tmp_path: Path) -> None:
    path = rewrite(lm, tmp_path / "x.gguf", add=[Key("mimo_convert.recipe", "up=q9_z", V.STRING)])
    assert only(path, "metadata").startswith("key mimo_convert.recipe:1: 'up=q9_z' is not a rule; expected REGEX=TYPE")
    assert "types" not in [rule.name for rule in checked(path).rules]


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        (
            "(?!llm).*=q8_0",
            ":1: '(?!llm).*' uses look-ahead (?!, which rules cannot: they are matched by RE2 in linear",
        ),
        ("(a)\\1=q8_0", ":1: '(a)\\\\1' uses a back-reference \\1, which rules cannot"),
        ("up=q8_0\n" * 1_001, " holds more than 1,000 rules; expected fewer"),
        ("(.?){1000}=q8_0", ":1: '(.?){1000}' is too large for a rule; expected at most 2,000 instructions of RE2"),
        ("#" * 200_000, ": has 200,000 characters; expected at most 100,000"),
    ],
)
def test_a_recipe_that_cannot_be_matched_is_a_finding(lm: Path, tmp_path: Path, recipe: str, says: str) -> None:
    path = rewrite(lm, tmp_path / "x.gguf", add=[Key("mimo_convert.recipe", recipe, V.STRING)])
    assert only(path, "metadata").startswith(f"key mimo_convert.recipe{says}".replace("recipe holds", "recipe: holds"))
    assert "types" not in [rule.name for rule in checked(path).rules]


def test_a_recipe_that_would_backtrack_for_years_is_examined_at_once(lm: Path, tmp_path: Path) -> None:
    """As a process of its own; a tensor of a long name is there, too."""
    keys = [Key("mimo_convert.recipe", "(.+)+!=q4_k\n(a|aa|.)*!=f16", V.STRING)]
    path = rewrite(lm, tmp_path / "x.gguf", add=keys, extra="llm." + "a" * 50)
    code = "from mimo_commands.check import main; main()"
    command = [sys.executable, "-c", code, path, "--static"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (result.returncode, result.stderr) == (1, "")
    assert "extra tensor llm.aaa" in result.stdout
    assert re.search(r"^types +\d+ +ok", result.stdout, re.MULTILINE), result.stdout
