"""Levels that change, as those of speech, and that do not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime_check.audio.clips import Clip, read_clip
from runtime_check.audio.jfk import JFK
from runtime_check.audio.wave import Wave, is_steady
from tests.mimo_families.qwen3_asr.tiny_clips import known_clips


def noise(n: int, seed: int, slope: float) -> Wave:
    """Noise whose power falls with a power of its frequency: 0 white, 1 pink."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(n))
    frequencies = np.maximum(np.arange(len(spectrum)), n // 300)  # below, an amplifier passes nothing
    return np.fft.irfft(spectrum * frequencies ** (-slope / 2), n).astype(np.float32)


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    return [read_clip(JFK), *(read_clip(clip.path) for clip in known_clips())]


@settings(max_examples=30, deadline=None)
@given(
    seconds=st.floats(1.2, 20), rate=st.sampled_from([8_000, 16_000, 44_100]), slope=st.floats(0, 1),
    level=st.floats(-60, 0), seed=st.integers(0, 1 << 30),
)  # fmt: skip
def test_noise_of_any_colour_is_steady(seconds: float, rate: int, slope: float, level: float, seed: int) -> None:
    wave = noise(round(seconds * rate), seed, slope)
    assert is_steady(wave / np.abs(wave).max() * np.float32(10 ** (level / 20)), rate)


def test_silence_and_hum_are_steady() -> None:
    assert is_steady(np.zeros(32_000, np.float32), 16_000)
    assert is_steady(np.sin(np.arange(32_000) * 2 * np.pi * 50 / 16_000).astype(np.float32), 16_000)


def test_speech_is_not_nor_in_noise_as_loud_as_it(clips: list[Clip]) -> None:
    for clip in clips:
        assert not is_steady(clip.wave, clip.rate)
        loud = np.sqrt(np.mean(np.square(clip.wave)))
        white = np.random.default_rng(0).standard_normal(len(clip.wave), np.float32) * loud
        assert not is_steady(clip.wave + white, clip.rate), clip.path


def test_of_a_short_clip_nothing_is_known() -> None:
    assert not is_steady(np.zeros(15_000, np.float32), 16_000)
