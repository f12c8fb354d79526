"""Harness and reference beside `plain.py`, and beside each other."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load_file

from mimo_convert.model.checkpoint import Checkpoint
from mimo_families.qwen3_asr import harness, reference
from mimo_families.qwen3_asr.harness import Prompt, Recognizer
from mimo_families.qwen3_asr.prompt import build_prompt
from mimo_families.qwen3_asr.stages import AUDIO_EMBEDS, FIRST_LOGITS, LAST_HIDDEN, PROMPT
from mimo_families.qwen3_asr.system import of_prompt
from runtime_check.ggml.decoder import LOGITS, Decoder, incremental_logits
from runtime_check.ggml.graph import Backend
from runtime_check.ggml.greedy import Prompted, greedy
from runtime_check.pytorch.weights import CheckpointWeights
from runtime_check.run.activations import GREEDY, RESPONSE, RESPONSE_LOGITS, Stages
from runtime_check.run.compare.measures import cosines
from runtime_check.run.system import Task
from tests.opened import model_file
from tests.qwen3_checkpoint import AUDIO as AUDIO_CONFIG
from tests.qwen3_checkpoint import TEXT as TEXT_CONFIG

from . import plain
from .conftest import Converter

# Mel frames: of less than a chunk, of whole chunks, of a part more, of two windows and three with parts of a chunk.
LENGTHS = (1, 57, 99, 100, 101, 300, 800, 813, 1731)
N_TOKENS = 6
ENGLISH, RESPONSE_IDS = Task(language="english"), [7, 300, 41, 9]


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


def prompt_of(recognizer: Recognizer, n_frames: int, task: Task = ENGLISH) -> Prompt:
    embeds = recognizer.encode(frames(n_frames), recognizer.d.window_tokens)[AUDIO_EMBEDS]
    return Prompt(build_prompt(len(embeds), recognizer.text.encode, recognizer.d, task), embeds, [])


def theirs_of(recognizer: Recognizer, checkpoint: Checkpoint, prompt: Prompt) -> reference.Prompt:
    return reference.Prompt(prompt.ids, torch.from_numpy(prompt.embeds), recognizer.audio_id)


@pytest.mark.parametrize("n", [57, 813])
def test_decoder_equals_the_specification(
    recognizer: Recognizer, qwen3_asr: Checkpoint, weights: plain.Weights, n: int
) -> None:
    prompt = prompt_of(recognizer, n)
    whole = [*prompt.ids.tolist(), *RESPONSE_IDS[:-1]]
    expected = plain.text_stages(whole, recognizer.audio_id, prompt.embeds.astype(float), weights, TEXT_CONFIG)
    logits, hidden = expected.pop("logits")[len(prompt.ids) - 1 :], expected.pop("last_hidden")
    expected = {name: x[: len(prompt.ids)] for name, x in expected.items()}
    expected |= {LAST_HIDDEN: hidden[len(prompt.ids) - 1], FIRST_LOGITS: logits[0]}
    decoder = Decoder(recognizer, len(whole))
    out = decoder.read(prompt._replace(response=RESPONSE_IDS[:-1]), len(RESPONSE_IDS), keep_stages=True)
    ours = of_prompt(out, len(prompt.ids)) | {RESPONSE_LOGITS: out[LOGITS]}
    w = CheckpointWeights(qwen3_asr, torch.float32)
    with torch.no_grad():
        theirs = reference.teacher_force(w, theirs_of(recognizer, qwen3_asr, prompt), recognizer.d, RESPONSE_IDS)
    for stages in (ours, {name: x.numpy() for name, x in theirs.items()}):
        assert_close(stages, expected | {RESPONSE_LOGITS: logits}, 1e-5)
    np.testing.assert_allclose(
        incremental_logits(recognizer, prompt, RESPONSE_IDS), logits, atol=1e-5 * np.abs(logits).max()
    )


def test_an_audio_token_in_a_response_is_a_token(recognizer: Recognizer, qwen3_asr: Checkpoint) -> None:
    """And not a place for audio, of which there is none left."""
    prompt, response = prompt_of(recognizer, 57), [recognizer.audio_id, 5, recognizer.audio_id]
    out = Decoder(recognizer, 99).read(prompt._replace(response=response[:-1]), 3)
    w = CheckpointWeights(qwen3_asr, torch.float32)
    with torch.no_grad():
        theirs = reference.teacher_force(w, theirs_of(recognizer, qwen3_asr, prompt), recognizer.d, response)
    expected = theirs[RESPONSE_LOGITS].numpy()
    np.testing.assert_allclose(out[LOGITS], expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(("outtype", "least"), [("f16", 0.9999), ("bf16", 0.999)])
def test_stages_and_greedy_tokens_of_half_precision_equal_pytorch(
    qwen3_file: Converter, qwen3_asr: Checkpoint, outtype: str, least: float
) -> None:
    recognizer, w = opened(qwen3_file(outtype)), CheckpointWeights(qwen3_asr, torch.float32)
    mel, d = frames(813), recognizer.d
    ours = recognizer.encode(mel, d.window_tokens, keep_stages=True)
    ids = build_prompt(len(ours[AUDIO_EMBEDS]), recognizer.text.encode, d, ENGLISH)
    decoder = Decoder(recognizer, len(ids) + N_TOKENS)
    out = decoder.read(Prompt(ids, ours[AUDIO_EMBEDS], []), keep_stages=True)
    [response] = greedy([Prompted(decoder, out[LOGITS][0], N_TOKENS)], set())
    ours |= of_prompt(out, len(ids)) | {RESPONSE_LOGITS: np.stack(response.logits)}
    with torch.no_grad():
        theirs = reference.encode(torch.from_numpy(mel), w, d, d.window_tokens)
        prompt = reference.Prompt(ids, theirs[AUDIO_EMBEDS], recognizer.audio_id)
        theirs |= reference.decode(w, prompt, d, N_TOKENS, set())
    assert set(ours) == set(theirs) - {PROMPT, GREEDY, RESPONSE}
    for name, x in ours.items():
        assert cosines(x, theirs[name].numpy()).min() >= least, name
    assert response.tokens == theirs[GREEDY].tolist()


def test_a_file_without_a_copy_of_the_embedding_has_the_same_logits(
    recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = prompt_of(recognizer, 57)
    copied = Decoder(recognizer, 99).read(prompt)[LOGITS]
    assert recognizer.head == "output"
    monkeypatch.setattr(recognizer, "head", "token_embd")
    np.testing.assert_array_equal(Decoder(recognizer, 99).read(prompt)[LOGITS], copied)


def test_batches_of_chunks_and_windows_change_nothing(recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    mel = frames(2 * 800 + 150)
    whole = recognizer.encode(mel, recognizer.d.window_tokens)[AUDIO_EMBEDS]
    monkeypatch.setattr(harness, "CHUNKS_AT_ONCE", 3)
    monkeypatch.setattr(harness, "WINDOWS_AT_ONCE", 1)
    parts = recognizer.encode(mel, recognizer.d.window_tokens)[AUDIO_EMBEDS]
    np.testing.assert_allclose(parts, whole, atol=1e-5 * np.abs(whole).max())
