"""Noisy versions of the JFK clip: loud enough that even the fp32 model gets words wrong."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from runtime_check.audio.clips import Clip, read_clip
from runtime_check.audio.jfk import JFK

SIGNAL_TO_NOISE = (15, 12, 9, 6)  # dB
SEEDS = range(5)


def noisy_clips() -> Iterator[Clip]:
    """The JFK clip with white noise, one for each level and seed; its text is known."""
    clip = read_clip(JFK)
    power = np.sqrt(np.square(clip.wave).mean())
    for level in SIGNAL_TO_NOISE:
        for seed in SEEDS:
            noise = np.random.default_rng(seed).standard_normal(len(clip.wave), np.float32)
            wave = (clip.wave + noise * power * 10 ** (-level / 20)).astype(np.float32)
            yield replace(clip, wave=wave, sha256=hashlib.sha256(wave).hexdigest())
