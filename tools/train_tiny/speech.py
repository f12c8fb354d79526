"""Audio clips, spoken by espeak-ng, and their augmentation."""

import io
import random
import subprocess
from dataclasses import dataclass

import soundfile
import torch
import torch.nn.functional as F
from torch import Tensor

from mimo_families.mimo_tokenizer import reference
from mimo_families.mimo_tokenizer.layout import AudioTokenizerDims
from runtime_check.audio.jfk import JFK, JFK_TEXT
from runtime_check.pytorch.audio import resample

from .configs import TOKENIZER_CONFIG

VOICES = (("en-us", 150, 50), ("en-gb", 165, 35), ("en-us+f3", 160, 60))  # espeak-ng: voice, words a minute, pitch
SPEEDS = (19, 20, 21)  # twentieths


@dataclass(frozen=True)
class Clip:
    """A spoken sentence. `waves`: (samples,) at 24 kHz, as spoken and at the other SPEEDS."""

    text: str
    spoken: Tensor
    waves: tuple[Tensor, ...]


def make_clip(text: str, wave: Tensor) -> Clip:
    return Clip(text, wave, tuple(resample(wave, speed, 20) for speed in SPEEDS))


def jfk_clip() -> Clip:
    samples, rate = soundfile.read(JFK, dtype="float32")
    return make_clip(JFK_TEXT, resample(torch.from_numpy(samples), rate, TOKENIZER_CONFIG["sampling_rate"]))


def espeak(sentence: str, voice: str, words_a_minute: int, pitch: int) -> Clip:
    return make_clip(sentence, speak(sentence, voice, words_a_minute, pitch, TOKENIZER_CONFIG["sampling_rate"]))


def speak(sentence: str, voice: str, words_a_minute: int, pitch: int, rate: int) -> Tensor:
    """What espeak-ng makes of a sentence: (samples,) at `rate`."""
    command = ["espeak-ng", "-v", voice, "-s", str(words_a_minute), "-p", str(pitch), "--stdout", sentence]
    wav = subprocess.run(command, check=True, capture_output=True).stdout
    samples, rate_of_voice = soundfile.read(io.BytesIO(wav), dtype="float32")
    return resample(torch.from_numpy(samples), rate_of_voice, rate)


def pick_batch(clips: list[Clip], rng: random.Random) -> list[Clip]:
    """Clips of about one length, some 40 s in all. The last, JFK, fills every third batch on its own."""
    if rng.random() < 1 / 3:
        return clips[-1:] * 4
    first = rng.randrange(len(clips) - 12)
    return clips[first : first + 12]


def augment(wave: Tensor, length: int, rng: random.Random) -> tuple[Tensor, Tensor]:
    """A wave of `length` samples with the given one somewhere inside, louder or softer: with noise, and without."""
    start = rng.randint(0, length - len(wave))
    clean = F.pad(wave * 10 ** (rng.uniform(-6, 6) / 20), (start, length - start - len(wave)))
    power = wave.pow(2).mean().sqrt() * 10 ** (-rng.uniform(15, 60) / 20)
    return clean + power * torch.randn(length), clean


def augmented_mels(batch: list[Clip], d: AudioTokenizerDims, rng: random.Random) -> tuple[Tensor, Tensor]:
    """Log-mel spectrograms of the batch, noisy and clean: (batch, frames, n_mels) each."""
    waves = [rng.choice(clip.waves) for clip in batch]
    length = max(map(len, waves)) + rng.randrange(4 * d.hop_length)
    pairs = [augment(wave, length, rng) for wave in waves]
    noisy, clean = (torch.stack([reference.log_mel(wave, d) for wave in side]) for side in zip(*pairs, strict=True))
    return noisy, clean
