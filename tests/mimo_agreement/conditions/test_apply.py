"""Clips in conditions: what was asked for is measured on the result."""

import hashlib
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimo_agreement.conditions.apply import apply
from mimo_agreement.conditions.condition import NOISES, Condition, parse_condition
from mimo_agreement.conditions.level import rms, snr_db
from quantize.errors import InputError

from .sounds import clip_of_noise, voices

VOICES = voices()
CLIPS = st.builds(clip_of_noise, st.integers(2, 6000), st.sampled_from([1e-6, 1e-3, 0.1, 1.0, 3e4]), st.integers(0, 99))
EVERY = ["noise:white:5dB", "noise:pink:5dB", "noise:babble:5dB", "reverb:0.3s"]  # that draw something


@settings(deadline=None)
@given(CLIPS, st.sampled_from(NOISES), st.floats(-50, 100), st.integers(0, 2**32))
def test_the_snr_is_the_one_that_was_asked_for(clip, noise, snr, seed) -> None:  # type: ignore[no-untyped-def]
    noisy = apply(Condition("noise", snr, noise), clip, VOICES, seed)
    assert len(noisy.wave) == len(clip.wave)
    assert snr_db(clip.wave, noisy.wave.astype(np.float64) - clip.wave) == pytest.approx(snr, abs=0.01)


@pytest.mark.parametrize("snr", [-20, 0])
def test_loud_noise_is_not_clipped(snr: int) -> None:
    clip = clip_of_noise(4000, 0.5, 1)
    noisy = apply(Condition("noise", snr, "white"), clip, [], 0)
    assert np.abs(noisy.wave).max() > 1
    assert snr_db(clip.wave, noisy.wave - clip.wave) == pytest.approx(snr, abs=0.01)


@settings(deadline=None)
@given(CLIPS, st.integers(50, 2000))
def test_reverberation_keeps_the_level_and_adds_its_tail(clip, milliseconds) -> None:  # type: ignore[no-untyped-def]
    heard = apply(Condition("reverb", milliseconds / 1000), clip, [], 0)
    assert len(heard.wave) == len(clip.wave) + round(milliseconds / 1000 * clip.rate) - 1
    assert 20 * math.log10(rms(heard.wave) / rms(clip.wave)) == pytest.approx(0, abs=0.01)


@settings(deadline=None)
@given(CLIPS, st.integers(500, 2000))
def test_speed_divides_the_length_by_the_factor(clip, thousandths) -> None:  # type: ignore[no-untyped-def]
    heard = apply(Condition("speed", thousandths / 1000), clip, [], 0)
    assert len(heard.wave) == math.ceil(len(clip.wave) * 1000 / thousandths)
    assert heard.rate == clip.rate


def test_speed_raises_the_pitch() -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000).astype(np.float32)
    heard = apply(parse_condition("speed:1.25"), replace(clip_of_noise(10, 1, 1), wave=tone), [], 0)
    power = np.abs(np.fft.rfft(heard.wave))
    assert np.argmax(power) * 16_000 / len(heard.wave) == pytest.approx(1250, abs=2)


@pytest.mark.parametrize("text", EVERY)
def test_a_seed_gives_the_same_samples_and_another_gives_others(text: str) -> None:
    condition, clip = parse_condition(text), clip_of_noise(5000, 0.1, 1)
    first, again, other = (apply(condition, clip, VOICES, seed) for seed in (7, 7, 8))
    assert first.wave.tobytes() == again.wave.tobytes()
    assert first.sha256 == again.sha256 != other.sha256
    assert first.wave.tobytes() != other.wave.tobytes()


@pytest.mark.parametrize("text", EVERY)
def test_the_order_of_other_clips_changes_nothing(text: str) -> None:
    condition, clip = parse_condition(text), clip_of_noise(5000, 0.1, 1)
    first = apply(condition, clip, VOICES, 7)
    assert apply(condition, clip, [*VOICES[::-1], clip], 7).sha256 == first.sha256


@pytest.mark.parametrize("text", EVERY)
def test_clips_with_the_same_sound_hear_noise_of_their_own(text: str) -> None:
    clip = clip_of_noise(5000, 0.1, 1)
    heard = [apply(parse_condition(text), replace(clip, sha256=name), VOICES, 7).sha256 for name in ("a", "b")]
    assert heard[0] != heard[1]


def test_noise_at_another_level_is_other_noise() -> None:
    clip = clip_of_noise(5000, 0.1, 1)
    five, ten = (apply(Condition("noise", snr, "white"), clip, [], 0).wave - clip.wave for snr in (5, 10))
    assert abs(np.corrcoef(five, ten)[0, 1]) < 0.1


@pytest.mark.parametrize("text", [*EVERY, "speed:1.1"])
def test_a_clip_in_a_condition_says_so_and_keeps_its_text(text: str) -> None:
    clip = clip_of_noise(5000, 0.1, 1)
    heard = apply(parse_condition(text), clip, VOICES, 7)
    assert heard.path == Path(f"clip1.{text.replace(':', '-')}.wav")
    assert (heard.text, heard.source, heard.rate) == (clip.text, clip.source, clip.rate)
    assert heard.wave.dtype == np.float32
    assert heard.sha256 == hashlib.sha256(heard.wave.astype("<f4").tobytes()).hexdigest()


def test_a_clean_clip_is_the_clip_itself() -> None:
    clip = replace(clip_of_noise(50, 0.1, 1), wave=np.zeros(50, np.float32))
    assert apply(parse_condition("clean"), clip, [], 0) is clip


@pytest.mark.parametrize("text", EVERY)
@pytest.mark.parametrize("level", [0.0, 1e-12])
def test_a_silent_clip_is_named(text: str, level: float) -> None:
    silent = replace(clip_of_noise(50, 0.1, 1), wave=np.full(50, level, np.float32), path=Path("quiet.wav"))
    with pytest.raises(InputError, match=r"quiet\.wav: is silent"):
        apply(parse_condition(text), silent, VOICES, 0)


def test_a_silent_voice_is_named() -> None:
    silent = replace(VOICES[0], wave=np.zeros(50, np.float32), path=Path("quiet.wav"))
    with pytest.raises(InputError, match=r"quiet\.wav: is silent"):
        apply(parse_condition("noise:babble:5dB"), clip_of_noise(50, 0.1, 1), [silent], 0)


def test_a_voice_that_is_mostly_silence_is_heard() -> None:
    wave = np.zeros(100_000, np.float32)
    wave[70_000:70_100] = 0.1
    voice, clip = replace(VOICES[0], wave=wave), clip_of_noise(40, 0.1, 1)
    for seed in range(8):
        noisy = apply(parse_condition("noise:babble:5dB"), clip, [voice], seed)
        assert snr_db(clip.wave, noisy.wave - clip.wave) == pytest.approx(5, abs=0.01)
