"""Audio front end in numpy: mono waveform → log-mel features → chunks, float32.

Its reference is `reference.py`; this one needs no torch, so that files can be validated where torch is not installed.
The numbers of chunks and of audio tokens are computed here for both.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from runtime_check.audio.wave import Wave, resample

from .sizes import Qwen3ASRDims, halved

Matrix = npt.NDArray[np.float32]

FRAMES_AT_ONCE = 1 << 12  # of an STFT, so that memory does not grow with the clip
DYNAMIC_RANGE = 8.0  # of a clip's logarithms, to base 10
LONGEST_PERIOD = 10_000  # of the sinusoids, over 2π


class FrontEnd(NamedTuple):
    """What programs compute differently: whether audio beyond ±1 is scaled to its peak, frames behind the last whole
    hop, the least power of a mel bin, and whether the last chunk is padded to a whole one, all of whose rows count."""

    scaled: bool = True
    last_frames: int = 0
    least_power: float = 1e-10
    whole_chunks: bool = False


UPSTREAM = FrontEnd()
LLAMA_CPP = "llama.cpp"
# By the runtime that a task names. Source: tools/mtmd of llama.cpp, 0c1e57098.
FRONT_ENDS = {"": UPSTREAM, LLAMA_CPP: FrontEnd(False, 1, 2.0**-24, True)}


def samples(wave: Wave, rate: int, d: Qwen3ASRDims, of: FrontEnd = UPSTREAM) -> Wave:
    """A mono waveform at `rate` → (samples,) at the model's rate; louder audio than ±1 is scaled to its peak."""
    wave = resample(wave, rate, d.sample_rate)
    return within_one(wave) if of.scaled else wave


def within_one(wave: Wave) -> Wave:
    """Scale a waveform that is louder than ±1 to its peak."""
    peak = np.abs(wave).max(initial=0)
    return np.clip(wave / peak if peak > 1 else wave, -1, 1).astype(np.float32)


def log_mel(wave: Wave, filters: Matrix, window: Matrix, d: Qwen3ASRDims, of: FrontEnd = UPSTREAM) -> Matrix:
    """Log-mel features as Whisper's: (samples,) at the model's rate → (samples // hop_length, n_mels).

    (max(log10(max(|STFT|² · filters, 1e-10)), the clip's maximum − 8) + 4) / 4, with reflect padding and without the
    last frame. A clip shorter than a window is padded with zeros to one. `of` says what differs from that.
    """
    wave = np.pad(wave, (0, max(0, d.n_fft - len(wave))))
    padded = np.pad(wave, d.n_fft // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, d.n_fft)[:: d.hop_length][: n_frames(len(wave), d, of)]
    parts = (frames[i : i + FRAMES_AT_ONCE] for i in range(0, len(frames), FRAMES_AT_ONCE))
    mel = np.concatenate([power(part * window) @ filters for part in parts])
    log = np.log10(np.maximum(mel, np.float32(of.least_power)))
    return ((np.maximum(log, log.max() - np.float32(DYNAMIC_RANGE)) + 4) / 4).astype(np.float32)


def power(frames: Matrix) -> Matrix:
    """Power spectra of windowed frames, computed in float32: (frames, n_fft) → (frames, n_fft / 2 + 1)."""
    spectrum = np.fft.rfft(frames)
    return (spectrum.real**2 + spectrum.imag**2).astype(np.float32)


def chunks(mel: Matrix, d: Qwen3ASRDims, of: FrontEnd = UPSTREAM) -> Matrix:
    """Cut (T, n_mels) into chunks, (n, frames, n_mels): a shorter last one is padded with zeros; if it is the only one,
    it is as long as it is, unless chunks are always whole."""
    size = d.chunk_frames if of.whole_chunks else min(d.chunk_frames, len(mel))
    padded = np.pad(mel, ((0, -len(mel) % size), (0, 0)))
    return padded.reshape(-1, size, mel.shape[1])


def sinusoids(n_rows: int, width: int) -> Matrix:
    """Positions of the rows of a chunk, (n_rows, width): sines, then cosines (Vaswani et al. 2017, as Whisper has
    them)."""
    half = width // 2
    scales = np.exp(-np.arange(half) * (math.log(LONGEST_PERIOD) / (half - 1)))
    angles = np.arange(n_rows)[:, None] * scales
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


def n_frames(n_samples: int, d: Qwen3ASRDims, of: FrontEnd = UPSTREAM) -> int:
    """Mel frames of a clip of so many samples at the model's rate."""
    return max(n_samples, d.n_fft) // d.hop_length + of.last_frames


def n_tokens(frames: int, d: Qwen3ASRDims, of: FrontEnd = UPSTREAM) -> int:
    """Audio tokens of so many mel frames: those of whole chunks, and of the last one those that hold frames, or all."""
    whole, rest = divmod(frames, d.chunk_frames)
    if of.whole_chunks:
        return (whole + (rest > 0)) * d.chunk_tokens
    return whole * d.chunk_tokens + halved(rest)
