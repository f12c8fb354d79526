"""Synthetic speech for want of recordings: espeak-ng voices read sentences, at several speeds, in noise and rooms."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mimo_convert.files import write_whole
from mimo_convert.listener import phase
from quantize.errors import InputError
from runtime_check.audio.decode import read_audio
from runtime_check.audio.manifests import MANIFEST
from runtime_check.audio.wave import Wave
from runtime_check.audio.write import write_wav

PROGRAM = "espeak-ng"
LANGUAGE, MINUTES = "english", 15.0  # unless something else is asked for
SECONDS_EACH = 11.0  # about, of a clip of SENTENCES_EACH sentences
SENTENCES_EACH = 3
SPEEDS = (130, 155, 180, 205)  # words a minute
NOISES = (None, 20.0, 10.0, 5.0)  # signal-to-noise ratio in dB
ROOMS = (0.0, 0.25, 0.6)  # seconds until an echo has decayed by 60 dB
PEAK, ECHO = 0.7, 0.1  # of the samples; the loudness of the first echoes

Array = npt.NDArray[np.float64]
VOICES = {
    "english": (
        "en-us", "en-gb", "en-gb-scotland", "en-us+f2", "en-gb-x-rp", "en-us+m3", "en-gb+f4", "en-029", "en-us+f5",
        "en-gb-x-gbclan+m7", "en-gb-scotland+f3", "en-us+m6",
    ),
    "chinese": (
        "cmn", "cmn+f2", "cmn+m3", "cmn+f4", "cmn+m7", "cmn+f5", "cmn+m1", "cmn+f1", "cmn+m6", "cmn+f3", "cmn+m4",
        "cmn+m2",
    ),
}  # fmt: skip
SENTENCES = {
    "english": (
        "The ferry to the island leaves at a quarter past seven, unless the wind is too strong.",
        "Could you send me the figures for March before the meeting tomorrow?",
        "She planted beans along the fence and tomatoes beside the shed.",
        "Nobody expected the bridge to be finished in less than two years.",
        "My grandfather repaired clocks in a small workshop behind the station.",
        "Turn left at the bakery, then go straight on until you see the church.",
        "The committee will publish its report on the twenty-third of June.",
        "It rained so hard that the cellar was under water within an hour.",
        "We measured the temperature every ten minutes throughout the night.",
        "He asked whether the tickets could still be exchanged, and was told they could not.",
        "Three hundred and forty people signed the letter to the mayor.",
        "The violin was made in Cremona and has been played for three centuries.",
        "Please call the doctor if the fever has not gone down by Friday.",
        "A yellow van stopped in front of the house, and two men carried out a piano.",
        "Most of the energy is lost as heat before it reaches the wheels.",
        "Why did you choose this colour for the kitchen walls?",
        "The library closes early on Wednesdays, but the reading room stays open.",
        "Judges in the northern district refused to comment on the case.",
        "Boil the potatoes with a little salt and drain them after twenty minutes.",
        "I have never seen the mountains as clear as they were this morning.",
        "Their youngest daughter studies physics at a university near the coast.",
        "The price of copper rose by almost four percent in a single week.",
        "When the lights went out, somebody at the back of the hall began to sing.",
        "Thank you for waiting; your appointment has been moved to half past nine.",
    ),
    "chinese": (
        "去岛上的渡船七点一刻开，除非风太大。",
        "你能在明天开会之前把三月份的数字发给我吗？",
        "她在篱笆旁边种了豆子，在棚子旁边种了西红柿。",
        "没有人想到这座桥不到两年就建好了。",
        "我爷爷在车站后面的小店里修钟表。",
        "在面包店左转，然后一直走到教堂。",
        "委员会将在六月二十三日公布报告。",
        "雨下得很大，地下室一个小时就进了水。",
        "我们整个晚上每十分钟测量一次温度。",
        "他问票还能不能换，人家说不能。",
        "三百四十个人在给市长的信上签了名。",
        "图书馆星期三关门很早，但是阅览室还开着。",
    ),
}


class Spoken(NamedTuple):
    """A synthetic clip: its number, the voice, the text, the speed in words a minute, the noise as a signal-to-noise
    ratio in dB (None: none), and the room's reverberation time in seconds."""

    number: int
    voice: str
    text: str
    speed: int
    noise: float | None
    room: float


def check_can_speak(language: str) -> None:
    """Raise InputError unless espeak-ng is installed, and there are sentences in the language."""
    if shutil.which(PROGRAM) is None:
        raise InputError(
            "--audio", "is not given, and espeak-ng, which would read sentences, is not installed",
            todo="give recordings, which do better, or install it",
        )  # fmt: skip
    if language not in SENTENCES:
        raise InputError(
            "--audio", f"is not given, and there are no sentences in {language}", expected=" or ".join(SENTENCES)
        )


def plan(language: str, minutes: float, seed: int) -> list[Spoken]:
    """The clips of about so many minutes, at least one of each voice: what is chosen depends on the seed alone."""
    voices, sentences, rng = VOICES[language], SENTENCES[language], np.random.default_rng(seed)
    n = max(len(voices), round(minutes * 60 / SECONDS_EACH))
    return [
        Spoken(
            number, voices[number % len(voices)],
            " ".join(sentences[i] for i in rng.choice(len(sentences), SENTENCES_EACH, replace=False)),
            int(rng.choice(SPEEDS)), NOISES[rng.integers(len(NOISES))], float(rng.choice(ROOMS)),
        )
        for number in range(n)
    ]  # fmt: skip


def write_clips(folder: Path, planned: Sequence[Spoken], seed: int) -> Path:
    """Write clips as WAV files into a folder, and their manifest, whose path is returned.

    Raises InputError if espeak-ng fails, or the folder cannot be written.
    """
    folder.mkdir(exist_ok=True)
    with phase("synthetic speech", len(planned), "clips") as running:
        lines = []
        for one in planned:
            name = f"{one.number:04d}-{one.voice.replace('+', '-')}.wav"
            wave, rate = spoken(one)
            write_wav(folder / name, in_room(wave, rate, one, np.random.default_rng([seed, one.number])), rate)
            entry = {"audio": name, "text": one.text, "speaker": one.voice, "synthetic": True}
            lines.append(json.dumps(entry, ensure_ascii=False))
            running.advance(1, name)
    manifest = folder / f"clips{MANIFEST}"
    write_whole(manifest, "".join(f"{line}\n" for line in lines).encode())
    return manifest


def spoken(one: Spoken) -> tuple[Wave, int]:
    """What espeak-ng makes of the text, (samples,), and its rate. Raises InputError if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spoken.wav"
        words = [PROGRAM, "-v", one.voice, "-s", str(one.speed), "-w", str(path), "--", one.text]
        done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode or not path.exists():
            said = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
            raise InputError(PROGRAM, f"failed with the voice {one.voice}: {said}", todo="install its voices again")
        return read_audio(path)


def in_room(wave: Wave, rate: int, one: Spoken, rng: np.random.Generator) -> Wave:
    """A wave, (samples,) at `rate` Hz, with the reverberation and the noise of a clip: (samples,), at most PEAK."""
    heard = wave.astype(np.float64)
    if one.room:
        heard = convolved(heard, echo(one.room, rate, rng))
    if one.noise is not None:
        noise = pink(len(heard), rng)
        heard += noise * np.sqrt(np.mean(heard**2) / np.mean(noise**2) / 10 ** (one.noise / 10))
    return (heard * (PEAK / max(np.abs(heard).max(), 1e-9))).astype(np.float32)


def echo(seconds: float, rate: int, rng: np.random.Generator) -> Array:
    """A room's impulse response, (samples,): the sound itself, then noise that decays by 60 dB in `seconds`."""
    n = int(seconds * rate)
    response = ECHO * rng.standard_normal(n) * 10 ** (-3 * np.arange(n) / n)
    response[0] = 1
    return response


def convolved(wave: Array, response: Array) -> Array:
    """A wave behind a filter, as long as it was: (samples,)."""
    n = len(wave) + len(response)
    return np.fft.irfft(np.fft.rfft(wave, n) * np.fft.rfft(response, n), n)[: len(wave)]


def pink(n: int, rng: np.random.Generator) -> Array:
    """Noise with as much power in each octave: (n,)."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    spectrum[0] = 0
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    return np.fft.irfft(spectrum, n)
