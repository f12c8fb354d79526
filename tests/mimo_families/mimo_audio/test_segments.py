"""What the model says, text and codes in turns, against a writing of the layout step by step."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimo_convert.formats.config import Config
from mimo_families.mimo_audio import layout as mimo_asr
from mimo_families.mimo_audio.segments import Audio, Spoken, Text, lay_out
from quantize.errors import InputError
from tests.synthetic import ASR_CONFIG

D = mimo_asr.dimensions(Config(Path("config.json"), ASR_CONFIG))
ADDED = {"<|sosp|>": 1000, "<|eosp|>": 1001, "<|empty|>": 1002, "<|sostm|>": 1003, "<|eostm|>": 1004, "<|eot|>": 1005}
SOSTM, EOSTM, EOT, EMPTY = 1003, 1004, 1005, 1002


def encode(text: str) -> list[int]:
    """A token a character, unless it is an added token."""
    return [ADDED[text]] if text in ADDED else [ord(character) - ord("a") for character in text]


def codes(n_frames: int) -> np.ndarray:
    rng = np.random.default_rng(n_frames)
    return np.stack([rng.integers(0, zero, n_frames) for zero in D.speech_zeroemb], axis=1).astype(np.int32)


def in_turns(tokens: list[int], n_groups: int) -> list[int]:
    """The text ids, as the model's paper tells them: five tokens, five groups, and what is left of either."""
    ids, text, groups = [SOSTM], [*tokens], n_groups
    ended = False
    while not ended or groups:
        if not ended:
            run, text = text[:5], text[5:]
            ended = not text
            ids += [*run, EOT] if ended else run
        now = min(5, groups)
        ids += [EMPTY] * now
        groups -= now
    return [*ids, EOSTM]


@given(st.text("abcdefgh", max_size=23), st.integers(1, 99))
def test_text_and_speech_are_in_turns(text: str, n_frames: int) -> None:
    frames = codes(n_frames)
    ids = lay_out([Spoken(text, frames)], encode, D)
    groups = -(-n_frames // D.group_size)
    assert ids[0, :: D.group_size].tolist() == in_turns(encode(text), groups)
    said = ids[1:, (ids[0, :: D.group_size] == EMPTY).repeat(D.group_size)].T
    np.testing.assert_array_equal(said[:n_frames], frames)
    assert (said[n_frames:] == frames[-1]).all()
    silent = ids[1:, (ids[0, :: D.group_size] != EMPTY).repeat(D.group_size)]
    assert (silent == np.array(D.speech_zeroemb)[:, None]).all()


@pytest.mark.parametrize(
    ("text", "n_groups", "expected"),
    [
        ("", 1, [SOSTM, EOT, EMPTY, EOSTM]),
        ("abcde", 6, [SOSTM, 0, 1, 2, 3, 4, EOT, *[EMPTY] * 6, EOSTM]),  # up to six in the last run
        ("abcdef", 11, [SOSTM, 0, 1, 2, 3, 4, *[EMPTY] * 5, 5, EOT, *[EMPTY] * 6, EOSTM]),
        ("abcdefghabc", 2, [SOSTM, 0, 1, 2, 3, 4, EMPTY, EMPTY, 5, 6, 7, 0, 1, 2, EOT, EOSTM]),
    ],
)
def test_runs_of_five(text: str, n_groups: int, expected: list[int]) -> None:
    ids = lay_out([Spoken(text, codes(4 * n_groups))], encode, D)
    assert ids[0, :: D.group_size].tolist() == expected


def test_segments_are_tokenized_each_alone() -> None:
    seen: list[str] = []

    def recorded(text: str) -> list[int]:
        seen.append(text)
        return encode(text)

    lay_out([Text("ab"), Audio(codes(4)), Text("c"), Text("d")], recorded, D)
    assert [text for text in seen if text not in ADDED] == ["ab", "c", "d"]


def test_codes_of_another_model_are_refused() -> None:
    with pytest.raises(InputError, match=r"codes: shape \(4, 3\); expected \(frames, 8\)"):
        lay_out([Spoken("a", codes(4)[:, :3])], encode, D)
    with pytest.raises(InputError, match="some are not codes of this model"):
        lay_out([Audio(codes(4) + 1025)], encode, D)
