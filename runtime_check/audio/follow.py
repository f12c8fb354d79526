"""Read an audio file while somebody else is still writing it."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .clips import Clip
from .decode import new_samples
from .pieces import cut
from .wave import Wave

POLL_SECONDS = 0.25
PIECE_SECONDS = 30.0  # of the longest piece: nobody waits longer for words


def follow(path: Path, idle: float, longest: float = PIECE_SECONDS) -> Iterator[tuple[float, Clip]]:
    """Yield pieces of a growing file, each with its begin in seconds, until nothing was added for `idle` seconds.

    Every piece has at most `longest` seconds, and ends in a pause. Raises InputError if the file is not audio.
    """
    done, waiting, rate = 0, np.empty(0, np.float32), 1

    def clip(wave: Wave) -> tuple[float, Clip]:
        return done / rate, Clip(path, wave, rate, "")

    last = time.monotonic()
    while time.monotonic() - last < idle:
        new, rate = new_samples(path, done + len(waiting))
        if len(new):
            waiting, last = np.concatenate([waiting, new]), time.monotonic()
        while (end := cut(waiting, rate, longest)) is not None:
            yield clip(waiting[:end])
            waiting, done, last = waiting[end:], done + end, time.monotonic()
        if not len(new):
            time.sleep(POLL_SECONDS)
    if len(waiting):
        yield clip(waiting)
