"""Noise of a clip's length: white, pink, and the babble of other clips."""

import math
from collections.abc import Sequence

import numpy as np

from runtime_check.audio.clips import Clip
from runtime_check.audio.wave import resample

from .level import Samples, audible_rms
from .reverb import convolve

LOWEST = 20.0  # Hz: pink noise has nothing below, where it would be as strong as in all octaves above and not be heard
FILTER_SECONDS = 1.0  # of the filter that makes noise pink: a resolution of 1 Hz


def white(n: int, rate: int, rng: np.random.Generator) -> Samples:
    """White Gaussian noise of variance 1, (n,)."""
    return rng.standard_normal(n)


def pink(n: int, rate: int, rng: np.random.Generator) -> Samples:
    """Pink Gaussian noise, (n,): power that falls with 1 / f from LOWEST Hz on, by 3 dB an octave."""
    taps = pink_filter(rate)
    return convolve(rng.standard_normal(n + len(taps) - 1), taps)[len(taps) - 1 : n + len(taps) - 1]


def pink_filter(rate: int) -> Samples:
    """The impulse response, of FILTER_SECONDS, that makes white noise pink."""
    n = int(FILTER_SECONDS * rate)
    frequencies = np.fft.rfftfreq(n, 1 / rate)
    gains = np.where(frequencies >= LOWEST, 1 / np.sqrt(np.maximum(frequencies, LOWEST)), 0)
    return np.roll(np.fft.irfft(gains, n), n // 2)


def babble(voices: Sequence[Clip], n: int, rate: int, rng: np.random.Generator) -> Samples:
    """Voices at once, (n,) at `rate` Hz, all of the same RMS as a whole; each from the first sound behind a drawn place
    on, and again from its begin.

    Raises InputError for a voice that is silent.
    """
    mixed = np.zeros(n)
    for voice in voices:
        begin = _sound_from(voice, int(rng.integers(len(voice.wave))))
        places = np.arange(begin, begin + math.ceil(n * voice.rate / rate) + 1)
        part = resample(voice.wave.take(places, mode="wrap"), voice.rate, rate)[:n]
        mixed += part / audible_rms(voice)
    return mixed


def _sound_from(voice: Clip, place: int) -> int:
    """The first sample that is not zero from a place on, else from the begin on: some voice is heard in every part."""
    sounds = voice.wave != 0
    rest = int(sounds[place:].argmax())
    return place + rest if sounds[place + rest] else int(sounds.argmax())
