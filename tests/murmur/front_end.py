"""Mono wave → stacked frames of log power in bands, and the prompt's ids; both sides compute them here."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from quantize.errors import InputError
from runtime_check.audio.wave import Wave, resample

from .layout import Dims

RATE, WINDOW, HOP = 16_000, 400, 160  # in Hz and samples
LANGUAGES = {"en": "<en>", "fr": "<fr>"}

Frames = npt.NDArray[np.float32]  # (frames, n_bands × stacked)


def frames_of(wave: Wave, rate: int, d: Dims) -> Frames:
    """A clip at `rate` → stacked frames: log10 of the mean power of equal bands, over windows of 25 ms."""
    wave = resample(wave, rate, RATE)
    wave = np.pad(wave, (0, max(0, WINDOW - len(wave))))
    windows = np.lib.stride_tricks.sliding_window_view(wave, WINDOW)[::HOP] * np.hanning(WINDOW).astype(np.float32)
    power = np.abs(np.fft.rfft(windows)).astype(np.float32)[:, 1:] ** 2
    bands = np.stack([band.mean(axis=1) for band in np.array_split(power, d.n_bands, axis=1)], axis=1)
    log_power = np.log10(np.maximum(bands, 1e-8)).astype(np.float32)
    log_power = np.pad(log_power, ((0, -len(log_power) % d.stacked), (0, 0)))
    return log_power.reshape(-1, d.frame)


def tokens_of(n_frames: int, encode: Callable[[str], list[int]], d: Dims, language: str) -> npt.NDArray[np.int32]:
    """The prompt's ids, (1, positions): start, a token in the place of each frame, the task, the language.

    Raises InputError if they leave no room in the context.
    """
    ids = [*encode("<s>"), *encode("<audio>") * n_frames, *encode(f"<listen>{LANGUAGES.get(language, '')}")]
    if len(ids) >= d.context:
        raise InputError("audio", f"needs a prompt of {len(ids)} positions", expected=f"fewer than {d.context}")
    return np.array([ids], np.int32)
