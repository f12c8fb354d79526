import numpy as np
import pytest
import torch

from mimo_convert.model.checkpoint import Checkpoint
from mimo_families.mimo_audio.layout import FAMILY
from mimo_families.mimo_audio.speech import reference
from mimo_families.mimo_audio.speech.forcing import chosen, force, groups_of
from mimo_families.mimo_audio.speech.generation import Settings, generate
from mimo_families.mimo_audio.speech.stages import BLOCKS, DROPPED, HISTORY, SPEECH_STAGES, TEXT_IDS
from mimo_families.mimo_audio.stages import STAGES
from runtime_check.pytorch.weights import CheckpointWeights
from runtime_check.run.activations import GREEDY, INCREMENTAL_LOGITS, RESPONSE, RESPONSE_LOGITS, Stages
from runtime_check.run.stages import stage_named
from runtime_check.text.tokenizer import TextTokenizer

from .conftest import Opener
from .test_generation import ARGMAX, DRAWN, pairs, prompt_of


def both(speaker: Opener, speaking: Checkpoint, settings: Settings) -> tuple[Stages, Stages]:
    """The stages of the F32 file's groups, and PyTorch's of the same groups."""
    lm = speaker("f32")
    prompt = prompt_of(lm)
    groups = list(generate(lm, prompt, settings))
    assert pairs(groups_of(chosen(groups))) == pairs(groups)
    ours = chosen(groups) | force(lm, prompt, groups)
    assert FAMILY.text is not None
    text = TextTokenizer.from_checkpoint(speaking, lm.d.vocab_size, FAMILY.text)
    ids, blocks = torch.from_numpy(ours[TEXT_IDS]).long(), torch.from_numpy(ours[BLOCKS]).long()
    with torch.no_grad():
        weights = CheckpointWeights(speaking, torch.float32)
        theirs = reference.force(weights, prompt, ids, blocks, lm.d, text, settings)
    return ours, {name: x.numpy() for name, x in theirs.items()}


@pytest.mark.parametrize("settings", [ARGMAX, DRAWN], ids=["argmax", "drawn"])
def test_every_stage_of_given_groups_equals_pytorch(speaker: Opener, speaking: Checkpoint, settings: Settings) -> None:
    """Given the harness's groups, PyTorch chooses the same at every place, drawn or not; in one pass and step by
    step."""
    ours, theirs = both(speaker, speaking, settings)
    assert set(ours) - {INCREMENTAL_LOGITS} == set(theirs) - {HISTORY}
    for name in (TEXT_IDS, BLOCKS, DROPPED, GREEDY, RESPONSE):
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    for name in set(ours) & set(theirs):
        scale = max(1e-9, float(np.abs(theirs[name]).max()))
        np.testing.assert_allclose(ours[name], theirs[name], atol=1e-5 * scale, err_msg=name)
    np.testing.assert_allclose(ours[INCREMENTAL_LOGITS], ours[RESPONSE_LOGITS], atol=1e-4)
    known = {RESPONSE, RESPONSE_LOGITS, GREEDY}
    assert all(stage_named((*STAGES, *SPEECH_STAGES), name) for name in theirs.keys() - known)


def test_shapes_are_those_of_the_document(speaker: Opener, speaking: Checkpoint) -> None:
    ours, _ = both(speaker, speaking, ARGMAX)
    d, n = speaker("f32").d, ARGMAX.max_new
    n_speech = len(ours["gen_code_logits.0"])
    expected = {
        "gen_text_ids": (n,), "gen_blocks": (n, 4, 8), "gen_last_hidden": (n, d.hidden_size),
        "gen_local_input": (n, d.patch_dim), "local_hidden": (11, d.patch_dim), "local_logits.0": (4, 33),
        "local_logits.7": (4, 17), "gen_code_logits.2": (n_speech, 4, 17),
    }  # fmt: skip
    assert {name: ours[name].shape for name in expected} == expected
    assert n_speech == (ours["gen_text_ids"] == speaker("f32").empty_id).sum()
    assert not ours["gen_local_input"][ours["gen_text_ids"] != speaker("f32").empty_id].any()
