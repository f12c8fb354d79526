from collections.abc import Set
from pathlib import Path

import numpy as np
import pytest
import torch

from mimo_convert.model.checkpoint import Checkpoint
from mimo_families.mimo_audio import reference
from mimo_families.mimo_audio.harness import SpeechLM
from mimo_families.mimo_audio.layout import FAMILY
from mimo_families.mimo_audio.prompt import build_prompt, with_response
from mimo_families.mimo_audio.segments import Ids
from mimo_families.mimo_audio.stages import PROMPT
from mimo_families.mimo_audio.system import lm_stages
from quantize.types import TYPES
from runtime_check.ggml import decoder as decoding
from runtime_check.ggml.decoder import LOGITS, Decoder, Logits
from runtime_check.ggml.graph import Backend
from runtime_check.ggml.greedy import Prompted, Response, greedy
from runtime_check.pytorch.weights import CheckpointWeights
from runtime_check.run.activations import GREEDY, RESPONSE, RESPONSE_LOGITS
from runtime_check.run.compare.measures import cosines
from runtime_check.text.tokenizer import TextTokenizer
from tests.opened import model_file
from tests.runtime_check.conftest import Converter

N_TOKENS = 8


def prompt(lm: SpeechLM, text: TextTokenizer, n_frames: int = 30) -> Ids:
    rng = np.random.default_rng(0)
    codes = np.stack([rng.integers(0, zero + 1, n_frames) for zero in lm.d.speech_zeroemb], axis=1)  # some at zeroemb
    return build_prompt(codes.astype(np.int32), text.encode, lm.d)


def opened(path: Path) -> SpeechLM:
    return SpeechLM(model_file(path), Backend(2))


def response_to(decoder: Decoder, logits: Logits, n_tokens: int = N_TOKENS, stops: Set[int] = frozenset()) -> Response:
    """The greedy response to a prompt that was read."""
    [response] = greedy([Prompted(decoder, logits, n_tokens)], stops)
    return response


def compare_with_pytorch(path: Path, checkpoint: Checkpoint, least: float) -> None:
    """Every stage and eight greedy tokens of the file at `path` against its checkpoint."""
    lm = opened(path)
    assert FAMILY.text is not None
    theirs = TextTokenizer.from_checkpoint(checkpoint, lm.d.vocab_size, FAMILY.text)
    ids = prompt(lm, lm.text)
    np.testing.assert_array_equal(ids, prompt(lm, theirs))
    weights = CheckpointWeights(checkpoint, torch.float32)
    with torch.no_grad():
        expected = reference.decode(weights, ids, lm.d, theirs, N_TOKENS)
        followed = reference.teacher_force(weights, ids, lm.d, theirs, expected[GREEDY].tolist())
    n_groups = ids.shape[1] // lm.d.group_size
    decoder = lm.decoder(n_groups + N_TOKENS)
    out = decoder.read(ids, keep_stages=True)
    response = response_to(decoder, out[LOGITS][0], N_TOKENS, lm.text.stops)
    tokens = np.array(response.tokens, np.int32)
    ours = {PROMPT: ids, **lm_stages(out, n_groups), GREEDY: tokens, RESPONSE: tokens}
    ours[RESPONSE_LOGITS] = np.stack(response.logits)
    assert set(ours) == set(expected) == set(followed)
    for stages in (expected, followed):  # decoding token by token, and in one pass over prompt and answer
        for name in set(ours) - {PROMPT, GREEDY, RESPONSE}:
            assert ours[name].shape == tuple(stages[name].shape), name
            assert cosines(ours[name], stages[name].numpy()).min() >= least, name
        assert ours[GREEDY].tolist() == stages[GREEDY].tolist() == stages[RESPONSE].tolist()


@pytest.mark.parametrize("fuse_qkv", [False, True], ids=["separate", "fused"])
@pytest.mark.parametrize(("outtype", "least"), [("f32", 0.999999), ("f16", 0.9999), ("bf16", 0.999)])
def test_every_stage_equals_pytorch(
    converted: Converter, lm_checkpoint: Checkpoint, outtype: str, least: float, fuse_qkv: bool
) -> None:
    compare_with_pytorch(converted(outtype, fuse_qkv)[0], lm_checkpoint, least)


@pytest.mark.parametrize("outtype", list(TYPES))
def test_both_layouts_give_the_same_logits(converted: Converter, outtype: str) -> None:
    logits = []
    for fuse_qkv in (False, True):
        lm = opened(converted(outtype, fuse_qkv)[0])
        logits.append(lm.decoder(99).read(prompt(lm, lm.text))[LOGITS])
    np.testing.assert_array_equal(*logits)


@pytest.mark.parametrize("outtype", ["f32", "f16", "q4_k"])
def test_cached_steps_equal_one_pass_over_prompt_and_answer(converted: Converter, outtype: str) -> None:
    lm = opened(converted(outtype)[0])
    ids = prompt(lm, lm.text)
    decoder = lm.decoder(99)
    response = response_to(decoder, decoder.read(ids)[LOGITS][0])
    whole = lm.decoder(99).read(with_response(ids, response.tokens[:-1], lm.d), N_TOKENS)[LOGITS]
    np.testing.assert_allclose(np.stack(response.logits), whole, atol=0.005)  # f16 activations
    assert whole.argmax(axis=1).tolist() == response.tokens


@pytest.mark.parametrize("batch", [1, 7, 16])
def test_a_long_prompt_is_read_in_batches_with_the_same_result(
    converted: Converter, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    lm = opened(converted("f32")[0])
    ids = prompt(lm, lm.text)
    whole = lm.decoder(99).read(ids, n_logits=5, keep_stages=True)
    monkeypatch.setattr(decoding, "BATCH", batch)
    parts = lm.decoder(99).read(ids, n_logits=5, keep_stages=True)
    assert {name: x.shape for name, x in whole.items()} == {name: x.shape for name, x in parts.items()}
    for name in whole:
        np.testing.assert_allclose(parts[name], whole[name], atol=1e-4, err_msg=name)


def test_a_cache_can_be_truncated_and_read_on(converted: Converter) -> None:
    lm = opened(converted("f32")[0])
    ids = prompt(lm, lm.text)
    decoder = lm.decoder(99)
    decoder.read(ids)
    n_past = decoder.n_past
    first = [decoder.step(token) for token in (5, 6, 7)]
    decoder.truncate(n_past)
    np.testing.assert_array_equal([decoder.step(token) for token in (5, 6, 7)], first)


def answer_in(lm: SpeechLM, ids: Ids, room: int, stops: set[int]) -> list[int]:
    """Up to 20 tokens of an answer to the prompt, in a context with `room` behind it."""
    decoder = lm.decoder(ids.shape[1] // lm.d.group_size + room)
    return response_to(decoder, decoder.read(ids)[LOGITS][0], 20, stops).tokens


def test_answers_end_at_a_stop_token_and_at_the_end_of_the_room(converted: Converter) -> None:
    lm = opened(converted()[0])
    ids = prompt(lm, lm.text)
    free = answer_in(lm, ids, 20, set())
    assert len(free) == 20
    stop = next(token for i, token in enumerate(free) if i and token not in free[:i])
    assert answer_in(lm, ids, 20, {stop}) == free[: free.index(stop) + 1]
    assert answer_in(lm, ids, 5, set()) == free[:6]


def test_codes_at_zeroemb_and_outside_of_speech_add_nothing(converted: Converter) -> None:
    lm = opened(converted("f32")[0])
    ids = prompt(lm, lm.text)
    before = lm.decoder(99).read(ids, keep_stages=True)
    ids[1:, :4] = 5  # codes in the first group, which is text
    after = lm.decoder(99).read(ids, keep_stages=True)
    np.testing.assert_array_equal(before[LOGITS], after[LOGITS])
    speech = ids[0, ::4] == lm.empty_id
    assert not before["prefill_audio_features"][~speech].any()
    assert not before["prefill_text_embeds"][speech].any()
    assert before["prefill_audio_features"][speech].any(axis=1).all()
