"""mimo-convert from a checkpoint to files: names, types, options, the dry run."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from mimo_commands.convert import main
from quantize.types import TYPES
from tests.damage import edit_tensor, set_weight
from tests.readers import ggml_tensors, gguf_metadata

from ..invoked import check_one_line, invoke, names

INDEX, SHARD_1, SHARD_2 = (
    "model.safetensors.index.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
)  # fmt: skip
UP, EMBED = "model.layers.1.mlp.up_proj.weight", "model.embed_tokens.weight"


def test_a_pair_of_checkpoints_becomes_a_pair_of_files(lm: Path, tokenizer: Path, tmp_path: Path) -> None:
    result = invoke(lm, "--tokenizer", tokenizer, "--outtype", "q4_k", "--fuse-qkv", "--out", tmp_path / "out")
    assert (result.exit_code, result.stderr) == (0, "")
    assert names(tmp_path / "out") == ["mimo-asr-q4_k.gguf", "mimo-tokenizer-q8_0.gguf"]
    lines = result.stdout.splitlines()
    for line, name in zip(lines, ["mimo-asr-q4_k.gguf", "mimo-tokenizer-q8_0.gguf"], strict=True):
        file = tmp_path / "out" / name
        assert line.startswith(f"{file}: {len(ggml_tensors(file))} tensors (")
        assert f"; {file.stat().st_size:,} bytes;" in line
    assert "rows of 48 are not a multiple of 256: f16" in lines[0]
    assert "skipped 1 tensor: speech synthesis" in lines[1]
    assert "skipped 6 tensors: training buffers" in lines[1]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], ["mimo-asr-f16.gguf", "mimo-tokenizer-f16.gguf"]),
        (["--outtype", "Q4_K"], ["mimo-asr-q4_k.gguf", "mimo-tokenizer-q8_0.gguf"]),
        (["--outtype", "IQ4_NL", "--tokenizer-outtype", "F32"], ["mimo-asr-iq4_nl.gguf", "mimo-tokenizer-f32.gguf"]),
        (
            ["--outtype", "bf16", "--outtype", "q8_0", "--outtype", "BF16"],
            ["mimo-asr-bf16.gguf", "mimo-asr-q8_0.gguf", "mimo-tokenizer-bf16.gguf", "mimo-tokenizer-q8_0.gguf"],
        ),
        (
            ["--outtype", "q4_k", "--outtype", "q6_k", "--outtype", "f16"],
            [
                *("mimo-asr-f16.gguf", "mimo-asr-q4_k.gguf", "mimo-asr-q6_k.gguf"),
                *("mimo-tokenizer-f16.gguf", "mimo-tokenizer-q8_0.gguf"),
            ],
        ),
    ],
)
def test_types_name_the_files_in_the_default_folder(
    lm: Path, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], expected: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert invoke(lm, "--tokenizer", tokenizer, *options).exit_code == 0
    assert names(tmp_path / "lm-GGUF") == expected


@pytest.mark.parametrize("fuse", ["--fuse-qkv", "--no-fuse-qkv", None])
def test_qkv_is_separate_unless_asked_for(lm: Path, tokenizer: Path, tmp_path: Path, fuse: str | None) -> None:
    invoke(lm, "--tokenizer", tokenizer, "--out", tmp_path / "out", *([fuse] if fuse else []))
    found = ggml_tensors(tmp_path / "out" / "mimo-asr-f16.gguf")
    assert ("model.layers.0.attn.qkv.weight" in found) == (fuse == "--fuse-qkv")
    assert ("model.layers.0.attn.q.weight" in found) == (fuse != "--fuse-qkv")


QUANTIZER = "mimo_convert.quantizer"


def test_either_quantizer_writes_the_same_weights_and_the_file_says_which(
    lm: Path, tokenizer: Path, tmp_path: Path
) -> None:
    made = {}
    for quantizer in ("ggml", "simd"):
        options = ["--outtype", "q5_k", "--outtype", "q2_k", "--tokenizer-outtype", "q8_0", "--quantizer", quantizer]
        result = invoke(lm, "--tokenizer", tokenizer, "--out", tmp_path / quantizer, *options)
        assert (result.exit_code, result.stderr) == (0, "")
        for line in result.stdout.splitlines():
            assert f"; quantized by {quantizer};" in line
        for name in names(tmp_path / quantizer):
            file = tmp_path / quantizer / name
            assert gguf_metadata(file)[QUANTIZER] == quantizer
            made[quantizer, name] = {tensor: found.data for tensor, found in ggml_tensors(file).items()}
    for (quantizer, name), tensors in made.items():
        for tensor, data in tensors.items():  # ggml built with contraction may round a level otherwise
            theirs = made["ggml", name][tensor]
            same = sum(a == b for a, b in zip(data, theirs, strict=True))
            assert same >= 0.99 * len(theirs), f"{quantizer} {name} {tensor}"


def test_what_is_not_quantized_has_no_quantizer(lm: Path, tokenizer: Path, tmp_path: Path) -> None:
    result = invoke(lm, "--tokenizer", tokenizer, "--out", tmp_path / "out", "--outtype", "f16", "--quantizer", "simd")
    assert result.exit_code == 0
    assert "quantized by" not in result.stdout
    for file in (tmp_path / "out").iterdir():
        assert QUANTIZER not in gguf_metadata(file)


def test_a_dry_run_tells_the_quantizer(lm: Path, tokenizer: Path, tmp_path: Path) -> None:
    arguments = [lm, "--tokenizer", tokenizer, "--outtype", "q4_k", "--out", tmp_path / "out", "--dry-run"]
    plans = {name: invoke(*arguments, "--quantizer", name).stdout for name in ("ggml", "simd")}
    for name, plan in plans.items():
        assert plan.count(f"quantized by {name}") == 2


def test_an_audio_tokenizer_as_model_is_converted_alone(tokenizer: Path, tmp_path: Path) -> None:
    assert invoke(tokenizer, "--outtype", "f32", "--outtype", "q8_0", "--out", tmp_path / "out").exit_code == 0
    assert names(tmp_path / "out") == ["mimo-tokenizer-f32.gguf", "mimo-tokenizer-q8_0.gguf"]


def test_a_folder_whose_name_is_not_utf_8_is_converted(small_tokenizer: Path, tmp_path: Path) -> None:
    odd = Path(os.fsdecode(bytes(tmp_path) + b"/odd\xff"))
    shutil.copytree(small_tokenizer, odd)
    assert invoke(odd, "--out", tmp_path / "out").exit_code == 0
    assert gguf_metadata(tmp_path / "out" / "mimo-tokenizer-f16.gguf")["general.name"] == "odd?"


def test_a_dry_run_writes_nothing_and_tells_what_a_run_will_write(lm: Path, tokenizer: Path, tmp_path: Path) -> None:
    arguments = [lm, "--tokenizer", tokenizer, "--outtype", "q4_k", "--outtype", "f32", "--out", tmp_path / "out"]
    plan = invoke(*arguments, "--dry-run", "-v")
    assert plan.exit_code == 0
    assert not (tmp_path / "out").exists()

    assert invoke(*arguments).exit_code == 0
    head, *parts = plan.stdout.split("\n\n")
    described = dict(line.split(": ", 1) for line in head.splitlines()[1:])
    blocks = dict(block.split("\n", 1) for block in parts)
    assert sorted(blocks) == names(tmp_path / "out")
    for name, block in blocks.items():
        file = tmp_path / "out" / name
        rows, totals = block.splitlines(), described[name]
        listed = {line.split()[0]: (line.split()[1], line.split()[2], line.split()[3]) for line in rows}
        stored = ggml_tensors(file)
        assert listed == {n: (t.type, "×".join(map(str, t.shape)), f"{len(t.data):,}") for n, t in stored.items()}
        assert f"; {file.stat().st_size:,} bytes; " in totals
        weights = sum(torch.Size(t.shape).numel() for t in stored.values())
        bits = sum(len(t.data) for t in stored.values()) * 8 / weights
        assert f"{weights:,} weights" in totals
        assert f"{bits:.2f} bits per weight" in totals
    total = sum(path.stat().st_size for path in (tmp_path / "out").iterdir())
    assert plan.stdout.startswith(f"{total:,} bytes to write to {tmp_path / 'out'}; ")


def test_a_weight_beyond_f16_is_told_by_the_dry_run_and_after(lm: Path, tokenizer: Path, tmp_path: Path) -> None:
    edit_tensor(lm, UP, lambda tensor: tensor.float())
    set_weight(lm, UP, 3, 1e6)
    arguments = [lm, "--tokenizer", tokenizer, "--outtype", "f16", "--outtype", "bf16", "--out", tmp_path / "out"]
    note = "holds weights that would become infinite: promoted to f32"
    plan, run = invoke(*arguments, "--dry-run").stdout, invoke(*arguments).stdout
    (line,) = [line for line in plan.splitlines() if line.endswith(note) and ";" not in line]
    assert line.split()[:2] == ["model.layers.1.ffn.up.weight", "f32"]
    told = {name: f"1 × {note}" in line for line in run.splitlines() for name in [Path(line.split(":")[0]).name]}
    assert told == {
        name: name == "mimo-asr-f16.gguf"
        for name in ("mimo-asr-f16.gguf", "mimo-asr-bf16.gguf", "mimo-tokenizer-f16.gguf", "mimo-tokenizer-bf16.gguf")
    }
    sizes = re.findall(r"([\d,]+) bytes;", run)
    assert re.findall(r"([\d,]+) bytes;", plan.rpartition("\n\n")[0]) == sizes


def test_a_file_that_is_there_is_kept_without_force(lm: Path, tokenizer: Path, tmp_path: Path) -> None:
    there = tmp_path / "out" / "mimo-tokenizer-f16.gguf"
    there.parent.mkdir()
    there.write_bytes(b"precious")
    arguments = [lm, "--tokenizer", tokenizer, "--out", tmp_path / "out"]
    result = invoke(*arguments)
    check_one_line(
        result, there, "already exists, and was not made by this command: not a GGUF file; --force replaces it"
    )
    assert names(tmp_path / "out") == [there.name], "the speech LM is not begun in vain"
    assert there.read_bytes() == b"precious"
    assert invoke(*arguments, "--force").exit_code == 0
    assert gguf_metadata(there)["general.architecture"] == "mimo_tokenizer"


def test_a_hub_checkpoint_is_converted_under_its_own_name(lm: Path, tokenizer: Path, tmp_path: Path) -> None:
    """From the Hub's local cache, in its own layout, without a network."""
    commits = {"Some/Speech-LM": "1" * 40, "Some/Audio-Tokenizer": "2" * 40}
    for (repo, commit), folder in zip(commits.items(), (lm, tokenizer), strict=True):
        cached = tmp_path / "hub" / f"models--{repo.replace('/', '--')}"
        shutil.copytree(folder, cached / "snapshots" / commit)
        (cached / "refs").mkdir()
        (cached / "refs" / "main").write_text(commit)
    offline = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("mimo-convert")), *arguments, "--no-check"]
        return subprocess.run(command, env=offline, cwd=tmp_path, capture_output=True, text=True, check=False)

    result = run("Some/Speech-LM", "--tokenizer", "Some/Audio-Tokenizer")
    assert (result.returncode, result.stderr) == (0, ""), "no progress bar where there is no terminal"
    assert names(tmp_path / "Speech-LM-GGUF") == ["mimo-asr-f16.gguf", "mimo-tokenizer-f16.gguf"]
    about = gguf_metadata(tmp_path / "Speech-LM-GGUF" / "mimo-asr-f16.gguf")
    assert about["general.name"] == about["general.base_model.0.name"] == "Speech-LM"
    assert about["general.base_model.0.organization"] == "Some"
    assert about["general.base_model.0.repo_url"] == "https://huggingface.co/Some/Speech-LM"
    assert about["general.base_model.0.version"] == "1" * 40

    absent = run("Some/Absent", "--tokenizer", str(tokenizer))
    assert absent.returncode == 2
    state = f"and the cache {tmp_path / 'hub'} holds nothing of it"
    off = "there is no such folder, and as a Hub id: the network is switched off by HF_HUB_OFFLINE"
    assert absent.stderr == f"error: Some/Absent: {off}, {state}; unset HF_HUB_OFFLINE\n"
    other = run("Some/Speech-LM@v9", "--tokenizer", str(tokenizer))
    state = state.replace("nothing", "1 other revision")
    assert other.stderr == f"error: Some/Speech-LM@v9: {off}, {state}; unset HF_HUB_OFFLINE\n"


def test_help_tells_every_type_and_exit_status() -> None:
    text = " ".join(CliRunner().invoke(main, ["--help"]).stdout.split())
    assert " ".join(TYPES) in text
    assert "0 converted, and every gate reached; 1 a gate failed; 2 bad input or usage" in text
