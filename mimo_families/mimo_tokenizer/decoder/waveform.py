"""From a spectrum to samples in numpy: the inverse short-time Fourier transform. Its reference is `reference.py`."""

import numpy as np
import numpy.typing as npt

from runtime_check.audio.wave import Wave

LOUDEST = 100.0  # of a bin's magnitude
SILENT = 1e-11  # of the squared windows' sum: what lies below cannot be divided by

Spectrum = npt.NDArray[np.float32]  # (frames, nfft + 2): log-magnitudes of nfft / 2 + 1 bins, and then their phases


def inverse_stft(spectrum: Spectrum, window: npt.NDArray[np.float32], hop: int) -> Wave:
    """A spectrum, (frames, nfft + 2), and a window, (nfft,) → (frames × hop,) samples.

    Each frame is irfft(min(eᵃ, 100) · (cos p + i sin p)) × window; overlapping frames are added, and divided by the sum
    of the squared windows. (nfft - hop) / 2 samples are cut off both ends (github.com/XiaomiMiMo/MiMo-Audio, ISTFT with
    `padding="same"`; Siuzdak 2023, Vocos). Raises ZeroDivisionError for a window that leaves samples out.
    """
    n, nfft = len(spectrum), len(window)
    log_magnitude, phase = np.split(spectrum.astype(np.float64), 2, axis=1)
    magnitude = np.minimum(np.exp(np.minimum(log_magnitude, np.log(LOUDEST) + 1)), LOUDEST)
    frames = np.fft.irfft(magnitude * np.exp(1j * phase), nfft) * window
    squares = np.broadcast_to(window.astype(np.float64) ** 2, frames.shape)
    begin = (nfft - hop) // 2
    total, weight = (overlap_add(x, hop)[begin : begin + n * hop] for x in (frames, squares))
    if n and weight.min() <= SILENT:
        raise ZeroDivisionError(f"the squared windows add up to {weight.min():.2g}")
    return np.asarray(total / weight, np.float32)


def overlap_add(frames: npt.NDArray[np.float64], hop: int) -> npt.NDArray[np.float64]:
    """Add frames, (n, size), each `hop` samples later than the one before → at least ((n - 1) × hop + size,)."""
    n, size = frames.shape
    runs = -(-size // hop)
    padded = np.pad(frames, ((0, 0), (0, runs * hop - size))).reshape(n, runs, hop)
    total = np.zeros((n + runs - 1, hop))
    for i in range(runs):
        total[i : i + n] += padded[:, i]
    return total.reshape(-1)
