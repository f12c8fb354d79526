"""Waves that a check computed, to be heard and seen."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from runtime_check.audio.wave import Wave
from runtime_check.gate import WAVE

from .activations import Stages
from .stages import stage_named
from .system import System

OURS, REFERENCE = "by the file", "by the reference"


class Sound(NamedTuple):
    """A wave, (samples,) at `rate` Hz, and what it is."""

    title: str
    wave: Wave
    rate: int


def sounds_of(system: System, ours: Stages, reference: Stages | None = None) -> tuple[Sound, ...]:
    """The waves among the stages of a run, and of the reference."""
    sides = ((OURS, ours), (REFERENCE, reference or {}))
    return tuple(sound for side, stages in sides for sound in _of(system, stages, side))


def _of(system: System, stages: Stages, side: str) -> Iterator[Sound]:
    for name, x in stages.items():
        stage = stage_named(system.stages, name)
        if stage and stage.kind == WAVE and system.wave_rate:
            yield Sound(side, np.asarray(x, np.float32), system.wave_rate)
