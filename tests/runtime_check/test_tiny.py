"""The bundled checkpoint: what `make demo` and every user of `tiny` relies on."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from mimo_convert.cli import main as mimo_convert
from quantize.types import TYPES
from runtime_check import bundled, reference
from runtime_check.activations import Activations
from runtime_check.check import check
from runtime_check.compare import compare
from runtime_check.transcribe import Clip


@pytest.fixture(scope="session")
def stored() -> Activations:
    return Activations.load(bundled.TINY_REFERENCE)


def test_the_stored_reference_is_what_pytorch_computes_now(stored: Activations, jfk: Clip) -> None:
    now = reference.run(bundled.open_model("tiny"), bundled.open_tokenizer("tiny", ""), jfk, max_new_tokens=256)
    result = compare(now.stages, stored.stages, "f32", "f32")
    assert result.passed, result.reasons
    assert min(stage.cos_min for stage in result.stages) > 0.999999
    assert now.stages["greedy_ids"].tolist() == stored.stages["greedy_ids"].tolist()
    assert now.transcript == stored.transcript == bundled.JFK_TEXT


@pytest.mark.parametrize("fuse", ["--fuse-qkv", "--no-fuse-qkv"])
@pytest.mark.parametrize("outtype", list(TYPES))
def test_every_type_and_layout_passes_its_gates(
    stored: Activations, jfk: Clip, tmp_path: Path, outtype: str, fuse: str
) -> None:
    arguments = ["tiny", "--outtype", outtype, fuse, "--out", str(tmp_path), "--no-check"]
    result = CliRunner().invoke(mimo_convert, arguments)
    assert result.exit_code == 0, result.output
    lm, tokenizer = tmp_path / f"mimo-asr-{outtype}.gguf", tmp_path / f"mimo-tokenizer-{outtype}.gguf"
    checked = check(lm, tokenizer, jfk, stored, language="english", max_new_tokens=60, threads=2)
    assert checked.comparison is not None
    assert checked.passed, checked.comparison.reasons
    assert checked.run.transcript == bundled.JFK_TEXT


def test_the_checkpoint_is_small_enough_to_be_committed() -> None:
    files = [*bundled.TINY_ASR.iterdir(), *bundled.TINY_TOKENIZER.iterdir()]
    assert sum(path.stat().st_size for path in files if path.suffix == ".safetensors") <= 12_000_000


def test_a_lost_norm_is_caught_and_named(jfk: Clip, stored: Activations, tmp_path: Path) -> None:
    """A defect of one byte in each of 256 weights: the run names the layer where the file goes wrong."""
    from mimo_convert.gguf_file import read_gguf

    CliRunner().invoke(mimo_convert, ["tiny", "--out", str(tmp_path), "--no-check"])
    lm, tokenizer = tmp_path / "mimo-asr-f16.gguf", tmp_path / "mimo-tokenizer-f16.gguf"
    norm = read_gguf(lm).tensors["model.layers.1.attn_norm.weight"]
    data = bytearray(lm.read_bytes())
    data[norm.begin : norm.begin + norm.nbytes] = bytes(norm.nbytes)
    lm.write_bytes(data)
    checked = check(lm, tokenizer, jfk, stored, language="english", max_new_tokens=4, threads=2)
    assert checked.comparison is not None
    failed = [stage.name for stage in checked.comparison.stages if stage.problem]
    assert failed[0] == "layer_01"
    assert not checked.passed
