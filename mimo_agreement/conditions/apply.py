"""Apply a condition to a clip.

What is drawn depends on the seed, the clip's hash and the condition alone, so that a clip's result does not depend on
those that are run beside it; only babble is of other clips. Samples are float32 and may exceed ±1: nothing is clipped,
so that the SNR holds. Keep them as float WAV, not as 16 bits.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from runtime_check.audio.clips import Clip
from runtime_check.audio.wave import Wave, resample

from .condition import BABBLE, CLEAN, NOISE, PINK, REVERB, SPEED, WHITE, Condition
from .level import Samples, audible_rms, rms
from .noise import babble, pink, white
from .reverb import convolve, impulse_response
from .voices import generator_seed, voices_of

DRAWN: dict[str, Callable[[int, int, np.random.Generator], Samples]] = {WHITE: white, PINK: pink}  # kinds of noise


def apply(condition: Condition, clip: Clip, others: Sequence[Clip], seed: int) -> Clip:
    """The clip in a condition, with its text and source: a new wave at the same rate, its SHA-256 (of the samples as
    little-endian float32, not of a file), and a name that says the condition. Clean, it is the clip itself.

    `others` are heard in babble alone: those of `voices_of`, which are picked from among them.

    noise:KIND:SNRdB adds noise at that ratio of RMS, each over the whole clip; reverb:RT60s convolves with decaying
    noise, is longer by its tail, and has the RMS of the clip; speed:FACTOR resamples, so that the pitch changes too.
    Raises InputError, about the clip, for noise or reverberation of one that is silent; for babble without others.
    """
    if condition.kind == CLEAN:
        return clip
    rng = np.random.default_rng(generator_seed(seed, clip.sha256, condition.name))
    wave = np.ascontiguousarray(DEGRADE[condition.kind](condition, clip, others, seed, rng), "<f4")
    path = clip.path.with_name(degraded_name(clip.path, condition))
    return replace(clip, path=path, wave=wave, sha256=hashlib.sha256(wave.tobytes()).hexdigest())


def degraded_name(path: Path, condition: Condition) -> str:
    """The name of a clip in a condition, which every file system can hold: `NAME.noise-babble-5dB.wav`."""
    return f"{path.stem}.{condition.name.replace(':', '-')}.wav"


def _noisy(
    condition: Condition, clip: Clip, others: Sequence[Clip], seed: int, rng: np.random.Generator
) -> Samples | Wave:
    level, n = audible_rms(clip), len(clip.wave)
    if condition.noise == BABBLE:
        by_hash = {other.sha256: other for other in others}
        voices = [by_hash[name] for name in voices_of(clip.sha256, by_hash, seed, fewest=1)]
        noise = babble(voices, n, clip.rate, rng)
    else:
        noise = DRAWN[condition.noise](n, clip.rate, rng)
    return clip.wave + noise * (level / rms(noise) / 10 ** (condition.value / 20))


def _reverberant(
    condition: Condition, clip: Clip, others: Sequence[Clip], seed: int, rng: np.random.Generator
) -> Samples | Wave:
    level = audible_rms(clip)
    heard = convolve(clip.wave.astype(np.float64), impulse_response(condition.value, clip.rate, rng))
    return heard * (level / rms(heard))


def _faster(
    condition: Condition, clip: Clip, others: Sequence[Clip], seed: int, rng: np.random.Generator
) -> Samples | Wave:
    factor = Fraction(f"{condition.value:.3f}")
    return resample(clip.wave, factor.numerator, factor.denominator)


DEGRADE = {NOISE: _noisy, REVERB: _reverberant, SPEED: _faster}
