"""What the commands say of files of the family: lint, rows, and a head that is no copy."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from gguf import GGUFValueType

import mimo_convert.write.rows
from mimo_commands.check import main as check_main
from mimo_commands.quantize import main as quantize_main
from tests.gguf_edit import Key, patch, rewrite
from tests.mimo_commands.invoked import invoke
from tests.mimo_families.qwen3_asr.conftest import Converter
from tests.qwen3_checkpoint import write_qwen3_asr
from tests.readers import gguf_metadata, gguf_tensors


def check(*arguments: Any) -> Result:
    return CliRunner().invoke(check_main, [*map(str, arguments)])


def test_a_file_is_linted_and_its_rows_are_the_checkpoints(published: Path, qwen3_file: Converter) -> None:
    for outtype in ("f16", "q4_k"):
        result = check(qwen3_file(outtype), "--checkpoint", published)
        assert result.exit_code == 0, result.stdout


def test_a_file_of_a_file_is_that_of_the_checkpoint(published: Path, qwen3_file: Converter, tmp_path: Path) -> None:
    made = tmp_path / "q4_k.gguf"
    assert CliRunner().invoke(quantize_main, [str(qwen3_file("f32")), str(made), "--outtype", "q4_k"]).exit_code == 0
    assert made.read_bytes() == qwen3_file("q4_k").read_bytes()
    less = tmp_path / "less.gguf"
    assert CliRunner().invoke(quantize_main, [str(made), str(less), "--no-output-copy"]).exit_code == 0
    assert gguf_tensors(made).keys() - gguf_tensors(less).keys() == {"output.weight"}
    assert check(less, "--checkpoint", published).exit_code == 0
    again = tmp_path / "again.gguf"
    assert CliRunner().invoke(quantize_main, [str(less), str(again)]).exit_code == 0
    assert gguf_tensors(again) == gguf_tensors(less), "a file without the copy stays so"


@pytest.mark.parametrize("tensor", ["output.weight", "token_embd.weight"])
def test_a_wrong_row_of_head_or_embedding_is_found(
    published: Path, qwen3_file: Converter, tmp_path: Path, tensor: str
) -> None:
    file = rewrite(qwen3_file("q4_k"), tmp_path / "x.gguf")
    data = gguf_tensors(file)[tensor].data
    patch(file, tensor, 0, np.frombuffer(data[144:288], np.uint8))  # the block behind the first
    assert check(file, "--checkpoint", published, "--json", tmp_path / "report.json").exit_code == 1
    [compared] = json.loads((tmp_path / "report.json").read_text())["tensors"]
    assert [one["name"] for one in compared["tensors"] if one["findings"]] == [tensor]


@pytest.mark.parametrize(
    ("key", "token"),
    [
        ("qwen3asr.audio_pad_token_id", "<|audio_pad|>"), ("qwen3asr.audio_start_token_id", "<|audio_start|>"),
        ("qwen3asr.audio_end_token_id", "<|audio_end|>"), ("qwen3asr.eos_token_id", "<|im_end|>"),
        ("qwen3asr.pad_token_id", "<|endoftext|>"),
    ],
)  # fmt: skip
def test_an_id_of_another_token_is_found_without_a_run(
    qwen3_file: Converter, tmp_path: Path, key: str, token: str
) -> None:
    def edited(found: Key) -> Key:
        return found._replace(value=found.value - 1) if found.name == key else found

    file = rewrite(qwen3_file("q4_k"), tmp_path / "x.gguf", keys=edited)
    right = gguf_metadata(qwen3_file("q4_k"))[key]
    result = check(file, "--static")
    assert result.exit_code == 1
    assert f"key {key} is {right - 1}; expected {right}, {token}" in result.stdout


def test_full_attention_is_a_value_and_windows_may_be_left_to_the_default(
    qwen3_file: Converter, tmp_path: Path
) -> None:
    key = "qwen3asr.audio.attn_window_mode"

    def full(found: Key) -> Key:
        return Key(key, 0, GGUFValueType.UINT32) if found.name == key else found

    def older(found: Key) -> Key | None:
        return None if found.name.startswith(("qwen3asr.audio.n_window", key)) else found

    for edited in (full, older):
        assert check(rewrite(qwen3_file("q4_k"), tmp_path / "x.gguf", keys=edited), "--static").exit_code == 0


def test_the_embedding_is_converted_once_for_both_places(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = 0
    convert = mimo_convert.write.rows.convert

    def counted(found: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal rows
        rows += len(found) if found.shape[1] == 512 else 0  # of 256 weights in bfloat16
        return convert(found, *arguments, **options)

    counts = []
    monkeypatch.setattr(mimo_convert.write.rows, "convert", counted)
    for options in ([], ["--no-output-copy"]):
        rows = 0
        out = tmp_path / str(len(options))
        assert invoke(published, "--outtype", "q4_k", *options, "--out", out).exit_code == 0
        counts.append(rows)
        [recorded] = gguf_metadata(out / "qwen3-asr-q4_k.gguf")["mimo_convert.shards"].splitlines()
        assert recorded.split()[0] == hashlib.sha256((published / "model.safetensors").read_bytes()).hexdigest()
    assert counts[0] == counts[1] > 512


def test_a_head_that_is_another_is_told_and_not_used(published: Path, tmp_path: Path) -> None:
    other = write_qwen3_asr(tmp_path / "other", other_head=True)
    result = invoke(other, "--outtype", "q8_0", "--out", tmp_path / "out")
    assert result.exit_code == 0
    shard = other / "model.safetensors"
    told = "thinker.lm_head.weight is not the same as thinker.model.embed_tokens.weight, and not used"
    assert f"warning: {shard}: tensor {told}" in result.stderr
    assert "skipped 1 tensor: tied: the output head is embed_tokens" in result.stdout
    same = invoke(published, "--outtype", "q8_0", "--out", tmp_path / "same")
    assert "warning" not in same.stderr
    ours, theirs = (gguf_tensors(tmp_path / name / "qwen3-asr-q8_0.gguf") for name in ("out", "same"))
    assert ours == theirs, "the head is the embedding, whatever is stored"
