"""The pair as commands run it, as upstream computes and as llama.cpp does."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner, Result

from mimo_api import CheckOptions, InputError, check
from mimo_commands.check import main as mimo_check
from mimo_convert.model.checkpoint import Checkpoint
from mimo_families.qwen3_asr import pieces, reference
from mimo_families.qwen3_asr.front_end import FRONT_ENDS, LLAMA_CPP
from mimo_families.qwen3_asr.llama_cpp.layout import WITHOUT_SYSTEM
from mimo_families.qwen3_asr.llama_cpp.system import PairSystem
from mimo_families.qwen3_asr.system import Qwen3ASRSystem
from runtime_check.audio.clips import Clip
from runtime_check.audio.jfk import JFK, JFK_TEXT
from runtime_check.pytorch.weights import CheckpointWeights
from runtime_check.run.activations import GREEDY
from runtime_check.run.system import Compute, Task
from tests.gguf_edit import Key, rewrite
from tests.mimo_families.qwen3_asr.conftest import Converter
from tests.mimo_families.qwen3_asr.tiny_clips import ADAPTER, MODEL, converted
from tests.opened import model_file
from tests.readers import gguf_metadata
from tests.system.once import once

RATE, FEW = 16_000, 4
AS_LLAMA_CPP = Task(runtime=LLAMA_CPP, max_new_tokens=FEW)


@pytest.fixture(scope="session")
def pair(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a pair in F16 and F32, of the random checkpoint."""
    types = ("--outtype", "f16", "--outtype", "f32")
    return once(
        tmp_path_factory, "random-qwen3-asr-pair",
        lambda out: converted(out, "--runtime", "llama.cpp", *types, model=published),
    )  # fmt: skip


@pytest.fixture(scope="session")
def tiny_pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That of the bundled model, in Q8_0."""
    return once(
        tmp_path_factory, "tiny-qwen3-pair",
        lambda out: converted(out, "--runtime", "llama.cpp", "--outtype", "q8_0"),
    )  # fmt: skip


def opened(folder: Path, type_name: str = "F32") -> PairSystem:
    text, encoder = (model_file(folder / f"{prefix}Qwen3-ASR-{type_name}.gguf") for prefix in ("", "mmproj-"))
    return PairSystem({"asr": text, "audio_encoder": encoder}, Compute(1))


def noise(seconds: float, level: float = 0.1) -> Clip:
    wave = np.random.default_rng(0).standard_normal(int(seconds * RATE)).astype(np.float32) * np.float32(level)
    return Clip(Path("noise.wav"), wave, RATE, "0" * 64)


def command(*arguments: Any) -> Result:
    threads = [] if arguments[0] == "reference" else ["--threads", "1"]
    return CliRunner().invoke(mimo_check, [*map(str, arguments), *threads])


# ── as upstream ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_stage_is_that_of_the_one_file(pair: Path, qwen3_file: Converter) -> None:
    clip, task = noise(9.3), Task(language="english", max_new_tokens=FEW)
    one = Qwen3ASRSystem({"asr": model_file(qwen3_file("f32"))}, Compute(1)).run(clip, task, keep_stages=True)
    two = opened(pair).run(clip, task, keep_stages=True)
    assert one.stages.keys() == two.stages.keys()
    for name, x in one.stages.items():
        np.testing.assert_allclose(two.stages[name], x, atol=1e-5 * max(1, np.abs(x).max()), err_msg=name)


def test_a_file_knows_its_layout_and_finds_the_other(pair: Path, qwen3_asr: Checkpoint, tmp_path: Path) -> None:
    options = CheckOptions(
        pair / "Qwen3-ASR-F16.gguf", threads=1, reference=str(qwen3_asr.folder), compare="both", max_new_tokens=FEW
    )
    report = check(options)
    assert report.passed
    [found] = report.checks
    assert [Path(file.file).name for file in found.files] == ["Qwen3-ASR-F16.gguf", "mmproj-Qwen3-ASR-F16.gguf"]
    assert {stage.name: stage.role for stage in found.stages}["audio_embeds"] == "audio_encoder"
    assert {stage.name: stage.shape[0] for stage in found.stages}["audio_embeds"] == 143


def test_the_encoders_file_is_compared_row_by_row(pair: Path, qwen3_asr: Checkpoint) -> None:
    report = check(CheckOptions(pair / "mmproj-Qwen3-ASR-F16.gguf", threads=1, checkpoint=str(qwen3_asr.folder)))
    assert report.passed
    [part] = report.tensors
    assert (part.judged_by, len(part.tensors)) == ("bytes", len(gguf_names(pair / "mmproj-Qwen3-ASR-F16.gguf")))


def gguf_names(path: Path) -> set[str]:
    return set(model_file(path).file.tensors)


def test_the_pair_is_compared_with_the_one_file(pair: Path, qwen3_file: Converter) -> None:
    """By stages: the rows of another architecture are other tensors."""
    found = command(
        pair / "Qwen3-ASR-F16.gguf", "--reference", qwen3_file("f32"), "--compare", "stages", "--max-new-tokens", FEW
    )
    assert found.exit_code == 0, found.output


def test_positions_are_those_of_the_file(pair: Path, qwen3_asr: Checkpoint, tmp_path: Path) -> None:
    """As llama.cpp reads them: a file with others fails."""
    for name in ("Qwen3-ASR-F16.gguf", "mmproj-Qwen3-ASR-F16.gguf"):
        (tmp_path / name).write_bytes((pair / name).read_bytes())
    path = tmp_path / "mmproj-Qwen3-ASR-F16.gguf"
    table = model_file(path).file.tensors["a.position_embd.weight"]
    with path.open("r+b") as file:
        file.seek(table.begin)
        file.write(np.ones(13 * 128, np.float32).tobytes())
    options = CheckOptions(
        tmp_path / "Qwen3-ASR-F16.gguf", threads=1, reference=str(qwen3_asr.folder), max_new_tokens=1
    )
    [found] = check(options).checks
    assert next(gate.subject.stage for gate in found.gates if not gate.passed) == "enc_input"


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("clip.audio.projector_type", "qwen2a", "key clip.audio.projector_type is 'qwen2a'; expected 'qwen3a'"),
        ("clip.audio.projector_type", None, "key clip.audio.projector_type is missing; expected string"),
        ("clip.has_audio_encoder", False, "key clip.has_audio_encoder is False; expected True"),
    ],
)
def test_the_lint_knows_what_llama_cpp_asks_for(pair: Path, tmp_path: Path, key: str, value: Any, says: str) -> None:
    def changed(one: Key) -> Key | None:
        return one if one.name != key else None if value is None else one._replace(value=value)

    path = rewrite(pair / "mmproj-Qwen3-ASR-F16.gguf", tmp_path / "x.gguf", keys=changed)
    report = check(CheckOptions(path, threads=1, static=True))
    assert [rule.findings for rule in report.lint[0].rules if rule.findings] == [(says,)]


def test_the_template_of_llama_cpps_own_converter_is_a_good_one(pair: Path, tmp_path: Path) -> None:
    def other(key: Key) -> Key:
        return key._replace(value=WITHOUT_SYSTEM) if key.name == "tokenizer.chat_template" else key

    path = rewrite(pair / "Qwen3-ASR-F16.gguf", tmp_path / "Qwen3-ASR-F16.gguf", keys=other)
    assert check(CheckOptions(path, threads=1, static=True)).passed


def test_a_missing_or_foreign_companion_is_said(pair: Path, tiny_pair: Path, tmp_path: Path) -> None:
    alone = tmp_path / "Qwen3-ASR-F16.gguf"
    alone.write_bytes((pair / alone.name).read_bytes())
    found = command(alone)
    assert found.exit_code == 2
    assert "audio encoder files beside it: none; expected one; name it: --tokenizer" in found.output
    named = command(alone, "--tokenizer", pair / "mmproj-Qwen3-ASR-F16.gguf", "--max-new-tokens", 1)
    assert named.exit_code == 0, named.output
    found = command(pair / "mmproj-Qwen3-ASR-F16.gguf")
    assert found.exit_code == 2
    assert "clip: cannot be run by itself; give the file that it belongs to" in found.output


# ── as llama.cpp ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("seconds", "n_tokens"), [(11.0, 156), (8.0, 117), (1.0, 26), (0.1, 13), (0.99, 13)])
def test_there_are_as_many_audio_tokens_as_llama_cpp_was_seen_to_make(
    pair: Path, qwen3_asr: Checkpoint, seconds: float, n_tokens: int
) -> None:
    clip, system, of = noise(seconds), opened(pair), FRONT_ENDS[LLAMA_CPP]
    ours = system.run(clip, AS_LLAMA_CPP, keep_stages=True).stages
    assert ours["audio_embeds"].shape[0] == n_tokens == 13 * -(-(int(seconds * RATE) // 160 + 1) // 100)
    w = CheckpointWeights(qwen3_asr, torch.float32)
    with torch.no_grad():
        mel = reference.log_mel(reference.samples(clip, system.d, of), system.d, of)
        theirs = {"enc_mel": mel, **reference.encode(mel, w, system.d, system.d.window_tokens, of)}
    for name, x in theirs.items():
        np.testing.assert_allclose(ours[name], x.numpy(), atol=1e-4 * max(1, float(x.abs().max())), err_msg=name)


def test_loud_audio_is_not_scaled_and_quiet_audio_has_another_floor(pair: Path) -> None:
    system, upstream = opened(pair), Task(max_new_tokens=1)
    loud = noise(1, 2.0)
    ours, theirs = (system.run(loud, task).stages["enc_mel"] for task in (AS_LLAMA_CPP, upstream))
    scale = np.log10(np.abs(loud.wave).max()) * 2 / 4
    np.testing.assert_allclose(ours[:100] - theirs, scale, atol=1e-4)
    quiet = noise(1, 0)
    ours, theirs = (system.run(quiet, task).stages["enc_mel"] for task in (AS_LLAMA_CPP, upstream))
    assert (ours.max(), theirs.max()) == pytest.approx(((np.log10(2**-24) + 4) / 4, (-10 + 4) / 4))


def test_the_bundled_model_hears_jfk_both_ways(tiny_pair: Path) -> None:
    """And says in which way it was run."""
    for options in ([], ["--runtime", "llama.cpp"]):
        found = command(tiny_pair / "Qwen3-ASR-Q8_0.gguf", "--reference", MODEL, *options)
        assert found.exit_code == 0, found.output
        assert f"transcript  {JFK_TEXT}" in found.output
        assert ("as llama.cpp computes" in found.output) == bool(options)
        assert ("audio_embeds                 156×256" in found.output) == bool(options)


def test_the_words_alone_are_those_that_llama_cpp_finds(
    tiny_pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of five seconds, whose last chunk it pads; and of one piece, which is longer than upstream's."""
    wave, rate = soundfile.read(JFK, dtype="float32")
    soundfile.write(tmp_path / "half.wav", wave[: 5 * rate], rate)
    options = ["--audio", tmp_path / "half.wav", "--format", "json"]
    monkeypatch.setattr(pieces, "LONGEST_SECONDS", 4.0)
    monkeypatch.setattr(pieces, "SEARCHED_SECONDS", 0.5)
    found = command("transcribe", tiny_pair / "Qwen3-ASR-Q8_0.gguf", *options, "--runtime", "llama.cpp")
    assert found.exit_code == 0, found.output
    heard = json.loads(found.stdout)
    assert (heard["heard_language"], heard["text"], len(heard["pieces"])) == ("English", JFK_TEXT, 1)
    heard = json.loads(command("transcribe", tiny_pair / "Qwen3-ASR-Q8_0.gguf", *options).stdout)
    assert (heard["text"] == JFK_TEXT, len(heard["pieces"])) == (False, 2)


def test_the_one_file_is_run_as_llama_cpp_computes_too(pair: Path, qwen3_file: Converter) -> None:
    clip = noise(2.5)
    one = Qwen3ASRSystem({"asr": model_file(qwen3_file("f32"))}, Compute(1)).run(clip, AS_LLAMA_CPP)
    assert one.stages[GREEDY].tolist() == opened(pair).run(clip, AS_LLAMA_CPP).stages[GREEDY].tolist()


def test_a_context_ends_with_a_newline(pair: Path) -> None:
    system = opened(pair)
    prompts = [
        system.run(noise(0.3), AS_LLAMA_CPP._replace(context=context, runtime=runtime)).stages["prompt_ids"].tolist()
        for context, runtime in (("Bayreuth", LLAMA_CPP), ("Bayreuth\n", ""))
    ]
    assert [ids for ids in prompts[0] if ids != system.d.audio_pad_id] == [
        ids for ids in prompts[1] if ids != system.d.audio_pad_id
    ]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            ("--runtime", "llama.cpp", "--language", "german"),
            "--language: 'german', but llama.cpp detects it",
        ),
        (("--runtime", "ollama"), "--runtime: 'ollama'; expected llama.cpp"),
    ],
)
def test_what_llama_cpp_cannot_be_asked_is_refused(pair: Path, options: tuple[str, ...], says: str) -> None:
    found = command(pair / "Qwen3-ASR-F16.gguf", *options)
    assert found.exit_code == 2
    assert says in found.output


def test_a_stored_reference_says_how_it_was_computed(pair: Path, qwen3_asr: Checkpoint, tmp_path: Path) -> None:
    stored = tmp_path / "reference.safetensors"
    made = command("reference", qwen3_asr.folder, "--runtime", "llama.cpp", "-o", stored)
    assert made.exit_code == 0, made.output
    file = pair / "Qwen3-ASR-F16.gguf"
    assert command(file, "--reference", stored, "--runtime", "llama.cpp").exit_code == 0
    with pytest.raises(InputError, match=r"--runtime: nothing, the reference was made with llama\.cpp"):
        check(CheckOptions(file, threads=1, reference=str(stored)))


def test_an_adapter_is_in_both_files(published: Path, tmp_path: Path) -> None:
    """The bundled one: of the encoder and of the decoder."""
    converted(tmp_path, "--runtime", "llama.cpp", "--adapter", str(ADAPTER), "--outtype", "f16")
    names = sorted(path.name for path in tmp_path.glob("*.gguf"))
    assert names == ["Qwen3-ASR-noise-F16.gguf", "mmproj-Qwen3-ASR-noise-F16.gguf"]
    for name in names:
        assert gguf_metadata(tmp_path / name)["mimo_convert.adapter.name"] == "noise"
        found = command(tmp_path / name, "--checkpoint", "tiny-qwen3", "--adapter", ADAPTER)
        assert found.exit_code == 0, found.output
        assert command(tmp_path / name, "--checkpoint", "tiny-qwen3").exit_code == 2
