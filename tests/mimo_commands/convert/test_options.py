"""mimo-convert's options for single tensors, and for files without the speech generator."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mimo_commands.convert import main
from quantize.types import TYPES
from tests.contract import audio_tokenizer_names, contract_type, is_speech_generation, speech_lm_names
from tests.mimo_convert.write.test_convert import BLOCKS, expected_tensor
from tests.readers import checkpoint_tensors, ggml_tensors, gguf_metadata

from ..invoked import check_one_line, names


@pytest.fixture
def convert(small_lm: Path, small_tokenizer: Path, tmp_path: Path) -> Any:
    """mimo-convert of the small pair into tmp_path/out."""

    def run(*options: Any) -> Result:
        model = [str(small_lm), "--tokenizer", str(small_tokenizer), "--out", str(tmp_path / "out"), "--no-check"]
        return CliRunner().invoke(main, [*model, *map(str, options)])

    return run


def types(path: Path) -> dict[str, str]:
    return {name: tensor.type for name, tensor in ggml_tensors(path).items()}


def test_rules_decide_over_the_types_of_every_file_of_a_run(convert: Any, small_lm: Path, tmp_path: Path) -> None:
    """In both files of the pair, and in each type; the first that matches wins, a recipe's come last."""
    (tmp_path / "r.txt").write_text("# the heads\n\nhead=f16\nfc1|ffn.up=q8_0\n", encoding="utf-8")
    rules = ["--tensor-type", r"layers\.0\..*up=Q5_1", "--tensor-type", "embed=bf16", "--recipe", tmp_path / "r.txt"]
    result = convert("--outtype", "q4_k", "--outtype", "f32", *rules)
    assert (result.exit_code, result.stderr) == (0, "")
    weights = checkpoint_tensors(small_lm)
    for outtype in ("q4_k", "f32"):
        ruled = {"model.layers.0.ffn.up.weight": "q5_1", "llm.embed.weight": "bf16", "llm.lm_head.weight": "f16"}
        ruled |= {f"llm.codebook_head.{c}.weight": "f16" for c in range(8)}
        for name in ("model.layers.1.ffn.up.weight", "llm.blk.0.ffn.up.weight"):
            ruled[name] = "q8_0"
        ruled["audio.blk.0.ffn.up.weight"] = "f16"  # rows of 48
        for name, found in ggml_tensors(tmp_path / "out" / f"mimo-asr-{outtype}-r.gguf").items():
            [source] = speech_lm_names(2, 1, 1, fused=False)[name]
            expected = expected_tensor([weights[source]], name, ruled.get(name, outtype))
            assert (found.type, found.shape, found.data) == expected, name
        assert gguf_metadata(tmp_path / "out" / f"mimo-asr-{outtype}-r.gguf")["general.file_type"] == (
            TYPES[outtype].file_type
        )
    for name, tensor in ggml_tensors(tmp_path / "out" / "mimo-tokenizer-f32-r.gguf").items():
        asked = "q8_0" if name.endswith("fc1.weight") else "f32"
        assert tensor.type == contract_type(name, tensor.shape, asked, BLOCKS), name


@pytest.mark.parametrize(
    ("rule", "files"),
    [
        ("fc1=q8_0", {"mimo-asr-f16": False, "mimo-tokenizer-f16-mix": True}),
        ("ffn.up=q8_0", {"mimo-asr-f16-mix": True, "mimo-tokenizer-f16": False}),
    ],
)
def test_a_rule_may_be_about_one_file_of_a_pair_alone(
    convert: Any, tmp_path: Path, rule: str, files: dict[str, bool]
) -> None:
    assert convert("--tensor-type", rule).exit_code == 0
    assert {path.stem: "q8_0" in types(path).values() for path in (tmp_path / "out").iterdir()} == files


@pytest.mark.parametrize(
    ("options", "where", "says"),
    [
        (["--tensor-type", "nothing=q8_0"], "--tensor-type", "nothing=q8_0 matches no tensor; --dry-run lists"),
        (["--tensor-type", "fc1=q8_0", "--tensor-type", "q_proj=q8_0"], "--tensor-type", "q_proj=q8_0 matches no"),
        (["--tensor-type", "qkv=q8_0"], "--tensor-type", "qkv=q8_0 matches no tensor"),
        (["--fuse-qkv", "--tensor-type", r"model.*attn\.q\.=q8_0"], "--tensor-type", r"model.*attn\.q\.=q8_0 matches"),
        (["--tensor-type", "_codebook=f16"], "--tensor-type", "_codebook=f16 matches only 3 tensors whose type is"),
        (["--tensor-type", "conv1=f32"], "--tensor-type", "conv1=f32 matches only 2 tensors whose type is fixed"),
        (["--asr-only", "--tensor-type", "codebook_head=q8_0"], "--tensor-type", "codebook_head=q8_0 matches no"),
        (["--recipe", "r.txt"], "r.txt:2", "nothing=q8_0 matches no tensor"),
        (["--recipe", "absent.txt"], "absent.txt", "no such file"),
        (["--recipe", "wrong.txt"], "wrong.txt:1", "'up' is not a rule; expected REGEX=TYPE, the type one of f32 f16"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.parametrize("more", [[], ["--dry-run"]], ids=" ".join)
def test_a_rule_that_is_a_mistake_is_one_line_before_anything_is_written(
    convert: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], where: str, says: str,
    more: list[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("r.txt").write_text("up=q8_0\nnothing=q8_0\n")
    Path("wrong.txt").write_text("up\n")
    check_one_line(convert(*options, *more), where, says)
    assert names(tmp_path) == ["r.txt", "wrong.txt"]


@pytest.mark.parametrize("fused", [False, True], ids=["separate", "fused"])
@pytest.mark.parametrize("outtype", ["f16", "q4_k"])
def test_asr_only_leaves_out_the_speech_generator_alone(
    convert: Any, tmp_path: Path, fused: bool, outtype: str
) -> None:
    options = ["--outtype", outtype, *(["--fuse-qkv"] if fused else [])]
    assert convert(*options).exit_code == 0
    (tmp_path / "out").rename(tmp_path / "whole")
    result = convert(*options, "--asr-only")
    assert (result.exit_code, result.stderr) == (0, "")
    lm, tokenizer = f"mimo-asr-{outtype}.gguf", f"mimo-tokenizer-{'f16' if outtype == 'f16' else 'q8_0'}.gguf"
    whole, kept = ggml_tensors(tmp_path / "whole" / lm), ggml_tensors(tmp_path / "out" / lm)
    assert kept.keys() == {name for name in speech_lm_names(2, 1, 1, fused=fused) if not is_speech_generation(name)}
    for name, tensor in kept.items():
        assert (tensor.type, tensor.shape, tensor.data) == (whole[name].type, whole[name].shape, whole[name].data)
    assert gguf_metadata(tmp_path / "whole" / lm) == gguf_metadata(tmp_path / "out" / lm)
    assert (tmp_path / "whole" / tokenizer).read_bytes() == (tmp_path / "out" / tokenizer).read_bytes()
    lines = result.stdout.splitlines()
    said = f"skipped {len(whole) - len(kept)} tensors: speech generation, by --asr-only"
    assert [said in line for line in lines] == [True, False]


def test_asr_only_has_no_meaning_for_an_audio_tokenizer(small_tokenizer: Path, tmp_path: Path) -> None:
    arguments = [str(small_tokenizer), "--outtype", "q8_0", "--no-check", "--out", str(tmp_path), "--asr-only"]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    assert ggml_tensors(tmp_path / "mimo-tokenizer-q8_0.gguf").keys() == audio_tokenizer_names(3, 3).keys()


def test_a_dry_run_lists_what_rules_and_asr_only_make_of_a_file(convert: Any, tmp_path: Path) -> None:
    options = ["--asr-only", "--tensor-type", "ffn.up=q5_k", "--outtype", "f16"]
    plan = convert(*options, "--dry-run", "-v").stdout
    assert not (tmp_path / "out").exists()
    assert convert(*options).exit_code == 0
    totals, *parts = plan.split("\n\n")
    blocks = dict(block.split("\n", 1) for block in parts)
    for name, block in blocks.items():
        rows = block.splitlines()
        assert {row.split()[0]: row.split()[1] for row in rows} == types(tmp_path / "out" / name)
        [described] = [line for line in totals.splitlines() if line.startswith(f"{name}: ")]
        assert f"; {(tmp_path / 'out' / name).stat().st_size:,} bytes; " in described
    gone = sum(map(is_speech_generation, speech_lm_names(2, 1, 1, fused=False)))
    assert f"skipped {gone} tensors: speech generation, by --asr-only" in totals
    [note] = [row for row in blocks["mimo-asr-f16-mix.gguf"].splitlines() if "audio.blk.0.ffn.up" in row]
    assert note.endswith("rows of 48 are not a multiple of 256: f16")
