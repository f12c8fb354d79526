from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mimo_convert.model.checkpoint import Checkpoint, open_checkpoint
from mimo_convert.write.convert import convert
from mimo_families.mimo_audio.harness import SpeechLM
from mimo_families.mimo_audio.speech.delays import Place, places_by_step
from quantize.errors import InputError
from quantize.types import TYPES
from runtime_check.ggml.graph import Backend, Graph
from tests.opened import make_request, model_file, options_of

from . import plain
from .conftest import Opener
from .speaking import ZEROEMB_TIMES, write_speaking_lm
from .test_generation import plain_weights


def hidden_of(lm: SpeechLM, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(lm.d.hidden_size).astype(np.float32)


def test_eleven_steps_predict_every_code_once_in_the_published_order(speaker: Opener) -> None:
    places = places_by_step(speaker("f32").d)
    channels = [[place.channel for place in step] for step in places]
    assert channels == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5], [3, 4, 5, 6], [4, 5, 6, 7],
                        [5, 6, 7], [6, 7], [7]]  # fmt: skip
    assert len({place for step in places for place in step}) == 32
    assert all(place.frame == t - place.channel for t, step in enumerate(places) for place in step)


@pytest.mark.parametrize(("outtype", "tolerance"), [("f32", 2e-6), ("f16", 2e-3), ("q8_0", 0.05)])
def test_states_and_codes_are_those_of_the_plain_writing(
    speaker: Opener, speaking: Checkpoint, outtype: str, tolerance: float
) -> None:
    lm, codes = speaker(outtype), np.random.default_rng(1).integers(0, 16, (4, 8))
    given = {"scores": [], "expected": []}  # type: dict[str, list[Any]]

    def forced(place: Place, scores: Any) -> int:
        given["scores"].append(scores)
        return int(codes[place.frame, place.channel])

    found = lm.patch_decoder().decode(hidden_of(lm), forced)
    asked = iter([place for step in places_by_step(lm.d) for place in step])

    def choose(scores: Any, channel: int) -> int:
        given["expected"].append(scores)
        place = next(asked)
        assert place.channel == channel
        return int(codes[place.frame, place.channel])

    states, block = plain.local(
        hidden_of(lm).astype(np.float64), plain_weights(speaking), speaking.config.values, choose
    )
    np.testing.assert_array_equal(found.block, block)
    np.testing.assert_allclose(found.hidden, states, atol=tolerance * abs(states).max())
    for ours, theirs in zip(given["scores"], given["expected"], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=tolerance * ZEROEMB_TIMES)


def test_a_group_knows_nothing_of_the_one_before(speaker: Opener) -> None:
    lm = speaker("f32")
    patch = lm.patch_decoder()

    def first_code(place: Place, scores: Any) -> int:
        return int(scores.argmax())

    expected = lm.patch_decoder().decode(hidden_of(lm), first_code)
    patch.decode(hidden_of(lm, seed=1), first_code)
    found = patch.decode(hidden_of(lm), first_code)
    np.testing.assert_array_equal(found.hidden, expected.hidden)
    np.testing.assert_array_equal(found.block, expected.block)


def test_two_graphs_are_planned_and_used_for_every_group(speaker: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    patch, made = speaker("f32").patch_decoder(), []
    init = Graph.__init__
    monkeypatch.setattr(Graph, "__init__", lambda g, *args, **more: (made.append(g), init(g, *args, **more))[1])
    for seed in range(3):
        patch.decode(hidden_of(speaker("f32"), seed), lambda place, scores: 1)
    assert len(made) == 2


def test_a_file_without_speech_generation_cannot_speak(speaking: Checkpoint, tmp_path: Path) -> None:
    convert([make_request(speaking, [TYPES["f32"]], options_of(asr_only=True))], tmp_path, threads=1)
    [path] = tmp_path.glob("*.gguf")
    with pytest.raises(InputError, match="without speech generation; expected one with it"):
        SpeechLM(model_file(path), Backend(1)).patch_decoder()


def test_embeddings_of_another_size_than_the_patch_decoder_are_refused(tmp_path: Path) -> None:
    folder = write_speaking_lm(tmp_path / "lm", local_dim=128)
    convert([make_request(open_checkpoint(str(folder)), [TYPES["f32"]])], tmp_path / "out", threads=1)
    [path] = (tmp_path / "out").glob("*.gguf")
    with pytest.raises(InputError, match="code embeddings of 64 numbers and a patch decoder of 128"):
        SpeechLM(model_file(path), Backend(1)).patch_decoder()
