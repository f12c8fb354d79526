"""The bundled checkpoint: what `make demo` and every user of `tiny` relies on."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mimo_commands.check import main as mimo_check
from mimo_commands.convert import main as mimo_convert
from mimo_commands.quantize import main as mimo_quantize
from mimo_families.mimo_audio import reference
from mimo_families.mimo_audio.stages import ROLE, STAGES
from mimo_families.mimo_audio.system import TINY
from mimo_families.mimo_tokenizer.stages import ROLE as TOKENIZER
from quantize.types import TYPES
from runtime_check.audio.clips import Clip
from runtime_check.audio.jfk import JFK_TEXT
from runtime_check.run.activations import INCREMENTAL_LOGITS, RESPONSE, RESPONSE_LOGITS, Activations
from runtime_check.run.compare.stages import Texts, compare
from runtime_check.run.system import Task
from tests.contract import is_speech_generation
from tests.opened import (
    TINY_REFERENCE,
    check_pair,
    load_reference,
    open_tiny,
    open_tiny_tokenizer,
)
from tests.readers import ggml_tensors


@pytest.fixture(scope="session")
def stored() -> Activations:
    return load_reference(TINY_REFERENCE)


def test_the_stored_reference_is_what_pytorch_computes_now(stored: Activations, jfk: Clip) -> None:
    checkpoints = {ROLE: open_tiny(), TOKENIZER: open_tiny_tokenizer()}
    now = reference.run(checkpoints, jfk, Task(language="english"), None, "f32")
    cached = {INCREMENTAL_LOGITS: now.stages[RESPONSE_LOGITS]}
    texts = Texts(ROLE, ("", ""), ("", ""), [""] * len(now.stages[RESPONSE]))
    result = compare(STAGES, now.stages | cached, stored.stages, {ROLE: "f32", TOKENIZER: "f32"}, texts)
    assert result.passed, [gate for gate in result.gates if not gate.passed]
    assert min(stage.cos_min for stage in result.stages if stage.cos_min is not None) > 0.999999
    assert now.stages["greedy_ids"].tolist() == stored.stages["greedy_ids"].tolist()
    assert now.transcript == stored.transcript == JFK_TEXT


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The speech LM in F32 and Q8_0, Q, K and V separate; the audio tokenizer in F32."""
    return converted(tmp_path_factory.mktemp("tiny"), "--outtype", "f32", "--outtype", "q8_0")


def converted(out: Path, *options: str) -> Path:
    result = CliRunner().invoke(mimo_convert, ["tiny", *options, "--out", str(out), "--no-check"])
    assert result.exit_code == 0, result.output
    return out


def quantized(source: Path, target: Path, *options: str) -> Path:
    result = CliRunner().invoke(mimo_quantize, [str(source), str(target), *options])
    assert result.exit_code == 0, result.output
    return target


def check_passes(lm: Path, tokenizer: Path) -> dict[str, Any]:
    """What mimo-check says of a pair, against the stored reference: every gate, and the transcript word for word."""
    report = lm.with_name("report.json")
    arguments = [str(lm), "--tokenizer", str(tokenizer), "--reference", "tiny", "--json", str(report)]
    result = CliRunner().invoke(mimo_check, [*arguments, "--max-new-tokens", "60"])
    assert result.exit_code == 0, result.output
    assert f"transcript  {JFK_TEXT}\n" in result.stdout
    [check] = json.loads(report.read_text())["checks"]
    assert check["transcript"] == JFK_TEXT
    assert check["stages"]
    assert all(gate["passed"] for gate in check["gates"])
    return check


@pytest.mark.parametrize("fuse", ["--fuse-qkv", "--no-fuse-qkv"])
@pytest.mark.parametrize("outtype", list(TYPES))
def test_every_type_and_layout_passes_its_gates(
    tiny: Path, stored: Activations, jfk: Clip, tmp_path: Path, outtype: str, fuse: str
) -> None:
    """And so do those that mimo-quantize makes of an F32 file: they are the same."""
    converted(tmp_path, "--outtype", outtype, "--tokenizer-outtype", outtype, fuse)
    lm, tokenizer = tmp_path / f"mimo-asr-{outtype}.gguf", tmp_path / f"mimo-tokenizer-{outtype}.gguf"
    checked = check_pair(lm, tokenizer, jfk, stored).check
    assert checked.passed, [gate for gate in checked.gates if not gate.passed]
    assert checked.transcript == JFK_TEXT

    layout = fuse.replace("--no-fuse", "--split")
    again = quantized(tiny / "mimo-asr-f32.gguf", tmp_path / "again.gguf", "--outtype", outtype, layout)
    assert again.read_bytes() == lm.read_bytes()


@pytest.mark.parametrize("fuse", ["--fuse-qkv", "--no-fuse-qkv"])
@pytest.mark.parametrize("outtype", ["f16", "q4_k"])
def test_a_file_for_recognition_alone_transcribes_word_for_word(tmp_path: Path, outtype: str, fuse: str) -> None:
    out = converted(tmp_path, "--asr-only", "--outtype", outtype, fuse)
    lm = out / f"mimo-asr-{outtype}.gguf"
    assert not any(map(is_speech_generation, ggml_tensors(lm)))
    [tokenizer] = out.glob("mimo-tokenizer-*.gguf")
    checked = check_passes(lm, tokenizer)
    assert checked["files"][0]["layout"] == ("fused" if fuse == "--fuse-qkv" else "separate")


@pytest.mark.parametrize("outtype", ["f16", "q5_k", "q4_0"])
@pytest.mark.parametrize("options", [["--split-qkv"], ["--fuse-qkv", "--asr-only"]], ids=" ".join)
def test_what_mimo_quantize_makes_of_an_8_bit_file_passes_its_gates(
    tiny: Path, tmp_path: Path, outtype: str, options: list[str]
) -> None:
    lm = quantized(tiny / "mimo-asr-q8_0.gguf", tmp_path / "lm.gguf", "--outtype", outtype, *options)
    checked = check_passes(lm, tiny / "mimo-tokenizer-f32.gguf")
    assert checked["files"][0]["type"] == outtype


def test_a_file_of_many_types_passes_the_gates_of_the_commonest(tiny: Path, tmp_path: Path) -> None:
    rules = ["--tensor-type", r"attn\.(q|k|qkv)\.=q6_k", "--tensor-type", "lm_head=f16", "--tensor-type", "embed=bf16"]
    out = converted(tmp_path, "--outtype", "q4_k", *rules, "--fuse-qkv")
    found = {tensor.type for tensor in ggml_tensors(out / "mimo-asr-q4_k-mix.gguf").values()}
    assert {"q6_k", "f16", "bf16", "q4_k"} <= found
    check_passes(out / "mimo-asr-q4_k-mix.gguf", tiny / "mimo-tokenizer-f32.gguf")


def test_bundled_weights_are_small_enough_to_be_committed() -> None:
    """All of them, of every bundled model; stored references hold stages, not weights."""
    families = TINY.parent.parent.parent
    sizes = [path.stat().st_size for path in families.rglob("*.safetensors") if path != TINY_REFERENCE]
    assert len(sizes) >= 4
    assert sum(sizes) <= 30_000_000
    assert max(sizes) <= 12_000_000


def test_a_lost_norm_is_caught_and_named(jfk: Clip, stored: Activations, tmp_path: Path) -> None:
    """A defect of one byte in each of 256 weights: the run names the layer where the file goes wrong."""
    from mimo_convert.formats.gguf import read_gguf

    CliRunner().invoke(mimo_convert, ["tiny", "--out", str(tmp_path), "--no-check"])
    lm, tokenizer = tmp_path / "mimo-asr-f16.gguf", tmp_path / "mimo-tokenizer-f16.gguf"
    norm = read_gguf(lm).tensors["model.layers.1.attn_norm.weight"]
    data = bytearray(lm.read_bytes())
    data[norm.begin : norm.begin + norm.nbytes] = bytes(norm.nbytes)
    lm.write_bytes(data)
    checked = check_pair(lm, tokenizer, jfk, stored).check
    failed = [gate.stage for gate in checked.gates if not gate.passed]
    assert failed[0] == "layer_01"
    assert not checked.passed
