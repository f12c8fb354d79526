"""The system as commands run it: files of a random checkpoint on real and made clips."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from gguf import GGUFValueType

from mimo_api import CheckOptions, InputError, ReferenceOptions, check, make_reference
from mimo_commands.check import main as mimo_check
from mimo_convert.model.checkpoint import Checkpoint
from mimo_families.qwen3_asr.system import Qwen3ASRSystem
from runtime_check.audio.clips import Clip
from runtime_check.audio.jfk import JFK
from runtime_check.run.activations import GREEDY, RESPONSE
from runtime_check.run.system import Compute, Task
from tests.gguf_edit import Key, rewrite
from tests.opened import model_file

from .conftest import Converter

STAGES = [
    "enc_mel", "enc_conv1", "enc_conv2", "enc_conv3", "enc_conv_out", "enc_input", "enc_layer_00", "enc_layer_01",
    "enc_norm", "enc_proj", "audio_embeds", "prompt_ids", "inputs_embeds", "layer_00", "layer_01", "last_hidden",
    "logits_step0",
]  # fmt: skip
SHAPES = {
    "enc_mel": (1100, 128), "enc_conv1": (550, 16 * 64), "enc_conv2": (275, 16 * 32), "enc_conv3": (143, 16 * 16),
    "enc_conv_out": (143, 128), "enc_input": (143, 128), "audio_embeds": (143, 256), "last_hidden": (256,),
    "logits_step0": (512,),
}  # fmt: skip
FEW = 4  # tokens of a response


def command(*arguments: Any) -> Result:
    return CliRunner().invoke(mimo_check, [*map(str, arguments), "--threads", "1"])


@pytest.fixture
def odd_clip(tmp_path: Path) -> Path:
    """13.37 s at 22.05 kHz: two windows, and no whole number of chunks."""
    wave, _ = soundfile.read(JFK, dtype="float32")
    path = tmp_path / "odd.wav"
    soundfile.write(path, np.tile(wave, 2)[: int(13.37 * 22_050)], 22_050)
    return path


def opened(path: Path) -> Qwen3ASRSystem:
    return Qwen3ASRSystem({"asr": model_file(path)}, Compute(1))


@pytest.mark.parametrize("attention", ["auto", "full"])
def test_every_stage_of_an_odd_clip_passes(
    qwen3_file: Converter, qwen3_asr: Checkpoint, odd_clip: Path, attention: str
) -> None:
    options = CheckOptions(
        qwen3_file("f16"), [odd_clip], threads=1, reference=str(qwen3_asr.folder), attention=attention,
        context="Berlin", max_new_tokens=FEW, text="so it is",
    )  # fmt: skip
    [found] = check(options).checks
    assert [gate.failures for gate in found.gates if not gate.passed] == []
    assert [stage.name for stage in found.stages] == [name for name in STAGES if name != "prompt_ids"]
    assert {stage.name: stage.shape[0] for stage in found.stages}["audio_embeds"] == 13 * 13 + 5
    assert (found.task.context, found.task.attention) == ("Berlin", attention)


def test_every_stage_is_dumped_time_first(qwen3_file: Converter, tmp_path: Path) -> None:
    found = command("file", qwen3_file("q8_0"), "--dump", tmp_path / "stages", "--max-new-tokens", FEW)
    assert found.exit_code == 0, found.output
    arrays = {path.stem: np.load(path) for path in (tmp_path / "stages").iterdir()}
    assert arrays.keys() >= set(STAGES)
    assert {name: arrays[name].shape for name in SHAPES} == SHAPES
    assert arrays["inputs_embeds"].shape == (len(arrays["prompt_ids"]), 256)


def test_full_attention_is_other_than_windows_beyond_eight_seconds(
    qwen3_file: Converter, qwen3_asr: Checkpoint, tmp_path: Path
) -> None:
    """A stored reference is of one of them, and a file that says that it has no windows is run without."""
    stored = tmp_path / "reference.safetensors"
    make_reference(ReferenceOptions(str(qwen3_asr.folder), stored, text="so it is"))
    options = CheckOptions(qwen3_file("f32"), threads=1, reference=str(stored), max_new_tokens=FEW)
    [windowed] = check(options).checks
    assert windowed.passed
    with pytest.raises(InputError, match="--attention: full, the reference was made with auto; give that one"):
        check(replace(options, attention="full"))
    with pytest.raises(InputError, match="--context: Berlin, the reference was made with nothing; give that one"):
        check(replace(options, context="Berlin"))

    def without_windows(key: Key) -> Key:
        return key._replace(value=0) if key.name == "qwen3asr.audio.attn_window_mode" else key

    path = rewrite(qwen3_file("f32"), tmp_path / "full.gguf", keys=without_windows)
    [found] = check(replace(options, file=path)).checks
    before, first = (
        [one.rel_rmse for one in check.stages if one.name in ("enc_input", "enc_layer_00")]
        for check in (windowed, found)
    )  # of random weights, whose attention is nearly the same everywhere
    assert max(before) < 1e-6
    assert first[0] == before[0]
    assert first[1] > 1e-3


def test_a_response_to_a_known_text_begins_with_the_language_that_the_model_names(
    qwen3_file: Converter, qwen3_asr: Checkpoint, jfk: Clip
) -> None:
    from mimo_families.qwen3_asr import reference

    system = opened(qwen3_file("f32"))
    clip = replace(jfk, text="so it is")
    forced = reference.run({"asr": qwen3_asr}, clip, Task(language="german"), None, "f32").stages[RESPONSE]
    assert forced.tolist() == system.text.response("so it is")
    heard = reference.run({"asr": qwen3_asr}, clip, Task(), None, "f32").stages[RESPONSE].tolist()
    assert heard[-len(forced) :] == forced.tolist()
    own = system.run(clip, Task(max_new_tokens=12)).stages[GREEDY].tolist()
    tag = system.text.id_of("<asr_text>")
    assert heard[: -len(forced)] == (own[: own.index(tag) + 1] if tag in own else [])


@pytest.mark.parametrize(("adapter", "most"), [("", 512), ("mega-asr-merged", 256), ("other", 512)])
def test_responses_have_upstreams_limits(qwen3_file: Converter, tmp_path: Path, adapter: str, most: int) -> None:
    named = [Key("mimo_convert.adapter.name", adapter, GGUFValueType.STRING)] if adapter else []
    assert opened(rewrite(qwen3_file("q8_0"), tmp_path / "file.gguf", add=named)).most_new_tokens == most


def test_a_transcript_says_which_language_was_heard(
    qwen3_file: Converter, monkeypatch: pytest.MonkeyPatch, jfk: Clip
) -> None:
    system = opened(qwen3_file("q8_0"))
    ids = system.text.response("language English<asr_text>a<|audio_start|>b")
    assert system.transcript(ids, Task()) == "ab"
    monkeypatch.setattr(Qwen3ASRSystem, "said", _heard)
    found = command("transcribe", qwen3_file("q8_0"), "--audio", JFK, "--format", "json", "--max-new-tokens", FEW)
    assert found.exit_code == 0, found.output
    said = json.loads(found.stdout)
    assert (said["language"], said["heard_language"], said["text"]) == ("english", "English", "a word")
    assert "took more than the 4 tokens that were allowed; --max-new-tokens allows more" in found.stderr


def _heard(system: Qwen3ASRSystem, ids: object, task: Task) -> Any:
    from mimo_families.qwen3_asr.prompt import parse

    return parse("language English<asr_text>a word", Task())


@pytest.mark.parametrize("n", [1, 300, 1000, 15_999])
def test_short_clips_and_silence_run(qwen3_file: Converter, tmp_path: Path, n: int) -> None:
    path = tmp_path / "short.wav"
    soundfile.write(path, np.zeros(n, np.float32), 16_000)
    found = command("file", qwen3_file("q8_0"), "--audio", path, "--max-new-tokens", FEW)
    assert found.exit_code == 0, found.output


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--language", "Klingon"], "--language: 'klingon'; expected chinese or english or cantonese or"),
        (["--context", "x<|audio_pad|>"], "--context: holds <|audio_pad|>, which stands for audio"),
    ],
)
def test_bad_options_are_one_clear_line(qwen3_file: Converter, options: list[str], says: str) -> None:
    found = command("transcribe", qwen3_file("q8_0"), "--audio", JFK, *options)
    assert found.exit_code == 2
    assert found.stderr.startswith(f"error: {says}")
    assert len(found.stderr.splitlines()) == 1


@pytest.mark.parametrize(("option", "value"), [("--context", "Berlin"), ("--attention", "full")])
def test_options_of_this_family_are_refused_by_others(
    converted: Callable[..., tuple[Path, Path]], option: str, value: str
) -> None:
    found = command("transcribe", converted("f16")[0], "--audio", JFK, option, value)
    assert found.exit_code == 2
    assert found.stderr == f"error: {option}: does not concern mimo_asr; leave it out\n"
