"""Long audio, cut as the specification says."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimo_families.qwen3_asr import pieces
from mimo_families.qwen3_asr.pieces import CUTTING, cuts
from runtime_check.audio.clips import Clip

from . import plain

RATE = 16_000


def clip_of(wave: np.ndarray, rate: int = RATE) -> Clip:
    return Clip(Path("long.wav"), wave.astype(np.float32), rate, "")


def noise(seconds: float, rate: int = RATE) -> np.ndarray:
    return np.random.default_rng(0).integers(-9000, 9000, int(seconds * rate)).astype(np.float32) / 32768


def test_twenty_minutes_are_one_piece() -> None:
    clip = clip_of(np.zeros(1200 * RATE))
    [part] = CUTTING.cut(clip, 3000)
    assert part.clip is clip
    assert (part.begin, part.end) == (0, 1200)


def test_a_longer_clip_is_cut_in_its_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "LONGEST_SECONDS", 30.0)
    wave = noise(65)
    wave[27 * RATE : 27 * RATE + 2000] *= 0.01  # the pause of 125 ms at 27 s is the quietest
    wave[int(60.2 * RATE) : int(60.2 * RATE) + 1600] = 0
    wave[int(62.8 * RATE) :] *= 0.5
    parts = list(CUTTING.cut(clip_of(wave), 3000))
    assert [part.begin for part in parts[1:]] == [part.end for part in parts[:-1]]
    assert parts[0].begin == 0
    assert 27 <= parts[1].begin <= 27.125
    assert len(parts) == 3
    assert parts[2].begin == pytest.approx(60.2, abs=0.1)
    whole = np.concatenate([part.clip.wave for part in parts])
    np.testing.assert_array_equal(whole[: len(wave)], wave)


def test_a_piece_of_less_than_half_a_second_is_padded() -> None:
    wave = noise(1200.3)
    wave[int(1200.2 * RATE) :] = 0
    *_, last = CUTTING.cut(clip_of(wave), 3000)
    assert last.end - last.begin < 0.5
    assert len(last.clip.wave) == 8000
    assert last.end == pytest.approx(1200.3)


def test_a_clip_that_is_cut_is_scaled_as_a_whole() -> None:
    wave = noise(1300)
    wave[5] = 4.0
    first, second = CUTTING.cut(clip_of(wave), 3000)
    assert first.clip.wave[5] == 1
    np.testing.assert_allclose(second.clip.wave, wave[-len(second.clip.wave) :] / 4, rtol=1e-6)


def test_a_context_that_holds_less_gives_shorter_pieces() -> None:
    parts = list(CUTTING.cut(clip_of(noise(100)), 30))
    assert 100 / 30 < len(parts) <= 100 / 20
    assert all(len(part.clip.wave) <= 30 * RATE for part in parts)


@given(st.integers(0, 2**32 - 1), st.integers(4000, 30_000))
@settings(deadline=None, max_examples=15)
def test_cuts_equal_the_specification(seed: int, n: int) -> None:
    wave = np.random.default_rng(seed).integers(-3, 4, n).astype(np.float32) / 8  # with many ties
    assert list(cuts(wave, 6000, 1200)) == plain.cut_places(wave.astype(np.float64), 6000, 1200)


def test_texts_are_joined_directly() -> None:
    assert "".join(CUTTING.join(["a.", "", "b"])) == "a.b"
