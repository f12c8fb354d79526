"""Speech to calibrate with and to be measured on: sentences of five voices by espeak-ng, and versions of the JFK clip.

Four voices are for calibration and selection, one is held out. Texts are of one of the three sets alone, too.
"""

import io
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from runtime_check.audio.clips import read_clip
from runtime_check.audio.jfk import JFK, JFK_TEXT
from runtime_check.audio.wave import Wave, resample

from .whisper import D

SENTENCES = Path(__file__).parent / "sentences.txt"
SAMPLE_RATE = D.sample_rate
SILENCE = SAMPLE_RATE // 4  # samples around a sentence


class Voice(NamedTuple):
    """A voice of espeak-ng, its words a minute and pitch, and what its recordings are: how fast they are played, in
    twentieths, white noise in dB below the speech, and whether the room echoes."""

    name: str
    words_a_minute: int
    pitch: int
    speed: int = 20
    noise: float | None = None
    echo: bool = False


CALIBRATED = (
    Voice("en-us", 150, 50),
    Voice("en-gb", 165, 35, noise=20),
    Voice("en-us+f3", 160, 60, speed=21, echo=True),
    Voice("en-gb-scotland+m3", 155, 45, speed=19, noise=12),
)
HELD_OUT = Voice("en-gb-x-rp+f2", 158, 55, noise=25)
# Of JFK: the speed in twentieths, noise in dB below the speech, echo.
VERSIONS = (
    (20, None, False), (20, 20, False), (20, 10, False), (20, 5, False),
    (19, None, False), (21, 20, False), (20, None, True), (21, 10, True),
)  # fmt: skip


class Spoken(NamedTuple):
    """A clip: its text, and its waveform at 16 kHz."""

    text: str
    wave: Wave


class Sets(NamedTuple):
    """The clips: to calibrate with, to select methods with, and held out: of a voice that was not heard, and real."""

    calibration: Sequence[Spoken]
    selection: Sequence[Spoken]
    synthetic: Sequence[Spoken]
    real: Sequence[Spoken]


def sets() -> Sets:
    """All clips; the same on each machine with the same espeak-ng."""
    texts = SENTENCES.read_text(encoding="utf-8").splitlines()
    calibration = [said(text, CALIBRATED[i % 4]) for i, text in enumerate(texts[:24])]
    selection = [said(text, CALIBRATED[i % 4]) for i, text in enumerate(texts[24:32])]
    return Sets(calibration, selection, [said(text, HELD_OUT) for text in texts[32:]], list(versions_of_jfk()))


def said(text: str, voice: Voice) -> Spoken:
    """A sentence in a voice."""
    command = ["espeak-ng", "-v", voice.name, "-s", str(voice.words_a_minute), "-p", str(voice.pitch), "--stdout", text]
    wav = subprocess.run(command, check=True, capture_output=True).stdout
    samples, rate = soundfile.read(io.BytesIO(wav), dtype="float32")
    wave = resample(samples, rate, SAMPLE_RATE)
    return Spoken(text, recorded(np.pad(wave, SILENCE), voice.speed, voice.noise, voice.echo))


def versions_of_jfk() -> Iterator[Spoken]:
    """The JFK clip as it is, and with noise, echo and other speeds."""
    wave = read_clip(JFK).wave
    for version in VERSIONS:
        yield Spoken(JFK_TEXT, recorded(wave, *version))


def recorded(wave: Wave, speed: int, noise: float | None, echo: bool) -> Wave:
    """A waveform played at a speed in twentieths, in a room that echoes, with white noise, in dB below the speech."""
    rng = np.random.default_rng(0)
    wave = resample(wave, speed, 20)
    if echo:
        tail = rng.standard_normal(SAMPLE_RATE // 5) * np.exp(-np.arange(SAMPLE_RATE // 5) / (SAMPLE_RATE / 25))
        wave = wave + 0.3 * np.convolve(wave, tail / np.linalg.norm(tail))[: len(wave)]
    if noise is not None:
        power = np.sqrt(np.square(wave).mean()) * 10 ** (-noise / 20)
        wave = wave + power * rng.standard_normal(len(wave))
    return np.asarray(wave, np.float32)
