"""Sound file → mono wave at the model's rate → 30 s chunks → log-mel, in numpy, float32.

The same front end as `reference.py`'s, without torch: the harness must prove a file where torch is not installed.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import soundfile

from mimo_convert.files import open_regular
from mimo_convert.models.mimo_tokenizer import SAMPLING_RATES, AudioTokenizerDims
from quantize.errors import InputError

Wave = npt.NDArray[np.float32]  # (samples,)
CHUNK_SECONDS = 30
BLOCK = 1 << 16  # samples resampled at once, so that memory does not grow with the clip
SOUND = "a wav, flac, ogg or mp3 file"
MOST_SAMPLES = 1 << 29  # of a channel: three hours at 48 kHz, and 2 GB in memory
BLOCK_SAMPLES = 1 << 20  # of all channels together, decoded at once
LOUDEST = 1e6  # far beyond any scale that sound is stored in; float files can hold more


def read_audio(path: Path) -> tuple[Wave, int]:
    """Decode wav, flac, ogg or mp3 into the mean of its channels, (samples,), and its rate in Hz.

    Raises InputError if the file is missing, not sound, empty, too long, or holds a sample that is no number.
    """
    with open_regular(path, expected=SOUND) as file:
        return decode(file, path)


def decode(file: BinaryIO, path: Path) -> tuple[Wave, int]:
    """`read_audio` of a file that is open. Its name, which may say anything, is not asked what it holds."""
    try:
        file.seek(0)
        with soundfile.SoundFile(file.fileno(), closefd=False) as sound:
            rate = sound.samplerate
            if rate not in SAMPLING_RATES:
                expected = f"{SAMPLING_RATES[0]} to {SAMPLING_RATES[-1]}"
                raise InputError(path, f"has {rate} samples a second", expected=expected)
            wave = np.concatenate([np.empty(0, np.float32), *mono_blocks(sound, path)])
    except InputError:
        raise
    except (OSError, RuntimeError, TypeError, ValueError) as error:  # soundfile's own, and its library's
        reason = getattr(error, "error_string", error)  # without the name, which is a number here
        raise InputError(path, f"cannot be decoded as sound ({reason})", expected=SOUND) from error
    if not len(wave):
        raise InputError(path, "holds no samples", expected="a sound of some length")
    return wave, rate


def mono_blocks(sound: soundfile.SoundFile, path: Path) -> Iterator[Wave]:
    """The mean of all channels, block by block: what the header says of their number is not believed."""
    n, block = 0, max(1, BLOCK_SAMPLES // sound.channels)
    sound.seek(0)  # as soundfile.read does, after which an mp3 is decoded with other roundings
    while len(samples := sound.read(block, dtype="float32", always_2d=True)):
        n += len(samples)
        if n > MOST_SAMPLES:
            raise InputError(path, f"holds more than {MOST_SAMPLES:,} samples", todo="cut it into shorter clips")
        if not np.abs(samples).max() <= LOUDEST:  # a comparison that NaN fails, too
            raise InputError(path, "holds samples that are no sound", expected=f"numbers of at most {LOUDEST:g}")
        yield samples.mean(axis=1, dtype=np.float32)


def resample(wave: Wave, rate: int, new_rate: int) -> Wave:
    """(samples,) at `rate` → (ceil(samples × new_rate / rate),), windowed sinc as torchaudio's default.

    Source: torchaudio.functional.resample, sinc_interp_hann, lowpass_filter_width 6, rolloff 0.99.
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


def chunks(wave: Wave, d: AudioTokenizerDims) -> list[Wave]:
    """Cut into 30 s; a last chunk shorter than a window joins the one before; a shorter clip is zero-padded to one."""
    size = CHUNK_SECONDS * d.sampling_rate
    parts = [wave[i : i + size] for i in range(0, max(len(wave), 1), size)]
    if len(parts) > 1 and len(parts[-1]) < d.nfft:
        parts[-2:] = [np.concatenate(parts[-2:])]
    return [np.pad(part, (0, max(0, d.nfft - len(part)))) for part in parts]


def mel_filters(d: AudioTokenizerDims) -> npt.NDArray[np.float32]:
    """(nfft / 2 + 1, n_mels): HTK triangles without area normalisation (torchaudio.functional.melscale_fbanks).

    Bit for bit what PyTorch computes in float32, which the model was trained with.
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
    """`torch.linspace`: the step rounded to float32, then one rounding a value, counted from the nearer end."""
    first, last = np.float32(start), np.float32(stop)
    step, i = np.float64((last - first) / np.float32(n - 1)), np.arange(n)
    return np.where(i < n // 2, first + step * i, last - step * (n - 1 - i)).astype(np.float32)


def log_mel(wave: Wave, d: AudioTokenizerDims) -> npt.NDArray[np.float32]:
    """(samples,) at the model's rate → (1 + samples // hop_length, n_mels): magnitudes, not powers."""
    padded = np.pad(wave, d.nfft // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, d.nfft)[:: d.hop_length]  # (frames, nfft)
    magnitude = np.abs(np.fft.rfft(frames * hann_window(d))).astype(np.float32)
    mel = np.maximum(magnitude @ mel_filters(d), np.float32(1e-7))
    return np.log(mel).astype(np.float32)


def hann_window(d: AudioTokenizerDims) -> npt.NDArray[Any]:
    """(nfft,): a periodic Hann window of `window_size`, centred."""
    phase = np.arange(d.window_size) * (2 * np.pi / d.window_size)
    window = (0.5 - 0.5 * np.cos(phase)).astype(np.float32)
    margin = d.nfft - d.window_size
    return np.pad(window, (margin // 2, margin - margin // 2))
