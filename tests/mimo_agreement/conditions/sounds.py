"""Clips for the tests of conditions."""

import hashlib
from pathlib import Path

import numpy as np

from runtime_check.audio.clips import Clip


def clip_of_noise(n: int, level: float, seed: int, rate: int = 16_000) -> Clip:
    """A clip that swells and fades like speech, with a pause."""
    rng = np.random.default_rng(seed)
    swell = np.abs(np.sin(np.linspace(0, 7, n))) + 1e-3
    wave = (level * swell * rng.standard_normal(n)).astype(np.float32)
    wave[n // 3 : n // 2] = 0
    return Clip(
        Path(f"clip{seed}.wav"), wave, rate, hashlib.sha256(f"clip {seed}".encode()).hexdigest(), "a text", "me"
    )


def voices(n: int = 8) -> list[Clip]:
    """Clips of other lengths, levels and rates."""
    return [
        clip_of_noise(900 + 500 * i, 10.0 ** (i % 4 - 3), 1000 + i, (8000, 16_000, 22_050)[i % 3]) for i in range(n)
    ]
