"""Noisy versions of the JFK clip."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from runtime_check.audio.clips import Clip, read_clip
from runtime_check.audio.jfk import JFK

SEEDS = range(5)
LOUD = (15, 12, 9, 6)  # dB of signal to noise: tiny is unsure of every token, so that KL divergence tells types apart
AT_THE_EDGE = (35, 34, 33, 32)  # where tiny begins to get words wrong


def noisy_clips(levels: Iterable[float]) -> Iterator[Clip]:
    """The JFK clip with white noise, one for each level and seed; its text is known."""
    clip = read_clip(JFK)
    power = np.sqrt(np.square(clip.wave).mean())
    for level in levels:
        for seed in SEEDS:
            noise = np.random.default_rng(seed).standard_normal(len(clip.wave), np.float32)
            wave = (clip.wave + noise * power * 10 ** (-level / 20)).astype(np.float32)
            yield replace(clip, wave=wave, sha256=hashlib.sha256(wave).hexdigest())
