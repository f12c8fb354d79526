"""Reverberation: the convolution with noise that decays exponentially."""

import numpy as np

from .level import Samples

DECAY_DB = 60.0  # by which sound has decayed after RT60
BLOCK = 1 << 17  # samples convolved at once, at least, so that memory does not grow with the clip


def impulse_response(seconds: float, rate: int, rng: np.random.Generator) -> Samples:
    """The impulse response of a diffuse field with an RT60 of `seconds`: white noise that decays exponentially, by
    60 dB at its end, without direct sound.

    The noise is ±1 by chance, so that the energy decays exactly so, whatever was drawn.
    """
    n = max(1, round(seconds * rate))
    signs = 2.0 * rng.integers(0, 2, n) - 1
    return signs * 10 ** (-DECAY_DB / 20 * np.arange(n) / (seconds * rate))


def convolve(wave: Samples, taps: Samples) -> Samples:
    """The convolution of (samples,) with (taps,): (samples + taps - 1,), by overlap-add of FFTs."""
    block = max(BLOCK, 1 << (len(taps) - 1).bit_length())
    size = 2 * block
    response = np.fft.rfft(taps, size)
    out = np.zeros(len(wave) + len(taps) - 1)
    for begin in range(0, len(wave), block):
        part = np.fft.irfft(np.fft.rfft(wave[begin : begin + block], size) * response, size)
        n = min(size, len(out) - begin)
        out[begin : begin + n] += part[:n]
    return out
