"""The speech LM step by step against its reference."""

import numpy as np
import torch

from mimo_families.mimo_audio.calibration import open_forwards
from mimo_families.mimo_audio.reference import run
from mimo_families.mimo_audio.stages import ROLE
from mimo_families.mimo_tokenizer.stages import ROLE as TOKENIZER
from runtime_check.audio.clips import read_clip
from runtime_check.audio.jfk import JFK, JFK_TEXT
from runtime_check.calibrate.forward import StepWeights, walk
from runtime_check.run.activations import RESPONSE, RESPONSE_LOGITS
from runtime_check.run.system import Task
from tests.opened import open_tiny, open_tiny_tokenizer


def test_the_last_step_gives_the_logits_of_the_reference() -> None:
    checkpoints, task, clip = (
        {ROLE: open_tiny(), TOKENIZER: open_tiny_tokenizer()},
        Task(language="english"),
        read_clip(JFK),
    )
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
