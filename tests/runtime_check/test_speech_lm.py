from pathlib import Path

import numpy as np
import pytest
import torch

from mimo_convert.checkpoint import Checkpoint
from quantize.types import TYPES
from runtime_check import reference
from runtime_check.activations import LOGITS
from runtime_check.compare import cosines
from runtime_check.graph import Backend
from runtime_check.prompt import Ids, build_prompt
from runtime_check.speech_lm import SpeechLM
from runtime_check.text_tokenizer import TextTokenizer

from .conftest import Converter

N_TOKENS = 8


def prompt(lm: SpeechLM, text: TextTokenizer, n_frames: int = 30) -> Ids:
    rng = np.random.default_rng(0)
    codes = np.stack([rng.integers(0, zero + 1, n_frames) for zero in lm.d.speech_zeroemb], axis=1)  # some at zeroemb
    return build_prompt(codes.astype(np.int32), text.encode, lm.d)


def compare_with_pytorch(path: Path, checkpoint: Checkpoint, least: float) -> None:
    """Every stage and eight greedy tokens of the file at `path` against its checkpoint."""
    lm = SpeechLM(path, Backend(2))
    theirs = TextTokenizer.from_checkpoint(checkpoint.folder, lm.d.vocab_size)
    text = lm.text
    ids = prompt(lm, text)
    np.testing.assert_array_equal(ids, prompt(lm, theirs))
    context = lm.prefill(ids, N_TOKENS, keep_stages=True)
    with torch.no_grad():
        stages, answer = reference.answer_prompt(checkpoint, ids, theirs, N_TOKENS)
    assert set(stages) - set(context.stages) == {"prompt_ids", "greedy_ids"}
    for name, ours in context.stages.items():
        assert ours.shape == tuple(stages[name].shape), name
        assert cosines(ours, stages[name].numpy()).min() >= least, name
    assert list(context.greedy(N_TOKENS, text.stops)) == answer


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
        lm = SpeechLM(converted(outtype, fuse_qkv)[0], Backend(2))
        logits.append(lm.prefill(prompt(lm, lm.text), 1).stages[LOGITS])
    np.testing.assert_array_equal(*logits)


def test_a_cached_step_equals_the_whole_pass(converted: Converter) -> None:
    """Feeding the answer as part of the prompt gives the logits that decoding step by step gave."""
    lm = SpeechLM(converted("f32")[0], Backend(2))
    text = lm.text
    ids = prompt(lm, text)
    context = lm.prefill(ids, N_TOKENS)
    tokens = list(context.greedy(N_TOKENS, set()))
    last = context.step(tokens[-1])
    groups = np.tile(ids[:, :4], N_TOKENS)  # a text group, whose channels are all at zeroemb
    groups[0, ::4] = tokens
    whole = lm.prefill(np.concatenate([ids, groups], axis=1), 1).stages[LOGITS]
    np.testing.assert_allclose(last, whole, atol=1e-4)


def test_answers_end_at_a_stop_token_and_at_the_end_of_the_room(converted: Converter) -> None:
    lm = SpeechLM(converted()[0], Backend(2))
    text = lm.text
    ids = prompt(lm, text)
    free = list(lm.prefill(ids, 20).greedy(20, set()))
    assert len(free) == 20
    stop = next(token for i, token in enumerate(free) if i and token not in free[:i])
    assert list(lm.prefill(ids, 20).greedy(20, {stop})) == free[: free.index(stop) + 1]
    assert list(lm.prefill(ids, 5).greedy(20, set())) == free[:6]


def test_codes_at_zeroemb_and_outside_of_speech_add_nothing(converted: Converter) -> None:
    lm = SpeechLM(converted("f32")[0], Backend(2))
    text = lm.text
    ids = prompt(lm, text)
    before = lm.prefill(ids, 1, keep_stages=True).stages
    ids[1:, :4] = 5  # codes in the first group, which is text
    after = lm.prefill(ids, 1, keep_stages=True).stages
    np.testing.assert_array_equal(before[LOGITS], after[LOGITS])
    speech = ids[0, ::4] == lm.empty_id
    assert not before["prefill_audio_features"][~speech].any()
    assert not before["prefill_text_embeds"][speech].any()
    assert before["prefill_audio_features"][speech].any(axis=1).all()
