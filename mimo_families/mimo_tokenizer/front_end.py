"""Audio front end in numpy: mono waveform at the model's rate → log-mel features, float32.

Recognition cuts the waveform into chunks of 30 s, each with features of its own. Models that speak cut the features of
the whole clip into segments.

Its reference is `reference.py`; this one needs no torch, so that files can be validated where torch is not installed.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from runtime_check.audio.wave import Wave

from .layout import AudioTokenizerDims

CHUNK_SECONDS = 30
SEGMENT_FRAMES = 6000  # mel frames of a segment, a minute
SEGMENTS_IN_BATCH = 42  # that upstream encodes at once, all as long as the longest
FRAMES_AT_ONCE = SEGMENT_FRAMES  # whose spectra are in memory together


def chunks(wave: Wave, d: AudioTokenizerDims) -> list[Wave]:
    """Cut into 30 s chunks; a last chunk shorter than a window is joined to the one before, a shorter clip
    zero-padded."""
    size = CHUNK_SECONDS * d.sampling_rate
    parts = [wave[i : i + size] for i in range(0, max(len(wave), 1), size)]
    if len(parts) > 1 and len(parts[-1]) < d.nfft:
        parts[-2:] = [np.concatenate(parts[-2:])]
    return [np.pad(part, (0, max(0, d.nfft - len(part)))) for part in parts]


class Segment(NamedTuple):
    """Mel frames `begin` … `end` of a clip. If it is `padded`, upstream encodes it beside longer ones: behind its end,
    the convolutions see what they make of zeros, and the pooling sees the last state again."""

    begin: int
    end: int
    padded: bool


def segments(n_frames: int) -> Iterator[Segment]:
    """The segments of a clip of `n_frames` mel frames."""
    for number, begin in enumerate(range(0, n_frames, SEGMENT_FRAMES)):
        end = min(begin + SEGMENT_FRAMES, n_frames)
        shorter = end - begin < SEGMENT_FRAMES
        yield Segment(begin, end, shorter and number % SEGMENTS_IN_BATCH > 0)


def mel_filters(d: AudioTokenizerDims) -> npt.NDArray[np.float32]:
    """Mel filter bank, (nfft / 2 + 1, n_mels): HTK mel scale, triangles without area normalization.

    Source: torchaudio.functional.melscale_fbanks, which the model was trained with; bit-exact in float32.
    """

    def to_mel(hertz: float) -> float:
        return 2595.0 * math.log10(1.0 + hertz / 700.0)

    mels = linspace(to_mel(d.fmin), to_mel(d.sampling_rate / 2), d.n_mels + 2)
    powers = (10.0 ** (mels / np.float32(2595)).astype(np.float64)).astype(np.float32)
    edges = np.float32(700) * (powers - np.float32(1))
    bins = np.linspace(0, d.sampling_rate // 2, d.nfft // 2 + 1, dtype=np.float32)
    distance = edges[None] - bins[:, None]  # (bins, n_mels + 2)
    width = edges[1:] - edges[:-1]
    rising, falling = -distance[:, :-2] / width[:-1], distance[:, 2:] / width[1:]
    return np.maximum(np.minimum(rising, falling), np.float32(0)).astype(np.float32)


def linspace(start: float, stop: float, n: int) -> npt.NDArray[np.float32]:
    """`torch.linspace` in float32: the step is rounded, and each value is computed from the nearer end."""
    first, last = np.float32(start), np.float32(stop)
    step, i = np.float64((last - first) / np.float32(n - 1)), np.arange(n)
    return np.where(i < n // 2, first + step * i, last - step * (n - 1 - i)).astype(np.float32)


def log_mel(wave: Wave, d: AudioTokenizerDims) -> npt.NDArray[np.float32]:
    """Log-mel features: (samples,) at the model's rate → (1 + samples // hop_length, n_mels).

    log(max(|STFT| · filters, 1e-7)), of magnitudes rather than powers (github.com/XiaomiMiMo/MiMo-Audio).
    """
    padded = np.pad(wave, d.nfft // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, d.nfft)[:: d.hop_length]  # (frames, nfft)
    filters, window, mel = mel_filters(d), hann_window(d), np.empty((len(frames), d.n_mels), np.float32)
    for i in range(0, len(frames), FRAMES_AT_ONCE):
        part = slice(i, i + FRAMES_AT_ONCE)
        magnitude = np.abs(np.fft.rfft(frames[part] * window)).astype(np.float32)
        mel[part] = np.log(np.maximum(magnitude @ filters, np.float32(1e-7)))
    return mel


def hann_window(d: AudioTokenizerDims) -> npt.NDArray[Any]:
    """A periodic Hann window of `window_size`, centred in (nfft,)."""
    phase = np.arange(d.window_size) * (2 * np.pi / d.window_size)
    window = (0.5 - 0.5 * np.cos(phase)).astype(np.float32)
    margin = d.nfft - d.window_size
    return np.pad(window, (margin // 2, margin - margin // 2))
