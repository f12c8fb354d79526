"""The level of sound, and the ratio of two."""

import numpy as np
import numpy.typing as npt

from quantize.errors import InputError
from runtime_check.audio.clips import Clip

SILENT = 1e-10  # RMS, below which there is nothing to be heard: -200 dB

Samples = npt.NDArray[np.float64]  # (samples,)


def rms(wave: npt.NDArray[np.floating]) -> float:
    """The root of the mean square of (samples,): over the whole clip, its pauses included."""
    return float(np.sqrt(np.mean(np.square(wave, dtype=np.float64))))


def audible_rms(clip: Clip) -> float:
    """The RMS of a clip. Raises InputError for one that is silent."""
    level = rms(clip.wave)
    if level < SILENT:
        raise InputError(clip.path, "is silent", expected="sound, whose level others are set by", todo="leave it out")
    return level


def snr_db(signal: npt.NDArray[np.floating], noise: npt.NDArray[np.floating]) -> float:
    """The signal-to-noise ratio by RMS, in dB."""
    return float(20 * np.log10(rms(signal) / rms(noise)))
