"""Mono waveforms and resampling."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Wave = npt.NDArray[np.float32]  # (samples,)
SAMPLING_RATES = range(1_000, 768_001)  # in Hz
PIECE_SECONDS, LEAST_PIECES, STEADY = 0.1, 10, 1.0  # whose levels are compared, and their standard deviation, dB
BLOCK = 1 << 16  # samples resampled at once, so that memory does not grow with the clip


class Sound(NamedTuple):
    """A waveform, (samples,) at `rate` Hz, and what it is."""

    title: str
    wave: Wave
    rate: int


def resample(wave: Wave, rate: int, new_rate: int) -> Wave:
    """Resample (samples,) at `rate` to (ceil(samples × new_rate / rate),), by a windowed sinc.

    Source: torchaudio.functional.resample with its defaults: sinc_interp_hann, lowpass_filter_width 6, rolloff 0.99.
    """
    if rate == new_rate:
        return wave
    length = math.ceil(len(wave) * new_rate / rate)
    divisor = math.gcd(rate, new_rate)
    old, new = rate // divisor, new_rate // divisor
    cutoff, zeros = min(old, new) * 0.99, 6
    width = math.ceil(zeros * old / cutoff)
    first = np.arange(new) * old // new  # (new,): of each phase's taps, the others are zero
    taps = first[:, None] + np.arange(2 * width + 2)
    t = np.clip(((taps - width) / old - np.arange(new)[:, None] / new) * cutoff, -zeros, zeros)
    window = np.cos(t * np.pi / zeros / 2) ** 2
    kernel = (np.sinc(t) * window * cutoff / old).astype(np.float32)  # (new, 2 width + 2)
    padded = np.pad(wave, (width, width + old + 2))
    spans = np.lib.stride_tricks.sliding_window_view(padded, 2 * width + 2)
    out = np.empty(length, np.float32)
    for begin in range(0, length, BLOCK):
        positions = np.arange(begin, min(begin + BLOCK, length))
        starts = positions // new * old + first[positions % new]
        out[positions] = np.einsum("ij,ij->i", spans[starts], kernel[positions % new])
    return out


def is_steady(wave: Wave, rate: int) -> bool:
    """Whether the level of (samples,) at `rate` hardly changes, as that of stationary noise, a hum or silence, and as
    that of speech never does: in pieces of PIECE_SECONDS it has a standard deviation below STEADY. Of less than
    LEAST_PIECES nothing is known: False."""
    length = round(PIECE_SECONDS * rate)
    n = len(wave) // length
    power = np.square(wave[: n * length].reshape(n, length), dtype=np.float64).mean(axis=1)
    return n >= LEAST_PIECES and float(np.std(10 * np.log10(np.maximum(power, 1e-12)))) < STEADY
