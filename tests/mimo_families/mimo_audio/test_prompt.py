from pathlib import Path

import numpy as np
import pytest

from mimo_convert.formats.config import Config
from mimo_families.mimo_audio import layout as mimo_asr
from mimo_families.mimo_audio.prompt import build_prompt, clean_transcript
from mimo_families.mimo_audio.stages import NO_TEXT
from quantize.errors import InputError
from tests.synthetic import ASR_CONFIG

D = mimo_asr.dimensions(Config(Path("config.json"), ASR_CONFIG))
SOSP, EOSP, EMPTY = 151665, 151666, 151667

# The published tokenizer's ids of each segment (spec/model.md).
PUBLISHED = {
    "<|im_start|>user\n": [151644, 872, 198],
    "Please transcribe this audio file": [5501, 1356, 3114, 419, 7699, 1034],
    "<|im_end|>\n": [151645, 198],
    "<|im_start|>assistant\n": [151644, 77091, 198],
    "<think>\n\n</think>\n<english>": [13708, 766, 1339, 522, 26865, 397, 27, 29120, 29],
    "<think>\n\n</think>\n<chinese>": [13708, 766, 1339, 522, 26865, 397, 27, 1, 2, 29],
    "<think>\n\n</think>\n": [13708, 766, 1339, 522, 26865, 397],
    "<|sosp|>": [SOSP], "<|eosp|>": [EOSP], "<|empty|>": [EMPTY],
}  # fmt: skip


def codes(n_frames: int) -> np.ndarray:
    rng = np.random.default_rng(n_frames)
    return np.stack([rng.integers(0, zero, n_frames) for zero in D.speech_zeroemb], axis=1).astype(np.int32)


def test_jfk_prompt_is_the_published_one() -> None:
    ids = build_prompt(codes(276), PUBLISHED.__getitem__, D)
    assert ids.shape == (9, 376)
    text = ids[0, ::4].tolist()
    assert text == [
        151644, 872, 198, SOSP, *[EMPTY] * 69, EOSP, 5501, 1356, 3114, 419, 7699, 1034, 151645, 198, 151644, 77091, 198,
        13708, 766, 1339, 522, 26865, 397, 27, 29120, 29,
    ]  # fmt: skip
    between = np.delete(ids[0], np.s_[::4])
    assert (between == NO_TEXT).all()


@pytest.mark.parametrize("n_frames", [1, 3, 4, 5, 276, 277])
def test_codes_stand_between_sosp_and_eosp_padded_by_the_last_frame(n_frames: int) -> None:
    frames = codes(n_frames)
    ids = build_prompt(frames, PUBLISHED.__getitem__, D)
    groups = -(-n_frames // 4)
    speech = ids[1:, 4 * 4 : 4 * (4 + groups)].T
    np.testing.assert_array_equal(speech[:n_frames], frames)
    np.testing.assert_array_equal(speech[n_frames:], np.repeat(frames[-1:], 4 * groups - n_frames, axis=0))
    silent = np.delete(ids[1:], np.s_[16 : 16 + 4 * groups], axis=1)
    assert (silent == np.array(D.speech_zeroemb)[:, None]).all()


@pytest.mark.parametrize(("language", "n_groups"), [("english", 94), ("chinese", 95), ("auto", 91)])
def test_the_language_is_a_tag_behind_the_thoughts(language: str, n_groups: int) -> None:
    assert build_prompt(codes(276), PUBLISHED.__getitem__, D, language).shape[1] == 4 * n_groups


def test_a_prompt_beyond_the_context_is_refused() -> None:
    with pytest.raises(InputError, match=r"audio: needs a prompt of \d+ positions; expected fewer than 1024"):
        build_prompt(codes(4100), PUBLISHED.__getitem__, D)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (" And so", "And so"),
        ("<english> And so<|empty|><|eot|>", "And so"),
        ("<chinese>你好<|eostm|>", "你好"),
        ("a < b", "a < b"),
    ],
)
def test_markers_are_no_part_of_the_transcript(answer: str, text: str) -> None:
    assert clean_transcript(answer) == text
