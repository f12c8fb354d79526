"""Clips to learn from: sentences of two languages by espeak-ng, alone and in a row, JFK, and no speech at all."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import soundfile
import torch
import torch.nn.functional as F
from torch import Tensor

from runtime_check.audio.jfk import JFK, JFK_TEXT
from runtime_check.pytorch.audio import resample
from tools.train_tiny.speech import SPEEDS, VOICES, speak
from tools.train_tiny.text import SENTENCES

from .model import RATE

GERMAN_SENTENCES = SENTENCES.with_name("tiny_sentences_german.txt")
GERMAN_VOICES = (("de", 150, 50), ("de", 165, 35), ("de+f3", 160, 60))
LANGUAGES = {"English": (SENTENCES, VOICES), "German": (GERMAN_SENTENCES, GERMAN_VOICES)}
PASSAGES = (("English", 7, 4), ("German", 0, 4), ("English", 28, 7))  # sentences in a row: language, first, number
PAUSE = RATE // 4  # between them
LONG = 8 * RATE  # clips of more samples have more than one window in the audio tower
AUDIBLE = (12, 60)  # dB above the noise: speech that is to be transcribed
DROWNED = (-6, 3)  # dB: speech in noise that the model itself takes for none; its adapter hears it
SILENCE = "None"  # the language of clips without speech


@dataclass(frozen=True)
class Clip:
    """Speech, or none, for which `text` is empty: `wave` (samples,) at 16 kHz. `drowned`: the noise is louder."""

    text: str
    language: str
    wave: Tensor
    drowned: bool = False

    def answer(self, hears_drowned: bool) -> tuple[str, str]:
        """The text and the language to answer."""
        return ("", SILENCE) if self.drowned and not hears_drowned else (self.text, self.language)


def spoken_clip(sentences: Sequence[str], language: str, voice: tuple[str, int, int]) -> Clip:
    waves = [speak(sentence, *voice, RATE) for sentence in sentences]
    return Clip(" ".join(sentences), language, torch.cat([F.pad(wave, (0, PAUSE)) for wave in waves])[:-PAUSE])


def jfk_clip() -> Clip:
    samples, _ = soundfile.read(JFK, dtype="float32")
    return Clip(JFK_TEXT, "English", torch.from_numpy(samples))


def every_clip() -> list[Clip]:
    """JFK, the passages, and the sentences, each in each voice of its language; the longest first."""
    clips = [jfk_clip()]
    for language, (path, voices) in LANGUAGES.items():
        sentences = path.read_text(encoding="utf-8").splitlines()
        passages = [sentences[first : first + n] for of, first, n in PASSAGES if of == language]
        spoken = [*passages, *([sentence] for sentence in sentences)]
        clips += [spoken_clip(lines, language, voice) for lines in spoken for voice in voices]
    return sorted(clips, key=lambda clip: -len(clip.wave))


class Speech:
    """Batches of clips, each augmented: at another speed and level, somewhere in noise."""

    def __init__(self, clips: list[Clip], rng: random.Random) -> None:
        self.jfk = next(clip for clip in clips if clip.text == JFK_TEXT)
        self.long = [clip for clip in clips if len(clip.wave) > LONG and clip is not self.jfk]
        self.sentences = [clip for clip in clips if len(clip.wave) <= LONG]
        self.rng = rng

    def batch(self) -> list[Clip]:
        """Some 35 s in all: JFK three times, two passages, or eleven sentences of about one length and no speech."""
        kind, rng = self.rng.random(), self.rng
        if kind < 0.2:
            clips = [self.jfk] * 3
        elif kind < 0.33:
            clips = rng.sample(self.long, 2)
        else:
            n = len(self.sentences)
            first = min(max(rng.randrange(n) - 5, 0), n - 11)  # the longest and the shortest, too
            clips = self.sentences[first : first + 11]
        drowned = rng.randrange(11)  # one of eleven clips
        heard = [self.drowned(clip) if i == drowned else self.audible(clip) for i, clip in enumerate(clips)]
        return [*heard, self.nothing()]

    def noisy_batch(self) -> list[Clip]:
        """The same, most of it drowned."""
        return [
            self.drowned(clip) if clip.text and not clip.drowned and self.rng.random() < 0.6 else clip
            for clip in self.batch()
        ]

    def audible(self, clip: Clip, decibels: tuple[float, float] = AUDIBLE) -> Clip:
        """The clip at another speed and level, in noise `decibels` below it that begins before it and ends later."""
        wave, rng = resample(clip.wave, self.rng.choice(SPEEDS), 20), self.rng
        before, after = (rng.choice((0, rng.randrange(RATE // 2))) for _ in range(2))
        wave = F.pad(wave * 10 ** (rng.uniform(-6, 6) / 20), (before, after))
        if rng.random() < 0.1:
            return replace(clip, wave=wave)
        power = wave.pow(2).mean().sqrt() * 10 ** (-rng.uniform(*decibels) / 20)
        return replace(clip, wave=(wave + power * torch.randn(len(wave))).clamp(-1, 1))

    def drowned(self, clip: Clip) -> Clip:
        return replace(self.audible(clip, DROWNED), drowned=True)

    def nothing(self) -> Clip:
        """Silence or noise, 0.1 to 6 s."""
        length = int(self.rng.uniform(0.1, self.rng.choice((1, 6))) * RATE)
        level = self.rng.choice((0, 10 ** (-self.rng.uniform(20, 100) / 20)))
        return Clip("", SILENCE, level * torch.randn(length))
