"""What files are called whose types rules decide."""

from pathlib import Path

from click.testing import CliRunner

from mimo_commands.quantize import main as mimo_quantize
from tests.readers import gguf_metadata

from ..invoked import check_one_line, invoke, names

VARIANT = "mimo_convert.variant"


def test_mixes_stand_side_by_side(lm: Path, tokenizer: Path, tmp_path: Path) -> None:
    out, recipe = tmp_path / "out", tmp_path / "heads.txt"
    recipe.write_text("lm_head=q6_k\n")
    arguments = [lm, "--tokenizer", tokenizer, "--outtype", "q4_k", "--out", out]
    for more in ([], ["--tensor-type", "lm_head=q8_0"], ["--recipe", recipe], ["--recipe", recipe, "--name", "Best.1"]):
        result = invoke(*arguments, *more)
        assert result.exit_code == 0, result.output
    variants = ["-Best.1", "-heads", "-mix", ""]
    assert names(out) == sorted([*(f"mimo-asr-q4_k{name}.gguf" for name in variants), "mimo-tokenizer-q8_0.gguf"])
    recorded = {name: gguf_metadata(out / f"mimo-asr-q4_k{name}.gguf").get(VARIANT) for name in variants}
    assert recorded == {"-Best.1": "Best.1", "-heads": None, "-mix": None, "": None}


def test_a_name_is_of_the_model_and_of_a_tokenizer_that_rules_apply_to(
    lm: Path, tokenizer: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = [lm, "--tokenizer", tokenizer, "--name", "x", "--out", out]
    assert invoke(*arguments).exit_code == 0
    assert names(out) == ["mimo-asr-f16-x.gguf", "mimo-tokenizer-f16.gguf"]
    assert invoke(*arguments, "--tensor-type", "fc1=q8_0").exit_code == 0
    assert names(out)[1:] == ["mimo-tokenizer-f16-x.gguf", "mimo-tokenizer-f16.gguf"]
    says = "'a/b'; expected at most 64 letters, digits and . _ + -"
    check_one_line(invoke(*arguments, "--name", "a/b"), "--name", says)


def test_a_file_that_keeps_its_types_keeps_its_name_and_one_of_others_does_not(
    lm: Path, tokenizer: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert invoke(lm, "--tokenizer", tokenizer, "--name", "x", "--out", out).exit_code == 0
    for options, variant in ((["--fuse-qkv"], "x"), (["--outtype", "q8_0"], None)):
        target = tmp_path / f"{variant}.gguf"
        done = CliRunner().invoke(mimo_quantize, [str(out / "mimo-asr-f16-x.gguf"), str(target), *options])
        assert done.exit_code == 0, done.output
        assert gguf_metadata(target).get(VARIANT) == variant
