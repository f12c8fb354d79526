"""A reference that cannot be trusted is refused in one line, and never makes a file pass."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file

from mimo_commands.check import main as mimo_check
from mimo_commands.convert import main as mimo_convert
from runtime_check.audio.jfk import JFK, JFK_TEXT
from tests.opened import TINY_ASR, TINY_REFERENCE, load_reference


def run(command: Any, *arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def check_one_line(result: Result, *parts: str) -> None:
    assert result.exit_code == 2, result.output
    [line] = result.stderr.strip().splitlines()
    assert line.startswith("error: ")
    for part in parts:
        assert part in line


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tiny")
    assert run(mimo_convert, "tiny", "--no-check", "--out", out).exit_code == 0
    return out / "mimo-asr-f16.gguf"


def without(*names: str) -> Any:
    return lambda stages: {name: x for name, x in stages.items() if name not in names}


CODES, LOGITS = "tok_codes", "prefill_text_logits_step0"
DAMAGED: list[tuple[Any, str]] = [
    (lambda s: s | {CODES: np.full_like(s[CODES], 5000)}, "codes: some are not codes of this model"),
    (lambda s: s | {CODES: s[CODES] - 5000}, "stage tok_codes holds -"),
    (lambda s: s | {"answer_ids": s["answer_ids"] + 4000}, "stage answer_ids holds 4"),
    (lambda s: s | {"greedy_ids": s["greedy_ids"] - 4000}, "stage greedy_ids holds -"),
    (lambda s: s | {"layer_00": s["layer_00"] * np.float32(np.nan)}, "stage layer_00 holds NaN or infinity"),
    (lambda s: s | {"layer_00": s["layer_00"][:, :7]}, "stage layer_00 has 7 hidden size; expected 256"),
    (lambda s: s | {"answer_logits": s["answer_logits"][:, :9]}, "stage answer_logits has 9 vocabulary"),
    (lambda s: s | {CODES: s[CODES].astype(np.float32)}, "stage tok_codes has dtype F32; expected I32"),
    (lambda s: s | {CODES: s[CODES][:, :3]}, "stage prompt_ids has 9 rows; expected 1 + 3"),
    (without(CODES), "lacks the stages tok_codes"),
    (without(LOGITS), f"lacks the stages {LOGITS}"),
    (without("layer_00", "layer_01", "tok_mel"), "lacks the stages tok_mel, layer_00, layer_01"),
    (without("answer_ids", "answer_logits"), "lacks the stages answer_ids"),
    (without("answer_logits"), "lacks the stages answer_logits"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGED)
def test_a_damaged_reference_is_refused(tiny: Path, tmp_path: Path, damage: Any, message: str) -> None:
    stored = load_reference(TINY_REFERENCE)
    path = tmp_path / "reference.safetensors"
    dataclasses.replace(stored, stages=damage(stored.stages)).save(path)
    check_one_line(run(mimo_check, tiny, "--reference", path), message)


@pytest.mark.parametrize("stage", ["answer_ids", "greedy_ids"])
def test_an_id_beyond_the_files_vocabulary_never_reaches_ggml(tiny: Path, tmp_path: Path, stage: str) -> None:
    """Of a reference that agrees with itself: one of a model with a larger vocabulary."""
    stored = load_reference(TINY_REFERENCE)
    wider = {name: np.pad(x, ((0, 0), (0, 3000))) for name, x in stored.stages.items() if name == "answer_logits"}
    wider |= {LOGITS: np.pad(stored.stages[LOGITS], (0, 3000)), stage: stored.stages[stage] + 2000}
    path = tmp_path / "reference.safetensors"
    dataclasses.replace(stored, stages=stored.stages | wider).save(path)
    check_one_line(run(mimo_check, tiny, "--reference", path), f"stage {stage} holds token", "ids below 1024")


def test_a_reference_of_an_unknown_language_is_refused(tiny: Path, tmp_path: Path) -> None:
    stored = load_reference(TINY_REFERENCE)
    path = tmp_path / "reference.safetensors"
    dataclasses.replace(stored, origin=dataclasses.replace(stored.origin, language="klingon")).save(path)
    check_one_line(run(mimo_check, tiny, "--reference", path), "was made with the language 'klingon'")


def edit_json(path: Path, change: Any) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def edit_tensors(folder: Path, change: Any) -> None:
    """Change the tensors of the second shard, and its index with them."""
    shard = folder / "model-00002-of-00002.safetensors"
    tensors = load_file(shard)
    change(tensors)
    save_file(tensors, shard)
    index = folder / "model.safetensors.index.json"
    values = json.loads(index.read_text())
    kept = {name: file for name, file in values["weight_map"].items() if file != shard.name or name in tensors}
    index.write_text(json.dumps(values | {"weight_map": kept}))


NORM = "model.norm.weight"
BROKEN: list[tuple[Any, str]] = [
    (lambda f: edit_tensors(f, lambda t: t.pop(NORM)), f"missing tensor {NORM}"),
    (lambda f: edit_tensors(f, lambda t: t.update({NORM: torch.ones(7)})), f"tensor {NORM} has shape 7"),
    (lambda f: edit_tensors(f, lambda t: t.update({NORM: t[NORM].int()})), f"tensor {NORM} has unsupported dtype I32"),
    (lambda f: edit_tensors(f, lambda t: t[NORM].fill_(torch.nan)), "holds NaN or infinity"),
    (lambda f: (f / "tokenizer.json").write_text("{"), "tokenizer.json: not JSON"),
    (lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer.json: holds no BPE model"),
    (lambda f: edit_json(f / "tokenizer.json", lambda v: v.update(pre_tokenizer=7)), "cannot be used"),
    (lambda f: edit_json(f / "tokenizer.json", lambda v: v["added_tokens"].pop(24)), "no token has id 1011"),
]


@pytest.mark.parametrize(("damage", "message"), BROKEN)
def test_a_broken_checkpoint_makes_no_reference(tmp_path: Path, damage: Any, message: str) -> None:
    folder = tmp_path / "asr"
    shutil.copytree(TINY_ASR, folder)
    damage(folder)
    output = tmp_path / "reference.safetensors"
    check_one_line(run(mimo_check, "reference", folder, "--tokenizer", "tiny", "-o", output), message)
    assert not output.exists()


def test_a_checkpoint_without_the_prompts_tokens_is_not_converted(tmp_path: Path) -> None:
    folder = tmp_path / "asr"
    shutil.copytree(TINY_ASR, folder)

    def rename(values: Any) -> None:
        for entry in values["added_tokens"]:
            entry["content"] = entry["content"].replace("<|sosp|>", "<|speech|>")

    edit_json(folder / "tokenizer.json", rename)
    result = run(mimo_convert, folder, "--tokenizer", "tiny", "--no-check", "--out", tmp_path / "out")
    check_one_line(result, "<|sosp|> is not an added token, and the prompt needs it")


def test_other_vocabularies_fail_even_where_the_prompt_is_the_same(tiny: Path, tmp_path: Path) -> None:
    """Two tokens that the prompt does not use, swapped in the file."""
    data = tiny.read_bytes()
    from mimo_convert.formats.gguf import read_gguf

    tokens = read_gguf(tiny).metadata["tokenizer.ggml.tokens"]
    prompt = set(load_reference(TINY_REFERENCE).stages["prompt_ids"][0])
    a, b = [t for i, t in enumerate(tokens[700:], 700) if i not in prompt and len(t.encode()) == 4][:2]
    first, second = (len(t.encode()).to_bytes(8, "little") + t.encode() for t in (a, b))
    at, then = data.index(first), data.index(second)
    swapped = tmp_path / "mimo-asr-f16.gguf"
    data = data[:at] + second + data[at + len(first) : then] + first + data[then + len(second) :]
    swapped.write_bytes(data)
    tokenizer = tiny.with_name("mimo-tokenizer-f16.gguf")
    result = run(mimo_check, swapped, "--tokenizer", tokenizer, "--reference", "tiny")
    assert result.exit_code == 1, result.output
    assert "vocabulary: tokens or merges differ, expected the reference's" in result.stdout


@pytest.mark.parametrize("option", ["--json", "--dump"])
def test_a_place_that_cannot_be_written_is_known_before_the_work(tiny: Path, tmp_path: Path, option: str) -> None:
    (tmp_path / "file").write_text("")
    result = run(mimo_check, tiny, option, tmp_path / "file" / "x")
    check_one_line(result, "cannot be written")
    assert "transcript" not in result.stdout


def test_a_clip_beyond_the_context_is_known_before_it_is_encoded(tiny: Path, tmp_path: Path) -> None:
    import soundfile

    soundfile.write(tmp_path / "long.flac", np.zeros(8000 * 3600, np.float32), 8000)
    result = run(mimo_check, tiny, "--audio", tmp_path / "long.flac")
    check_one_line(result, "long.flac: needs a prompt of 22525 positions; expected fewer than 8192", "about 1306 s")


def test_a_bfloat16_reference_computes_as_upstream_does_and_a_file_passes_beside_it(tiny: Path, tmp_path: Path) -> None:
    stored = tmp_path / "bf16.safetensors"
    assert run(mimo_check, "reference", "tiny", "--reference-dtype", "bf16", "-o", stored).exit_code == 0
    exact, rounded = load_reference(TINY_REFERENCE), load_reference(stored)
    assert (exact.origin.dtype, rounded.origin.dtype) == ("f32", "bf16")
    apart = np.abs(exact.stages["tok_mel"] - rounded.stages["tok_mel"])
    assert np.median(apart) < 1e-5, "the front end is float32"  # of another processor, whose sums are of another order
    layer = torch.from_numpy(rounded.stages["layer_01"])
    assert torch.equal(layer, layer.bfloat16().float()), "what a layer gives is bfloat16"
    assert not np.array_equal(exact.stages["layer_01"], rounded.stages["layer_01"])
    for reference in ("--reference", stored), ("--reference", "tiny", "--reference-dtype", "bf16"):
        result = run(mimo_check, tiny, *reference, "--json", tmp_path / "r.json")
        assert result.exit_code == 0, result.output
        assert json.loads((tmp_path / "r.json").read_text())["checks"][0]["reference"]["dtype"] == "bf16"


def test_with_a_text_the_reference_follows_it_in_one_pass_and_without_it_answers_by_itself(tmp_path: Path) -> None:
    import soundfile

    wave, rate = soundfile.read(JFK, dtype="float32")
    soundfile.write(tmp_path / "jfk.flac", wave, rate)  # another hash: nothing is known of it
    found = []
    for name, options in (("text", ["--text", JFK_TEXT]), ("free", ["--max-new-tokens", "40"])):
        path = tmp_path / f"{name}.safetensors"
        options += ["--audio", str(tmp_path / "jfk.flac"), "--language", "english"]
        assert run(mimo_check, "reference", "tiny", *options, "-o", path).exit_code == 0
        found.append(load_reference(path))
    assert found[0].transcript == found[1].transcript == JFK_TEXT
    for name in ("answer_ids", "greedy_ids"):
        np.testing.assert_array_equal(found[0].stages[name], found[1].stages[name])
    np.testing.assert_allclose(found[0].stages["answer_logits"], found[1].stages["answer_logits"], atol=1e-3)


def test_a_text_that_is_not_said_is_followed_all_the_same(tiny: Path, tmp_path: Path) -> None:
    stored = tmp_path / "reference.safetensors"
    assert run(mimo_check, "reference", "tiny", "--text", "ask your country", "-o", stored).exit_code == 0
    reference = load_reference(stored)
    assert len(reference.stages["greedy_ids"]) == 1, "the model would have said something else at once"
    result = run(mimo_check, tiny, "--reference", stored)
    assert result.exit_code == 0, result.output
    assert f"transcript  {JFK_TEXT}" in result.stdout


def test_two_references_at_once_are_refused(tiny: Path) -> None:
    check_one_line(run(mimo_check, tiny, "--reference", "tiny", "--against", tiny), "--against", "one reference")


@pytest.mark.parametrize("outtype", ["q8_0", "q4_k"])
def test_a_file_is_compared_with_another_one(tiny: Path, tmp_path: Path, outtype: str) -> None:
    assert run(mimo_convert, "tiny", "--no-check", "--outtype", outtype, "--fuse-qkv", "--out", tmp_path).exit_code == 0
    lm = tmp_path / f"mimo-asr-{outtype}.gguf"
    result = run(mimo_check, lm, "--against", tiny, "--json", tmp_path / "r.json")
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "r.json").read_text())
    [check], [tensors] = report["checks"], report["tensors"]
    assert (check["passed"], tensors["passed"], tensors["lossless"]) == (True, True, False)
    assert check["reference"]["checkpoints"] == [str(tiny), str(tiny.with_name("mimo-tokenizer-f16.gguf"))]
    assert check["steps"]["tokens"] == 27


def test_what_is_found_without_running_is_reported_though_the_file_cannot_be_opened(tiny: Path, tmp_path: Path) -> None:
    broken = tmp_path / "mimo-asr-f16.gguf"
    data = tiny.read_bytes()
    at = data.index(b"mimo_asr.llm.hidden_size")
    broken.write_bytes(data[:at] + b"mimo_asr.llm.hidden_sizE" + data[at + 24 :])
    result = run(mimo_check, broken, "--checkpoint", "tiny", "--json", tmp_path / "r.json")
    assert result.exit_code == 1, result.output
    assert "metadata: key mimo_asr.llm.hidden_size is missing" in result.stdout
    assert result.stderr.startswith("not checked further: ")
    report = json.loads((tmp_path / "r.json").read_text())
    assert (report["passed"], report["lint"][0]["passed"], report["tensors"]) == (False, False, [])
