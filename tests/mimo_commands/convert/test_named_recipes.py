"""mimo-convert and mimo-quantize with a recipe by name."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mimo_commands.convert import main as mimo_convert
from mimo_commands.quantize import main as mimo_quantize
from tests.mimo_convert.write.test_convert import BLOCKS
from tests.opened import lint
from tests.qwen3_checkpoint import write_qwen3_asr
from tests.readers import ggml_tensors, gguf_metadata

from ..invoked import check_one_line, invoke, names

RECIPE, NAME, FILE_TYPE = "mimo_convert.recipe", "mimo_convert.recipe_name", "general.file_type"
NUMBERS = {"mixed-8-4": 7, "q4_k_m": 15, "q5_k_m": 17}
LAYERS = 2  # of the small model: with fewer than 8, the last and every third from the third on are sensitive


def quantize(*arguments: Any) -> Result:
    return CliRunner().invoke(mimo_quantize, [*map(str, arguments)])


def expected(recipe: str, name: str) -> str:
    """The type that a tensor of the small speech LM is asked to have, written down again."""
    if recipe == "mixed-8-4":
        return "q4_k" if name.startswith(("model.layers.", "llm.blk.")) and ".ffn." in name else "q8_0"
    if name.startswith("audio.") and "hidden_proj" not in name:
        return "q8_0"
    if "head" in name:
        return "q6_k"
    is_last = name.startswith((f"model.layers.{LAYERS - 1}.", "llm.blk.0."))
    return "q6_k" if is_last and ("attn.v." in name or "ffn.down." in name) else recipe.removesuffix("_m")


def types(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and shape of the matrices that have blocks of 256."""
    found = {name: (tensor.type, tensor.shape) for name, tensor in ggml_tensors(path).items()}
    return {name: one for name, one in found.items() if len(one[1]) == 2 and one[1][1] % 256 == 0}


@pytest.mark.parametrize("recipe", NUMBERS)
def test_a_recipe_by_name_makes_a_file_of_its_name_that_says_what_is_in_it(
    lm: Path, tokenizer: Path, tmp_path: Path, recipe: str
) -> None:
    out = tmp_path / "out"
    result = invoke(lm, "--tokenizer", tokenizer, "--recipe", recipe.upper(), "--out", out)
    assert (result.exit_code, result.stderr) == (0, "")
    assert f"mimo-asr-{recipe}.gguf: {recipe}: " in result.stdout
    assert names(out) == [f"mimo-asr-{recipe}.gguf", "mimo-tokenizer-q8_0.gguf"]
    made = out / f"mimo-asr-{recipe}.gguf"
    found = types(made)
    assert {name: one for name, (one, _) in found.items()} == {name: expected(recipe, name) for name in found}
    assert len({one for one, _ in found.values()}) > 1
    told = gguf_metadata(made)
    assert (told[FILE_TYPE], told[NAME], "mimo_convert.variant" in told) == (NUMBERS[recipe], recipe, False)
    assert lint(made).passed
    assert {RECIPE, NAME}.isdisjoint(gguf_metadata(out / "mimo-tokenizer-q8_0.gguf")), "a companion is of its own type"


def test_a_companion_by_itself_is_mixed_too(tokenizer: Path, tmp_path: Path) -> None:
    assert invoke(tokenizer, "--recipe", "mixed-8-4", "--out", tmp_path / "out").exit_code == 0
    assert names(tmp_path / "out") == ["mimo-tokenizer-mixed-8-4.gguf"]
    for name, (found, shape) in types(tmp_path / "out" / "mimo-tokenizer-mixed-8-4.gguf").items():
        if "codebook" not in name:
            assert found == ("q4_k" if ".fc" in name else "q8_0"), (name, shape)
    assert BLOCKS["q4_k"] == 256


def test_rules_come_before_a_recipe_and_name_the_file(lm: Path, tokenizer: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    of_head = ["--tensor-type", "lm_head=f16"]
    for more in ([], ["--name", "best"]):
        result = invoke(lm, "--tokenizer", tokenizer, "--recipe", "q4_k_m", *of_head, *more, "--out", out)
        assert result.exit_code == 0, result.output
    assert names(out)[:2] == ["mimo-asr-q4_k_m-best.gguf", "mimo-asr-q4_k_m-mix.gguf"]
    made = out / "mimo-asr-q4_k_m-mix.gguf"
    assert types(made)["llm.lm_head.weight"][0] == "f16"
    assert gguf_metadata(made)[RECIPE].startswith("lm_head=f16\n")
    assert lint(made).passed


def test_a_file_with_the_name_of_a_recipe_is_a_file(
    lm: Path, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("q4_k_m", "list"):
        Path(name).write_text("lm_head=q6_k\n")
        assert invoke(lm, "--tokenizer", tokenizer, "--outtype", "q8_0", "--recipe", name, "--out", "o").exit_code == 0
    assert names(Path("o"))[:2] == ["mimo-asr-q8_0-list.gguf", "mimo-asr-q8_0-q4_k_m.gguf"]


@pytest.mark.parametrize("command", [mimo_convert, mimo_quantize])
def test_recipes_are_listed(command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(command, ["--recipe", "list"])
    assert (result.exit_code, result.stderr) == (0, "")
    assert [line.split()[0] for line in result.stdout.splitlines()] == list(NUMBERS)


@pytest.mark.parametrize(
    ("options", "where", "says"),
    [
        (["--recipe", "q4_k_x"], "q4_k_x", "no such file; expected a text file of rules, or one of mixed-8-4 q4_k_m "
         "q5_k_m; did you mean q4_k_m?"),
        (["--recipe", "heds.txt"], "heds.txt", "no such file; .*; did you mean heads.txt?"),
        (["--recipe", "q4_k_m", "--outtype", "q4_k"], "--outtype q4_k", "is given beside the recipe q4_k_m, which"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["convert", "quantize"])
def test_what_is_no_recipe_is_one_line(
    lm: Path, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    command: str, options: list[str], where: str, says: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("heads.txt").touch()
    Path("in.gguf").touch()
    of = {
        "convert": lambda: invoke(lm, "--tokenizer", tokenizer, *options),
        "quantize": lambda: quantize("in.gguf", "x.gguf", *options),
    }
    check_one_line(of[command](), where, says)


def test_a_type_of_a_model_alone_cannot_be_given_beside_a_recipe(tokenizer: Path, tmp_path: Path) -> None:
    result = invoke(tokenizer, "--recipe", "q4_k_m", "--tokenizer-outtype", "q8_0", "--out", tmp_path / "out")
    check_one_line(result, "--tokenizer-outtype q8_0", "is given beside the recipe q4_k_m")


@pytest.mark.parametrize("recipe", NUMBERS)
def test_a_file_becomes_the_mix_that_its_checkpoint_would(
    lm: Path, tokenizer: Path, tmp_path: Path, recipe: str
) -> None:
    """And keeps its name of it until it gets other types."""
    out = tmp_path / "out"
    model = [lm, "--tokenizer", tokenizer, "--out", out, "--asr-only"]
    for how in (["--outtype", "f32"], ["--recipe", recipe]):
        assert invoke(*model, *how).exit_code == 0
    target, again, plain = (tmp_path / f"{i}.gguf" for i in range(3))
    assert quantize(out / "mimo-asr-f32.gguf", target, "--recipe", recipe).exit_code == 0
    assert target.read_bytes() == (out / f"mimo-asr-{recipe}.gguf").read_bytes()
    assert quantize(target, again, "--tensor-type", "lm_head=f32", "--allow-requantize").exit_code == 0
    told = gguf_metadata(again)
    assert (told[FILE_TYPE], told[NAME]) == (NUMBERS[recipe], recipe)
    assert lint(again).passed
    assert quantize(target, plain, "--outtype", "f16", "--allow-requantize").exit_code == 0
    assert {RECIPE, NAME}.isdisjoint(gguf_metadata(plain))


@pytest.mark.parametrize("recipe", ["mixed-8-4", "q4_k_m"])
def test_a_recogniser_with_an_audio_tower_and_a_tied_head(tmp_path: Path, recipe: str) -> None:
    """Of eight layers llama.cpp has 0, 3, 6 and 7 sensitive. The head is written twice, in one type."""
    checkpoint = write_qwen3_asr(tmp_path / "model", text={"num_hidden_layers": 8})
    result = invoke(checkpoint, "--recipe", recipe, "--out", tmp_path / "out")
    assert (result.exit_code, names(tmp_path / "out")) == (0, [f"qwen3-asr-{recipe}.gguf"]), result.output
    made = tmp_path / "out" / f"qwen3-asr-{recipe}.gguf"
    sensitive = [f"blk.{i}.{name}.weight" for i in (0, 3, 6, 7) for name in ("attn_v", "ffn_down")]
    mlp = [f"blk.{i}.ffn_{name}.weight" for i in range(8) for name in ("gate", "up", "down")]
    others = {
        "mixed-8-4": ("q8_0", dict.fromkeys(mlp, "q4_k")),
        "q4_k_m": ("q4_k", dict.fromkeys([*sensitive, "token_embd.weight", "output.weight"], "q6_k")),
    }
    base, expected_types = others[recipe]
    for name, (found, _) in types(made).items():
        asked = "q8_0" if name.startswith("audio.") else expected_types.get(name, base)
        assert found == asked, name
    assert lint(made).passed
