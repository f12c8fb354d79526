"""Noise and reverberation, against their definitions."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimo_agreement.conditions.level import rms
from mimo_agreement.conditions.noise import babble, pink, white
from mimo_agreement.conditions.reverb import BLOCK, convolve, impulse_response

from .sounds import clip_of_noise

RATES = (8000, 16_000, 44_100)


def octave_powers(wave: np.ndarray, rate: int) -> list[float]:
    """Power in octaves from 50 Hz on, in dB."""
    power, frequencies = np.abs(np.fft.rfft(wave)) ** 2, np.fft.rfftfreq(len(wave), 1 / rate)
    edges = 50 * 2.0 ** np.arange(6)
    return [10 * np.log10(power[(frequencies >= low) & (frequencies < 2 * low)].sum()) for low in edges]


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize(("noise", "rise"), [(white, 3.01), (pink, 0.0)])
def test_power_by_octave(noise, rise: float, rate: int) -> None:  # type: ignore[no-untyped-def]
    powers = octave_powers(noise(20 * rate, rate, np.random.default_rng(0)), rate)
    assert np.allclose(np.diff(powers), rise, atol=0.3)


def test_pink_noise_has_nothing_that_is_not_heard() -> None:
    wave = pink(160_000, 16_000, np.random.default_rng(0)) * np.hanning(160_000)
    power, frequencies = np.abs(np.fft.rfft(wave)) ** 2, np.fft.rfftfreq(len(wave), 1 / 16_000)
    assert power[frequencies < 18].sum() < 1e-3 * power.sum()


@pytest.mark.parametrize("n", [1, 2, 100, 3 * BLOCK + 7])
def test_noise_has_the_length_of_the_clip(n: int) -> None:
    assert len(pink(n, 16_000, np.random.default_rng(0))) == len(white(n, 16_000, np.random.default_rng(0))) == n


def test_voices_of_babble_are_equally_loud() -> None:
    loud, soft = clip_of_noise(3000, 1.0, 1), clip_of_noise(3000, 1e-4, 2)
    both = babble([loud, soft], 3000, 16_000, np.random.default_rng(0))
    alone = babble([loud], 3000, 16_000, np.random.default_rng(0))
    assert rms(both - alone) == pytest.approx(rms(alone), rel=1e-3)
    assert rms(alone) == pytest.approx(1, rel=1e-3)


def test_a_short_voice_is_heard_again() -> None:
    voice = replace(clip_of_noise(10, 0.1, 1), wave=np.arange(1, 11, dtype=np.float32))
    wave = babble([voice], 35, 16_000, np.random.default_rng(0))
    assert wave[:25] == pytest.approx(wave[10:])


@settings(deadline=None)
@given(st.integers(50, 10_000).map(lambda n: n / 1000), st.sampled_from(RATES), st.integers(0, 2**32))
def test_the_rt60_of_the_impulse_response_is_the_one_that_was_asked_for(seconds: float, rate: int, seed: int) -> None:
    taps = impulse_response(seconds, rate, np.random.default_rng(seed))
    decay = 10 * np.log10(np.cumsum((taps**2)[::-1])[::-1] / np.sum(taps**2))  # Schroeder 1965
    begin, end = (int(np.argmax(decay <= level)) for level in (-5, -35))  # T30 of ISO 3382
    slope = np.polyfit(np.arange(begin, end) / rate, decay[begin:end], 1)[0]
    assert -60 / slope == pytest.approx(seconds, rel=0.01)


def test_the_impulse_response_is_white() -> None:
    taps = impulse_response(2.0, 16_000, np.random.default_rng(0))
    power = np.abs(np.fft.rfft(taps)) ** 2
    bands = [band.mean() for band in np.array_split(power, 8)]
    assert np.allclose(bands, np.mean(power), rtol=0.2)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 99))
def test_convolution_is_that_of_its_sum(n: int, taps: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    wave, response = rng.standard_normal(n), rng.standard_normal(taps)
    assert np.allclose(convolve(wave, response), np.convolve(wave, response))


def test_blocks_of_a_long_clip_are_joined() -> None:
    rng = np.random.default_rng(0)
    wave, response = rng.standard_normal(2 * BLOCK + 5), rng.standard_normal(50)
    assert np.allclose(convolve(wave, response), np.convolve(wave, response))


def test_noise_stays_what_it_was() -> None:
    """A store holds what was heard: numpy that draws otherwise would mix two kinds of noise in it."""
    rng = np.random.default_rng(12345)
    assert white(3, 16_000, rng) == pytest.approx([-1.42382504, 1.26372846, -0.87066174], abs=1e-8)
    assert list(np.sign(impulse_response(0.05, 100, np.random.default_rng(12345)))) == [1, -1, 1, -1, -1]
