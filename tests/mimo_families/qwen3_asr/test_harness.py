"""Harness and reference beside `plain.py`, and beside each other."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load_file

from mimo_convert.model.checkpoint import Checkpoint
from mimo_families.qwen3_asr import reference
from mimo_families.qwen3_asr.harness import Recognizer
from runtime_check.ggml.graph import Backend
from runtime_check.pytorch.weights import CheckpointWeights
from runtime_check.run.activations import Stages
from tests.opened import model_file
from tests.qwen3_checkpoint import AUDIO as AUDIO_CONFIG

from . import plain
from .conftest import Converter

# Mel frames: of less than a chunk, of whole chunks, of a part more, of two windows and three with parts of a chunk.
LENGTHS = (1, 57, 99, 100, 101, 300, 800, 813, 1731)
N_TOKENS = 6


def frames(n: int) -> npt.NDArray[np.float32]:
    """(n, 128) of the size of log-mel features."""
    return np.random.default_rng(n).uniform(-1, 1.5, (n, 128)).astype(np.float32)


@pytest.fixture(scope="module")
def weights(qwen3_asr: Checkpoint) -> plain.Weights:
    stored = load_file(qwen3_asr.folder / "model.safetensors")
    return {name.removeprefix("thinker."): x.double().numpy() for name, x in stored.items()}


@pytest.fixture(scope="module")
def recognizer(qwen3_file: Converter) -> Recognizer:
    return opened(qwen3_file("f32"))


def opened(path: Path) -> Recognizer:
    return Recognizer(model_file(path), Backend(1))


def assert_close(ours: Stages, expected: dict[str, plain.Array], most: float) -> None:
    """Every stage of `expected`, within `most` of its largest number."""
    for name, x in expected.items():
        assert ours[name].shape == x.shape, name
        assert np.abs(ours[name] - x).max() <= most * np.abs(x).max(), name


@pytest.mark.parametrize("windowed", [True, False], ids=["windows", "full attention"])
@pytest.mark.parametrize("n", LENGTHS)
def test_audio_encoder_equals_the_specification(
    recognizer: Recognizer, qwen3_asr: Checkpoint, weights: plain.Weights, n: int, windowed: bool
) -> None:
    mel, d = frames(n), recognizer.d
    expected = plain.audio_stages(mel.T.astype(np.float64), weights, AUDIO_CONFIG, windowed=windowed)
    window = d.window_tokens if windowed else None
    assert_close(recognizer.encode(mel, window, keep_stages=True), expected, 1e-5)
    with torch.no_grad():
        theirs = reference.encode(torch.from_numpy(mel), CheckpointWeights(qwen3_asr, torch.float32), d, window)
    assert_close({name: x.numpy() for name, x in theirs.items()}, expected, 1e-5)
