"""mimo-check and the checking half of mimo-convert, as a user runs them."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from mimo_commands.check import main as mimo_check
from mimo_commands.convert import main as mimo_convert
from mimo_convert.formats.gguf import read_gguf
from mimo_convert.model.checkpoint import Checkpoint
from mimo_families.mimo_audio.stages import STAGES
from runtime_check.audio.jfk import JFK, JFK_TEXT
from runtime_check.run.compare.thresholds import THRESHOLDS, code_threshold
from runtime_check.run.stages import stage_named
from tests.gguf_edit import patch
from tests.opened import TINY_ASR, TINY_REFERENCE, TINY_TOKENIZER
from tests.runtime_check.conftest import Converter

STAGE_SHAPES = {
    "tok_mel": (1101, 128), "tok_conv1": (1101, 256), "tok_conv2": (551, 256), "tok_xfmr": (551, 256),
    "tok_pool": (276, 256), "tok_codes": (276, 8),
}  # fmt: skip


def run(command: Any, *arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a converted, checked tiny pair, with its report."""
    out = tmp_path_factory.mktemp("tiny")
    arguments = ["tiny", "--outtype", "q4_k", "--outtype", "f16", "--fuse-qkv", "--out", out, "--json", out / "r.json"]
    result = run(mimo_convert, *arguments)
    assert result.exit_code == 0, result.output
    (out / "stdout.txt").write_text(result.stdout)
    return out


def test_one_command_converts_and_proves(tiny: Path) -> None:
    files = [f"mimo-{name}.gguf" for name in ("asr-f16", "asr-q4_k", "tokenizer-f16", "tokenizer-q8_0")]
    assert sorted(path.name for path in tiny.iterdir()) == [*files, "r.json", "stdout.txt"]
    text = (tiny / "stdout.txt").read_text()
    for stage in (*STAGE_SHAPES, "prefill_text_logits_step0", "layer_00", "prompt_ids", "top-1 token"):
        assert stage in text
    assert text.count(f"transcript  {JFK_TEXT}") == 2
    assert text.count("\nPASS\n") == 2
    assert "skipped" in text


@pytest.mark.parametrize("quantizer", ["ggml", "simd"])
@pytest.mark.parametrize("outtype", ["q8_0", "q6_k", "q5_k", "q4_k"])
def test_the_gates_are_reached_with_either_quantizer_and_the_report_says_which_ran(
    tmp_path: Path, outtype: str, quantizer: str
) -> None:
    options = ["--outtype", outtype, "--quantizer", quantizer, "--out", tmp_path / "out", "--json", tmp_path / "r.json"]
    result = run(mimo_convert, "tiny", *options)
    assert result.exit_code == 0, result.output
    files = re.findall(r"^mimo-\S+\.gguf  .*bits per weight, quantized by (\w+), sha256", result.stdout, re.MULTILINE)
    assert files == [quantizer] * 2
    report = json.loads((tmp_path / "r.json").read_text())
    [check] = report["checks"]
    found = [*report["conversions"], *check["files"]]
    assert [file["role"] for file in check["files"]] == ["speech_lm", "audio_tokenizer"]
    assert {entry["quantizer"] for entry in found} == {quantizer}


def test_of_a_file_without_blocks_no_quantizer_is_reported(tiny: Path) -> None:
    report = json.loads((tiny / "r.json").read_text())
    lm = report["checks"][1]["files"][0]
    assert (lm["type"], lm["quantizer"]) == ("f16", "")


def test_the_report_is_the_documented_schema(tiny: Path) -> None:
    report = json.loads((tiny / "r.json").read_text())
    assert (report["schema"], report["command"], report["passed"]) == ("mimo-check report 2", "mimo-convert", True)
    assert [c["file"] for c in report["conversions"]] == [
        "mimo-asr-q4_k.gguf", "mimo-asr-f16.gguf", "mimo-tokenizer-q8_0.gguf", "mimo-tokenizer-f16.gguf",
    ]  # fmt: skip
    for check, outtype, beside in zip(report["checks"], ("q4_k", "f16"), ("q8_0", "f16"), strict=True):
        lm, tokenizer = check["files"]
        assert tokenizer["file"] == str(tiny / f"mimo-tokenizer-{beside}.gguf"), "each with the one that belongs to it"
        path = tiny / f"mimo-asr-{outtype}.gguf"
        assert (lm["file"], lm["type"], lm["layout"], lm["bytes"]) == (str(path), outtype, "fused", path.stat().st_size)
        digest = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout.split()[0]
        assert lm["sha256"] == digest
        assert check["transcript"] == check["clip"]["text"] == JFK_TEXT
        task = {"name": "transcribe", "language": "english", "context": "", "attention": "auto", "runtime": ""}
        assert (check["task"], check["language"]) == (task, "")
        errors = dict.fromkeys(("substitutions", "deletions", "insertions", "errors", "rate"), 0)
        assert check["words"] == errors | {"words": 22}
        assert {"load_s", "tokenize_s", "prefill_s", "ms_per_token", "proof_s"} <= set(check["timings"])
        gates = {(gate["stage"], gate["metric"]): gate for gate in check["gates"]}
        assert all(gate["passed"] for gate in gates.values())
        assert gates["prompt_ids", "equal"]["value"] == 1
        assert gates["prefill_text_logits_step0", "top1"]["value"] == 1
        assert gates["tok_codes", "agreement"]["bound"] == code_threshold(beside, "f32")
        for stage in check["stages"]:
            row = stage_named(STAGES, stage["name"])
            assert row
            assert (stage["role"], stage["kind"]) == (row.role, row.kind)
            if stage["cos_mean"] is not None:
                threshold = THRESHOLDS[beside if stage["name"].startswith("tok_") else outtype].columns[row.threshold]
                bounds = (gates[stage["name"], metric]["bound"] for metric in ("cos_mean", "cos_min"))
                assert tuple(bounds) == threshold[:2]
                assert 0 <= stage["cos_min"] <= stage["cos_mean"] + 1e-9
    documented = (Path(__file__).parents[2] / "docs" / "json.md").read_text()
    for key in every_key(report) - set(report["versions"]):
        assert f"`{key}`" in documented, f"docs/json.md lacks {key}"


def every_key(value: Any) -> set[str]:
    """Keys of the schema at any depth; those that are names of tensors, types or shards are not the schema's."""
    if isinstance(value, list):
        return set().union(*map(every_key, value)) if value else set()
    if not isinstance(value, dict):
        return set()
    named = ("tensor_types", "mixed", "fallbacks", "skipped", "shards")
    return set(value) | set().union(*(every_key(v) for k, v in value.items() if k not in named), set())


def test_a_file_is_checked_without_its_checkpoint(tiny: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    result = run(mimo_check, tiny / "mimo-asr-q4_k.gguf", "--reference", "tiny", "--json", report)
    assert result.exit_code == 0, result.output
    assert "\nPASS\n" in result.stdout
    assert json.loads(report.read_text())["command"] == "mimo-check"


def test_a_folder_whose_name_is_not_utf_8_is_in_the_report(tiny: Path, tmp_path: Path) -> None:
    folder, report = tmp_path / os.fsdecode(b"\xff"), tmp_path / "report.json"
    folder.symlink_to(tiny)
    assert run(mimo_check, folder / "mimo-asr-q4_k.gguf", "--static", "--json", report).exit_code == 0
    assert json.loads(report.read_text())["lint"][0]["file"] == str(folder / "mimo-asr-q4_k.gguf")


def test_without_a_reference_nothing_is_claimed(tiny: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    result = run(mimo_check, tiny / "mimo-asr-q4_k.gguf", "--json", report)
    assert result.exit_code == 0
    assert f"transcript  {JFK_TEXT}" in result.stdout
    assert "NOT COMPARED" in result.stdout
    assert "PASS" not in result.stdout
    assert json.loads(report.read_text())["passed"] is None


def test_an_audio_tokenizer_is_checked_alone(tiny: Path) -> None:
    result = run(mimo_check, tiny / "mimo-tokenizer-q8_0.gguf", "--reference", "tiny")
    assert result.exit_code == 0, result.output
    assert "tok_codes" in result.stdout
    assert "prefill" not in result.stdout.split("PASS")[0].split("tokenize ")[0]
    assert "transcript" not in result.stdout


def test_dump_writes_every_stage_in_its_documented_shape(tiny: Path, tmp_path: Path) -> None:
    result = run(mimo_check, tiny / "mimo-asr-f16.gguf", "--dump", tmp_path / "stages")
    assert result.exit_code == 0, result.output
    stages = {path.stem: np.load(path) for path in (tmp_path / "stages").glob("*.npy")}
    n_groups = stages["prompt_ids"].shape[1] // 4
    shapes = STAGE_SHAPES | {
        "prompt_ids": (9, 4 * n_groups), "prefill_audio_features": (n_groups, 256),
        "prefill_text_embeds": (n_groups, 256), "prefill_inputs_embeds": (n_groups, 256),
        "layer_00": (n_groups, 256), "layer_01": (n_groups, 256), "prefill_last_hidden": (256,),
        "prefill_text_logits_step0": (1024,), "greedy_ids": stages["greedy_ids"].shape, "answer_ids": (27,),
        "answer_logits": (27, 1024),
    }  # fmt: skip
    assert {name: array.shape for name, array in stages.items()} == shapes
    integers = {name for name, array in stages.items() if array.dtype == np.int32}
    assert integers == {"tok_codes", "prompt_ids", "greedy_ids", "answer_ids"}
    assert all(array.dtype == np.float32 for name, array in stages.items() if name not in integers)


def test_a_file_of_garbage_in_one_tensor_is_described_without_warnings(tiny: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copy(tiny / "mimo-asr-q4_k.gguf", tmp_path))
    patch(broken, "model.layers.1.ffn.down.weight", 0, np.random.default_rng(0).integers(0, 255, 4000).astype(np.uint8))
    for options in (["--checkpoint", "tiny"], ["--reference", "tiny"], ["--against", tiny / "mimo-asr-q4_k.gguf"]):
        result = run(mimo_check, broken, "--tokenizer", tiny / "mimo-tokenizer-q8_0.gguf", *options)
        assert (result.exit_code, result.stderr) == (1, "")
        assert "layers.1.ffn.down.weight" in result.stdout or "layer_01: holds NaN or infinity" in result.stdout


def test_a_failed_gate_exits_1_and_says_which_and_how_far(tiny: Path, tmp_path: Path) -> None:
    """A Q2_K file, of the loosest gates, whose embedding has its rows in reverse."""
    run(mimo_convert, "tiny", "--outtype", "q2_k", "--tokenizer-outtype", "f16", "--no-check", "--out", tmp_path)
    other = tmp_path / "reference.safetensors"
    assert run(mimo_check, "reference", "tiny", "-o", other).exit_code == 0
    lm = tmp_path / "mimo-asr-q2_k.gguf"
    data = lm.read_bytes()
    embed = read_gguf(lm).tensors["llm.embed.weight"]
    row = embed.nbytes // embed.shape[0]
    rows = np.frombuffer(data[embed.begin : embed.begin + embed.nbytes], np.uint8).reshape(-1, row)
    lm.write_bytes(data[: embed.begin] + rows[::-1].tobytes() + data[embed.begin + embed.nbytes :])
    result = run(mimo_check, lm, "--tokenizer", tmp_path / "mimo-tokenizer-f16.gguf", "--reference", other)
    assert result.exit_code == 1

    assert re.search(r"prefill_text_embeds: cos_mean -?0\.\d+, expected at least 0\.\d+", result.stdout)


def test_other_sounds_are_transcribed_and_judged_by_the_text_given(tiny: Path, tmp_path: Path) -> None:
    wave, rate = soundfile.read(JFK)
    soundfile.write(tmp_path / "jfk.flac", wave, rate)
    result = run(
        mimo_check, tiny / "mimo-asr-q4_k.gguf", "--audio", tmp_path / "jfk.flac", "--language", "english",
        "--text", "And so my fellow Americans", "--max-new-tokens", 3,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "word error rate" in result.stdout


def test_a_checkpoint_can_be_the_reference(
    converted: Converter, lm_checkpoint: Checkpoint, tokenizer_checkpoint: Checkpoint
) -> None:
    result = run(
        mimo_check, converted("f16")[0], "--reference", lm_checkpoint.folder,
        "--reference-tokenizer", tokenizer_checkpoint.folder, "--max-new-tokens", 2,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "\nPASS\n" in result.stdout


BAD: list[tuple[list[object], str]] = [
    (["{tiny}/none.gguf"], "none.gguf: no such file"),
    ([JFK], "jfk.wav: not a GGUF file"),
    (["{tiny}/mimo-asr-q4_k.gguf", "--tokenizer", "{tiny}/mimo-asr-f16.gguf"],
     "mimo-asr-f16.gguf: key general.architecture is 'mimo_asr'; expected 'mimo_tokenizer'"),
    (["{tiny}/cut.gguf"], "cut.gguf: truncated"),
    (["{tiny}/mimo-asr-f16.gguf", "--audio", "{tiny}/empty.wav"], "empty.wav: cannot be decoded as audio"),
    (["{tiny}/mimo-asr-f16.gguf", "--audio", "{tiny}/none.wav"], "none.wav: no such file"),
    (["{tiny}/mimo-asr-f16.gguf", "--reference", "{tiny}/r.json"], "r.json: truncated: "),
    (["{tiny}/mimo-asr-f16.gguf", "--reference", "tiny", "--language", "chinese"],
     "--language: chinese, the reference was made with english"),
    (["{tiny}/mimo-asr-f16.gguf", "--json", "{tiny}/stdout.txt/r.json"], "r.json: cannot be written"),
    (["{tiny}/mimo-asr-f16.gguf", "--dump", "{tiny}/stdout.txt"], "stdout.txt: cannot be written"),
    (["{tiny}/mimo-asr-f16.gguf", "--audio", "x" * 300], "xxx: File name too long"),
    (["{tiny}/mimo-asr-f16.gguf", "--reference", "x" * 300], "xxx: was taken for a path, and File name too long"),
    (["{tiny}/alone/mimo-asr-f16.gguf"], "audio tokenizer files beside it: none; expected one; name it: --tokenizer"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_input_is_one_line_and_exit_2(tiny: Path, arguments: list[object], message: str) -> None:
    data = (tiny / "mimo-asr-q4_k.gguf").read_bytes()
    (tiny / "cut.gguf").write_bytes(data[: len(data) // 2])
    (tiny / "empty.wav").write_bytes(b"")
    (tiny / "alone").mkdir(exist_ok=True)
    (tiny / "alone" / "mimo-asr-f16.gguf").write_bytes((tiny / "mimo-asr-f16.gguf").read_bytes())
    result = run(mimo_check, *(str(argument).replace("{tiny}", str(tiny)) for argument in arguments))
    for name in ("cut.gguf", "empty.wav"):
        (tiny / name).unlink()
    assert result.exit_code == 2, result.output
    [line] = result.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert message in line


def test_the_reference_of_another_sound_is_refused(tiny: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(24_000), 24_000)
    result = run(
        mimo_check, tiny / "mimo-asr-f16.gguf", "--audio", tmp_path / "silence.wav",
        "--reference", TINY_REFERENCE,
    )  # fmt: skip
    assert result.exit_code == 2
    assert "silence.wav: is not the clip that the reference was made from" in result.stderr


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path, tiny: Path, converted: Converter) -> None:
    from tests.synthetic import write_audio_tokenizer

    small = write_audio_tokenizer(tmp_path / "small", codebook_size=[2048] * 8, num_quantizers=8)
    assert run(mimo_convert, small, "--no-check", "--out", tmp_path).exit_code == 0
    result = run(mimo_check, tiny / "mimo-asr-f16.gguf", "--tokenizer", tmp_path / "mimo-tokenizer-f16.gguf")
    assert result.exit_code == 2
    assert "codebooks of (2048," in result.stderr


def test_without_torch_a_checkpoint_is_no_reference_but_the_stored_one_is(tmp_path: Path, tiny: Path) -> None:
    """The demo must run where torch is not installed: a real process, from which torch is hidden."""
    hide = tmp_path / "hide"
    hide.mkdir()
    (hide / "sitecustomize.py").write_text("import sys\nsys.modules['torch'] = None\n")
    environment = os.environ | {"PYTHONPATH": str(hide)}

    def program(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        command = [Path(sys.executable).with_name(name), *map(str, arguments)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    def check(reference: object) -> subprocess.CompletedProcess[str]:
        return program("mimo-check", tiny / "mimo-asr-f16.gguf", "--reference", reference)

    stored = check("tiny")
    assert stored.returncode == 0, stored.stderr
    assert "PASS" in stored.stdout
    from_checkpoint = check(TINY_ASR)
    assert from_checkpoint.returncode == 2
    assert (
        "PyTorch, which is not installed; pip install '/path/to/mimo-convert[reference]' (a" in from_checkpoint.stderr
    )
    assert "--no-check" not in from_checkpoint.stderr
    converted = program("mimo-convert", TINY_ASR, "--tokenizer", TINY_TOKENIZER, "--out", tmp_path / "out")
    assert converted.returncode == 2
    assert "PyTorch, which is not installed; pip install" in converted.stderr
    assert "where PyTorch is, or convert without a check: --no-check" in converted.stderr


def test_torch_that_cannot_be_imported_is_told_before_the_work(tmp_path: Path, tiny: Path) -> None:
    """A real process that finds a broken one before the installed one."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(
        "raise OSError('libtorch_cpu.so: cannot open shared object file')\n"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    arguments = ["tiny", "--out", tmp_path / "out", "--reference", TINY_ASR]
    command = [Path(sys.executable).with_name("mimo-convert"), *arguments]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (2, "")
    [line] = found.stderr.splitlines()
    assert "cannot be imported (OSError: libtorch_cpu.so: cannot open shared object file); install it again" in line
    assert not (tmp_path / "out").exists()
