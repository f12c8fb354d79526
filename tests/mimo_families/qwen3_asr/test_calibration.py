"""Qwen3-ASR step by step against its reference."""

import numpy as np
import torch

from mimo_convert.model.checkpoint import open_checkpoint
from mimo_families.qwen3_asr.calibration import open_forwards
from mimo_families.qwen3_asr.reference import run
from mimo_families.qwen3_asr.stages import ROLE
from mimo_families.qwen3_asr.system import TINY
from runtime_check.audio.clips import read_clip
from runtime_check.audio.jfk import JFK, JFK_TEXT
from runtime_check.calibrate.forward import StepWeights, walk
from runtime_check.run.activations import RESPONSE, RESPONSE_LOGITS
from runtime_check.run.system import Task


def test_the_last_step_gives_the_logits_of_the_reference() -> None:
    checkpoints, task, clip = {ROLE: open_checkpoint(TINY / "model")}, Task(language="english"), read_clip(JFK)
    expected = run(checkpoints, clip, task, None, "f32").stages
    model = open_forwards(checkpoints, task)
    response = model.response(JFK_TEXT)
    assert response == expected[RESPONSE].tolist()
    forwards = [model.forward(clip, response), model.forward(clip, response[:5])]
    states = [forward.start for forward in forwards]
    with torch.no_grad():
        assert list(walk(forwards, StepWeights(model.weights), states)) == list(range(len(forwards[0].steps)))
    whole, begin = (state.numpy() for state in states)
    np.testing.assert_allclose(whole, expected[RESPONSE_LOGITS], atol=1e-4, rtol=1e-5)
    np.testing.assert_allclose(begin, expected[RESPONSE_LOGITS][:5], atol=1e-4, rtol=1e-5)
