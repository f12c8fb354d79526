"""Decode an audio file to a mono waveform, with libsndfile."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from mimo_convert.files import open_regular
from quantize.errors import InputError

from .wave import SAMPLING_RATES, Wave

SOUND = "a wav, flac, ogg or mp3 file"
MOST_SAMPLES = 1 << 29  # of a channel: three hours at 48 kHz, and 2 GB in memory
BLOCK_SAMPLES = 1 << 20  # of all channels together, decoded at once
LOUDEST = 1e6  # beyond any scale of audio samples; float files can hold more


def read_audio(path: Path) -> tuple[Wave, int]:
    """Decode wav, flac, ogg or mp3 to the mean of its channels, (samples,) float32, and its rate in Hz.

    Raises InputError if the file is missing, not audio, empty, too long, or holds NaN or infinity.
    """
    with open_regular(path, expected=SOUND) as file:
        return decode(file, path)


def decode(file: BinaryIO, path: Path) -> tuple[Wave, int]:
    """`read_audio` of an open file, whatever its name."""
    wave, rate = samples_from(file, path, 0)
    if not len(wave):
        raise InputError(path, "holds no samples", expected="at least one sample")
    return wave, rate


def new_samples(path: Path, begin: int) -> tuple[Wave, int]:
    """`read_audio` from sample `begin` on, of a file that may be growing; without an error if there are none."""
    with open_regular(path, expected=SOUND) as file:
        return samples_from(file, path, begin)


def samples_from(file: BinaryIO, path: Path, begin: int) -> tuple[Wave, int]:
    """Decode an open file from sample `begin` on. Raises InputError as `read_audio`, but not if nothing is there."""
    try:
        file.seek(0)
        with soundfile.SoundFile(file.fileno(), closefd=False) as audio:
            rate = audio.samplerate
            if rate not in SAMPLING_RATES:
                expected = f"{SAMPLING_RATES[0]} to {SAMPLING_RATES[-1]}"
                raise InputError(path, f"has a sampling rate of {rate} Hz", expected=expected)
            audio.seek(begin)  # to 0, too: as soundfile.read does, after which an mp3 is decoded with other roundings
            wave = np.concatenate([np.empty(0, np.float32), *mono_blocks(audio, path)])
    except InputError:
        raise
    except (OSError, RuntimeError, TypeError, ValueError) as error:  # soundfile's own, and its library's
        reason = getattr(error, "error_string", error)  # without the name, which is a number here
        raise InputError(path, f"cannot be decoded as audio ({reason})", expected=SOUND) from error
    return wave, rate


def mono_blocks(audio: soundfile.SoundFile, path: Path) -> Iterator[Wave]:
    """Yield the mean of the channels block by block; the number of samples in the header is not trusted."""
    n, block = 0, max(1, BLOCK_SAMPLES // audio.channels)
    while len(samples := audio.read(block, dtype="float32", always_2d=True)):
        n += len(samples)
        if n > MOST_SAMPLES:
            raise InputError(path, f"holds more than {MOST_SAMPLES:,} samples", todo="cut it into shorter clips")
        if not np.abs(samples).max() <= LOUDEST:  # a comparison that NaN fails, too
            raise InputError(
                path, "holds samples that are not finite, or out of range", expected=f"numbers of at most {LOUDEST:g}"
            )
        yield samples.mean(axis=1, dtype=np.float32)
