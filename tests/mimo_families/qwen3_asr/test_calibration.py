"""Qwen3-ASR step by step: against its reference, and float64 numpy."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mimo_convert.model.checkpoint import Checkpoint, open_checkpoint
from mimo_families.qwen3_asr.calibration import open_forwards
from mimo_families.qwen3_asr.layout import EMBEDDING, FAMILY
from mimo_families.qwen3_asr.prompt import AUDIO, build_prompt
from mimo_families.qwen3_asr.reference import run
from mimo_families.qwen3_asr.stages import ROLE
from mimo_families.qwen3_asr.system import TINY
from quantize.errors import InputError
from runtime_check.audio.clips import read_clip
from runtime_check.audio.jfk import JFK
from runtime_check.calibrate.collect import Recorder, collect
from runtime_check.calibrate.tensors import Sized, by_tensor, matrices_of
from runtime_check.run.system import Task
from tests.qwen3_checkpoint import AUDIO as AUDIO_CONFIG
from tests.qwen3_checkpoint import TEXT as TEXT_CONFIG
from tests.runtime_check.calibrate.plain import Seen, Watched
from tests.runtime_check.calibrate.steps import check_last_step

from . import plain
from .test_harness import frames

ENGLISH = Task(language="english")


def test_the_last_step_gives_the_logits_of_the_reference() -> None:
    checkpoints, clip = {ROLE: open_checkpoint(TINY / "model")}, read_clip(JFK)
    expected = run(checkpoints, clip, ENGLISH, None, "f32").stages
    check_last_step(open_forwards(checkpoints, ENGLISH), clip, expected)


def test_sums_are_those_of_float64(qwen3_asr: Checkpoint) -> None:
    """Of every matrix of encoder and decoder, the tied head included, over two clips: one of several chunks and
    windows."""
    model = open_forwards({ROLE: qwen3_asr}, ENGLISH)
    stored = load_file(qwen3_asr.folder / "model.safetensors")
    weights = Watched({name.removeprefix("thinker."): x.double().numpy() for name, x in stored.items()})
    audio_id, forwards, heads = model.text.id_of(AUDIO), [], []
    for n, response in ((57, [7, 300, 41, 9]), (913, [5, 6])):
        forwards.append(model.forward_of(torch.from_numpy(frames(n)), response))
        audio = plain.audio_stages(frames(n).T.astype(np.float64), weights, AUDIO_CONFIG)["audio_embeds"]
        prompt = build_prompt(len(audio), model.text.encode, model.d, ENGLISH).tolist()
        stages = plain.text_stages([*prompt, *response[:-1]], audio_id, audio, weights, TEXT_CONFIG)
        heads.append(stages["last_hidden"][len(prompt) - 1 :])
    rows = np.concatenate(heads)
    weights.seen["model.embed_tokens.weight"] = Seen(len(rows), (rows**2).sum(0), rows.sum(0))  # not of every position
    states = [forward.start for forward in forwards]
    recorder = Recorder(model.weights, {})
    collect(forwards, recorder, states, 0, lambda *_: None)
    found = recorder.sums
    assert found.keys() == {f"thinker.{name}" for name in weights.seen}
    for name, seen in weights.seen.items():
        of = found[f"thinker.{name}"]
        assert of.count == seen.count, name
        np.testing.assert_allclose(of.squares, seen.squares, rtol=1e-4, atol=1e-6 * seen.squares.max(), err_msg=name)
        np.testing.assert_allclose(of.sums, seen.sums, atol=1e-4 * np.sqrt(seen.squares.max()), err_msg=name)
    named = by_tensor([Sized(FAMILY, model.d)], found)
    assert named["token_embd.weight"] is named["output.weight"] is found[EMBEDDING]
    assert set(matrices_of(Sized(FAMILY, model.d))) <= named.keys()


def test_a_text_needs_a_language_for_what_the_model_says_before_it() -> None:
    model = open_forwards({ROLE: open_checkpoint(TINY / "model")}, Task())
    with pytest.raises(InputError, match="--language: is not given"):
        model.response("one two")
