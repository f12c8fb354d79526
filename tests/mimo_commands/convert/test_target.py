"""mimo-convert and mimo-quantize with a size: the file on the disk, its name, its recipe, and what is refused."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from gguf import GGUFValueType

from mimo_commands.quantize import main as mimo_quantize
from tests.gguf_edit import Key, rewrite
from tests.mimo_convert.budget.made_up import written_calibration
from tests.opened import lint
from tests.readers import ggml_tensors, gguf_metadata

from ..invoked import check_one_line, invoke, names

TOKENIZER = "mimo-tokenizer-q8_0.gguf"


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written_calibration("tiny", tmp_path_factory.mktemp("calibration") / "voices.gguf")


def quantize(*arguments: Any) -> Result:
    return CliRunner().invoke(mimo_quantize, [*map(str, arguments)])


def types(path: Path) -> dict[str, str]:
    return {name: tensor.type for name, tensor in ggml_tensors(path).items()}


def test_a_file_of_a_size_is_no_larger_and_named_by_it(calibration: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = invoke("tiny", "--target-size", "3.8MB", "--calibration", calibration, "--out", out)
    assert (result.exit_code, result.stderr) == (0, "")
    [name] = [name for name in names(out) if name != TOKENIZER]
    assert name == "mimo-asr-q8_0-3.8MB.gguf"
    made = out / name
    assert 3_790_000 < made.stat().st_size <= 3_800_000
    told = gguf_metadata(made)
    assert told["mimo_convert.target"] == "3.8MB"
    assert 0 < float(told["mimo_convert.predicted_kl"]) < 1
    said = re.search(r"for 3\.8MB: predicted KL divergence (\S+) nats a token", result.stdout)
    assert said
    assert float(said[1]) == pytest.approx(float(told["mimo_convert.predicted_kl"]), rel=0.05)
    assert lint(made).passed


def test_the_recorded_recipe_makes_the_same_types(calibration: Path, tmp_path: Path) -> None:
    out, again, recipe = tmp_path / "out", tmp_path / "again", tmp_path / "recipe.txt"
    assert invoke("tiny", "--target-bpw", "6.5", "--calibration", calibration, "--out", out).exit_code == 0
    made = out / "mimo-asr-q8_0-6.5bpw.gguf"
    recipe.write_text(gguf_metadata(made)["mimo_convert.recipe"])
    assert invoke("tiny", "--outtype", "q8_0", "--recipe", recipe, "--out", again).exit_code == 0
    by_rules = again / "mimo-asr-q8_0-recipe.gguf"
    assert types(by_rules) == types(made)
    assert "mimo_convert.target" not in gguf_metadata(by_rules)


def test_a_plan_tells_the_types_of_each_use(calibration: Path, tmp_path: Path) -> None:
    result = invoke("tiny", "--target-size", "3.8MB", "--calibration", calibration, "--out", tmp_path, "--dry-run")
    assert result.exit_code == 0
    assert names(tmp_path) == []
    table = result.stdout.partition("types for 3.8MB: predicted KL divergence ")[2]
    assert re.search(r"\n  model\.layers mlp_down +2 +[\d,]+ +[\d.e-]+  \w+ 0; \w+ 1\n", table)
    assert re.search(r"\n  of 9 tensors nothing is known, .*: llm\.embed\.weight, ", table)


def test_a_file_of_a_size_from_a_file(calibration: Path, tmp_path: Path) -> None:
    assert invoke("tiny", "--outtype", "f16", "--out", tmp_path).exit_code == 0
    made = tmp_path / "small.gguf"
    size = ("--target-size", "3.8MB", "--calibration", calibration)
    result = quantize(tmp_path / "mimo-asr-f16.gguf", made, *size, "--fuse-qkv", "--floor", "lm_head=q6_k")
    assert (result.exit_code, result.stderr) == (0, "")
    assert 3_790_000 < made.stat().st_size <= 3_800_000
    told = gguf_metadata(made)
    assert (told["mimo_convert.target"], told["mimo_convert.target_floors"]) == ("3.8MB", "lm_head=q6_k")
    assert types(made)["llm.lm_head.weight"] in ("q6_k", "q8_0", "f16")
    assert lint(made).passed
    apart = tmp_path / "apart.gguf"
    assert quantize(made, apart, "--split-qkv").exit_code == 0, "its types do not change"
    assert types(apart)["model.layers.0.attn.k.weight"] == types(made)["model.layers.0.attn.qkv.weight"]
    assert "mimo_convert.target" not in gguf_metadata(apart), "nobody chose the size of this one"
    assert lint(apart).passed


def test_what_is_larger_than_its_size_is_found(calibration: Path, tmp_path: Path) -> None:
    assert invoke("tiny", "--target-size", "3.8MB", "--calibration", calibration, "--out", tmp_path).exit_code == 0
    made = tmp_path / "mimo-asr-q8_0-3.8MB.gguf"
    for target, finding in (
        ("3.7MB", r"key mimo_convert\.target is 3\.7MB; expected at most 3,700,000 bytes, found [\d,]+"),
        ("6.1bpw", r"key mimo_convert\.target is 6\.1bpw; expected at most [\d,]+ bytes, found [\d,]+"),
        ("small", "key mimo_convert.target: 'small' is not a size"),
    ):
        key = Key("mimo_convert.target", target, GGUFValueType.STRING)
        larger = rewrite(made, tmp_path / "l.gguf", keys=lambda one, key=key: key if one.name == key.name else one)
        [line] = [line for rule in lint(larger).rules if rule.name == "target" for line in rule.findings]
        assert re.match(finding, line), line


@pytest.mark.parametrize(
    ("options", "where", "says"),
    [
        (["--target-bpw", "6.5"], "--target-bpw 6.5", "needs to know how much the output depends on each tensor"),
        (["--target-size", "3.8MB", "--target-bpw", "6.5"], "--target-size", "and --target-bpw both say"),
        (["--target-size", "large"], "--target-size", "'large' is not a size"),
        (["--target-bpw", "nan"], "--target-bpw", "'nan' is not a number; expected a number of bits per weight from"),
        (["--target-bpw", "40"], "--target-bpw", "is 40bpw; expected 1 to 32 bits per weight"),
        (["--floor", "embed=q4_k"], "--floor", "says by what types are chosen"),
        (["--target-size", "1MB", "--calibration", "C", "--outtype", "q4_k"], "--outtype", "is given beside --target-"),
        (["--target-size", "1MB", "--calibration", "C", "--stream"], "--stream", "deletes each shard"),
        (["--target-size", "1MB", "--calibration", "C", "--floor", "embed"], "--floor", "'embed' is not a rule"),
        (["--target-size", "3MB", "--calibration", "C", "--floor", "nothing=q4_k"], "--floor",
         "nothing=q4_k matches no tensor"),
        (["--target-size", "1MB", "--calibration", "C"], "--target-size 1MB", "cannot be met"),
        (["--target-size", "3MB", "--calibration", "C", "--tensor-type", "nothing=q4_k"], "--tensor-type",
         "nothing=q4_k matches no tensor"),
    ],
)  # fmt: skip
def test_what_contradicts_a_size_is_one_line(
    calibration: Path, tmp_path: Path, options: list[str], where: str, says: str
) -> None:
    given = [str(calibration) if option == "C" else option for option in options]
    result = invoke("tiny", *given, "--out", tmp_path / "out")
    check_one_line(result, where, says)
    assert not (tmp_path / "out").exists()


def test_a_second_size_measures_nothing_again(calibration: Path, tmp_path: Path) -> None:
    kept = calibration.with_name("voices.errors.json")
    size = ("--calibration", calibration, "--out", tmp_path, "--dry-run")
    assert invoke("tiny", "--target-size", "3.8MB", *size).exit_code == 0
    before = kept.stat().st_mtime_ns
    assert invoke("tiny", "--target-size", "4MB", *size).exit_code == 0
    assert kept.stat().st_mtime_ns == before
    assert json.loads(kept.read_text())["errors"]
