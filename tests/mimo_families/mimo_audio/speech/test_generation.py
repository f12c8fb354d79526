from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from mimo_convert.model.checkpoint import Checkpoint
from mimo_families.mimo_audio.harness import SpeechLM
from mimo_families.mimo_audio.layout import FAMILY
from mimo_families.mimo_audio.prompt import Ids
from mimo_families.mimo_audio.speech import generation, reference
from mimo_families.mimo_audio.speech.generation import (
    Group,
    Settings,
    generate,
    generation_of,
    group_ids,
    spoken_codes,
    streamed_codes,
    zero_block,
)
from mimo_families.mimo_audio.speech.sampler import GREEDY, LOCAL, Noise, Sampler
from runtime_check.pytorch.weights import CheckpointWeights
from runtime_check.text.tokenizer import TextTokenizer

from . import plain
from .conftest import Opener

N = 12
ARGMAX = Settings(GREEDY, GREEDY, max_new=N)
DRAWN = Settings(Sampler(0.6, top_p=0.95), LOCAL, max_new=N, seed=3)
PROMPT = "<|im_start|>a<|im_end|><|sostm|>"


def prompt_of(lm: SpeechLM, text: str = PROMPT) -> Ids:
    return group_ids([Group(token, zero_block(lm.d)) for token in lm.text.encode(text)], lm.d)


def pairs(groups: list[Group]) -> list[tuple[int, list[list[int]]]]:
    return [(group.text_id, group.block.tolist()) for group in groups]


def plain_weights(checkpoint: Checkpoint) -> Mapping[str, Any]:
    return {
        name: tensor.read_float32(0, None).reshape(tensor.shape).astype(np.float64)
        for name, tensor in checkpoint.tensors.items()
    }


@pytest.mark.parametrize("settings", [ARGMAX, DRAWN], ids=["argmax", "drawn"])
def test_three_writings_generate_the_same(speaker: Opener, speaking: Checkpoint, settings: Settings) -> None:
    """The harness on F32, PyTorch, and float64 numpy without a cache: text ids and codes equal, and speech among
    them."""
    lm = speaker("f32")
    prompt = prompt_of(lm)
    groups = list(generate(lm, prompt, settings))
    assert 1 < sum(group.text_id == lm.empty_id for group in groups) < N - 1
    assert FAMILY.text is not None
    text = TextTokenizer.from_checkpoint(speaking, lm.d.vocab_size, FAMILY.text)
    with torch.no_grad():
        weights = CheckpointWeights(speaking, torch.float32)
        ids, blocks = reference.generate(weights, prompt, lm.d, text, settings)
    assert list(zip(ids.tolist(), blocks.tolist(), strict=True)) == pairs(groups)
    start = [(int(token), np.tile(lm.d.speech_zeroemb, (4, 1))) for token in prompt[0, ::4]]
    samplers = plain.Sampler(*settings.text), plain.Sampler(*settings.codes)
    expected = plain.generate(
        start, plain_weights(speaking), speaking.config.values, lm.empty_id, samplers, (), N, 0, Noise(settings.seed)
    )
    assert [(token, codes.tolist()) for token, codes in expected] == pairs(groups)


def test_a_seed_decides_every_draw(speaker: Opener) -> None:
    lm = speaker("q4_k")
    first, again, other = (pairs(list(generate(lm, prompt_of(lm), DRAWN._replace(seed=seed)))) for seed in (3, 3, 4))
    assert first == again != other


def test_stop_ids_end_a_generation_and_are_forbidden_before_min_new(speaker: Opener) -> None:
    lm = speaker("f32")
    free = list(generate(lm, prompt_of(lm), ARGMAX))
    stop = free[4].text_id
    assert stop not in [group.text_id for group in free[:4]]
    stopped = ARGMAX._replace(stops=frozenset([stop]))
    assert pairs(list(generate(lm, prompt_of(lm), stopped))) == pairs(free[:5])
    later = list(generate(lm, prompt_of(lm), stopped._replace(min_new=8)))
    assert pairs(later[:4]) == pairs(free[:4])
    assert len(later) >= 8
    assert stop not in [group.text_id for group in later[:8]]


def test_a_generation_ends_at_the_end_of_the_context(speaker: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = speaker("f32")
    monkeypatch.setattr(generation, "MOST_GROUPS", lm.length(prompt_of(lm)) + 5)
    assert len(list(generate(lm, prompt_of(lm), ARGMAX))) == 5


def test_a_cache_that_is_enlarged_on_the_way_changes_nothing(speaker: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = speaker("f32")
    expected = pairs(list(generate(lm, prompt_of(lm), ARGMAX)))
    monkeypatch.setattr(generation, "ROOM", 2)
    assert pairs(list(generate(lm, prompt_of(lm), ARGMAX))) == expected


def test_a_history_holds_the_stop_group_and_a_next_prompt_goes_on_from_it(
    speaker: Opener, speaking: Checkpoint
) -> None:
    """The keys and values of a second turn are those of the whole sequence, read anew."""
    lm = speaker("f32")
    prompt = prompt_of(lm)
    free = list(generate(lm, prompt, ARGMAX))
    groups = list(generate(lm, prompt, ARGMAX._replace(stops=frozenset([free[6].text_id]))))
    said = generation_of(prompt, groups, lm.text, lm.d)
    assert said.history.shape[1] == prompt.shape[1] + 4 * len(groups)
    assert said.history[0, -4] == groups[-1].text_id
    blocks = [torch.from_numpy(group.block) for group in groups]
    theirs = reference.history(prompt, [group.text_id for group in groups], blocks, lm.d)
    np.testing.assert_array_equal(said.history, theirs)
    following = np.concatenate([said.history, prompt], axis=1)
    again = pairs(list(generate(lm, following, ARGMAX._replace(max_new=3))))
    start = [(int(following[0, i]), following[1:, i : i + 4].T) for i in range(0, following.shape[1], 4)]
    greedy = plain.Sampler(1, 0, 1, False)
    values = speaking.config.values
    expected = plain.generate(start, plain_weights(speaking), values, lm.empty_id, (greedy, greedy), (), 3, 0, Noise(0))
    assert [(token, codes.tolist()) for token, codes in expected] == again


def made(lm: SpeechLM, *texts: str) -> list[Group]:
    """Groups by their text; `1`, `2` … are speech, all of whose codes are that number, `_` the zeroemb ids."""

    def group(text: str) -> Group:
        if text == "_":
            return Group(lm.empty_id, zero_block(lm.d))
        if text.isdigit():
            return Group(lm.empty_id, np.full((4, 8), int(text), np.int32))
        return Group(lm.text.encode(text)[0], zero_block(lm.d))

    return [group(text) for text in texts]


@pytest.mark.parametrize(
    ("texts", "heard"),
    [
        (["1", "2", "e"], [1, 2]),
        (["1", "<|sostm|>", "2", "e", "3", "<|eostm|>", "4", "e"], [2, 3]),
        (["1", "<|eostm|>", "2", "e"], [1]),
        (["1", "_", "2", "3"], [1, 2]),
        (["e", "<|sostm|>", "e"], []),
        (["<|sostm|>", "1", "<|sostm|>", "2", "e"], [1, 2]),
        (["<|eostm|>"], []),
    ],
)
def test_codes_are_those_between_the_markers_without_the_last_group(
    speaker: Opener, texts: list[str], heard: list[int]
) -> None:
    lm = speaker("f32")
    groups = made(lm, *texts)
    codes = generation_of(prompt_of(lm), groups, lm.text, lm.d).codes
    assert codes.shape == (4 * len(heard), 8)
    assert codes[::4, 0].tolist() == heard
    thinking = prompt_of(lm, "<|im_start|>assistant\n")
    chunks = list(streamed_codes(iter(groups), thinking, lm.text, lm.d))
    np.testing.assert_array_equal(np.concatenate([np.zeros((0, 8), np.int32), *chunks]), codes)


def test_codes_are_streamed_a_group_behind(speaker: Opener) -> None:
    lm = speaker("f32")
    groups, seen = made(lm, "1", "e", "2", "<|eostm|>", "3", "e"), []

    def coming() -> Any:
        for i, group in enumerate(groups):
            seen.append(i)
            yield group

    chunks = streamed_codes(coming(), prompt_of(lm), lm.text, lm.d)
    assert (next(chunks)[:, 0].tolist(), seen) == ([1] * 4, [0, 1])
    assert (next(chunks)[:, 0].tolist(), seen) == ([2] * 4, [0, 1, 2, 3])
    assert (list(chunks), len(seen)) == ([], len(groups))  # what follows is generated, and not heard


def test_text_is_decoded_with_special_tokens_and_without_markers_of_speech(speaker: Opener) -> None:
    lm = speaker("f32")
    groups = made(lm, "a", "1", "<|eot|>", "<|im_end|>", "b", "<|eostm|>", "c")
    assert generation_of(prompt_of(lm), groups, lm.text, lm.d).text == "a<|im_end|>b"
    assert len(spoken_codes(groups, lm.text, lm.d)) == 4
