"""What the steps of every model must give."""

import numpy as np
import torch

from runtime_check.audio.clips import Clip
from runtime_check.audio.jfk import JFK_TEXT
from runtime_check.calibrate.forward import Forwards, StepWeights, walk
from runtime_check.run.activations import RESPONSE, RESPONSE_LOGITS, Stages


def check_last_step(model: Forwards, jfk: Clip, expected: Stages) -> None:
    """The last step gives the logits of the reference's stages of the JFK clip, also with fewer tokens beside them."""
    response = model.response(JFK_TEXT)
    assert response == expected[RESPONSE].tolist()
    forwards = [model.forward(jfk, response), model.forward(jfk, response[:5])]
    states = [forward.start for forward in forwards]
    with torch.no_grad():
        assert list(walk(forwards, StepWeights(model.weights), states)) == list(range(len(forwards[0].steps)))
    whole, begin = (state.numpy() for state in states)
    np.testing.assert_allclose(whole, expected[RESPONSE_LOGITS], atol=1e-4, rtol=1e-5)
    np.testing.assert_allclose(begin, expected[RESPONSE_LOGITS][:5], atol=1e-4, rtol=1e-5)
