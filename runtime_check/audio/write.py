"""Write a waveform as a sound file, with libsndfile."""

import io
from pathlib import Path

import soundfile

from mimo_convert.files import write_whole

from .wave import Wave


def write_wav(path: Path, wave: Wave, rate: int) -> None:
    """Write (samples,) at `rate` Hz as a mono WAV file of 16 bits a sample, atomically; samples beyond ±1 are clipped.

    Raises InputError if it cannot be written.
    """
    write_whole(path, encoded(wave, rate, "WAV", "PCM_16"))


def encoded(wave: Wave, rate: int, form: str, subtype: str, endian: str = "FILE") -> bytes:
    """A mono sound file of (samples,), in a format, subtype and order of bytes of libsndfile."""
    data = io.BytesIO()
    soundfile.write(data, wave, rate, format=form, subtype=subtype, endian=endian)
    return data.getvalue()
