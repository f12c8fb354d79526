"""The mel filters and the window of the front end, as the file stores them."""

import numpy as np

from quantize.kernels import Floats

LINEAR_BELOW = 1000.0  # Hz; above, the Slaney scale is logarithmic


def mel_filters(sample_rate: int, n_fft: int, n_mels: int) -> Floats:
    """Slaney's triangles of equal area from 0 Hz to half the `sample_rate`: (n_fft / 2 + 1, n_mels) float32.

    Source: Slaney, "Auditory Toolbox", 1998, as `librosa.filters.mel` has them by default.
    """
    edges = hz_of(np.linspace(0.0, mel_of(sample_rate / 2), n_mels + 2))
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    bins = np.arange(n_fft // 2 + 1)[:, None] * (sample_rate / n_fft)
    triangles = np.minimum((bins - low) / (middle - low), (high - bins) / (high - middle))
    return (np.maximum(0.0, triangles) * 2 / (high - low)).astype(np.float32)


def mel_of(hz: float) -> float:
    """A frequency on the Slaney scale, 15 mel at 1000 Hz."""
    return 3 * hz / 200 if hz < LINEAR_BELOW else 15 + 27 * float(np.log(hz / LINEAR_BELOW) / np.log(6.4))


def hz_of(mel: np.ndarray) -> np.ndarray:
    """The frequencies of numbers on the Slaney scale."""
    return np.where(mel < 15, 200 * mel / 3, LINEAR_BELOW * np.exp((mel - 15) * np.log(6.4) / 27))


def hann_window(n: int) -> Floats:
    """The periodic Hann window, 0.5 - 0.5 · cos(2πi / n): (n,) float32."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)).astype(np.float32)
