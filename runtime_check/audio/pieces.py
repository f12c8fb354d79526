"""Cut a long waveform into pieces, at the quietest places."""

from collections.abc import Iterator

import numpy as np

from .wave import Wave

QUIET_SECONDS = 0.2  # of a pause in speech, in whose middle is cut
SEARCHED = 1 / 4  # of the longest piece, at its end, is searched for a pause
MOST_SEARCHED = 30.0  # seconds


def pieces(wave: Wave, rate: int, longest: float) -> Iterator[slice]:
    """Slices of `wave`, (samples,) at `rate` Hz, end to end, each of at most `longest` seconds.

    Every cut but the last is in the middle of the quietest QUIET_SECONDS, by energy, near the end of a longest piece;
    of several equal ones, the last.
    """
    begin = 0
    while (end := cut(wave[begin:], rate, longest)) is not None:
        yield slice(begin, begin + end)
        begin += end
    yield slice(begin, len(wave))


def cut(wave: Wave, rate: int, longest: float) -> int | None:
    """Samples of the first piece of `wave`; None if it is short enough as a whole."""
    most = max(1, int(longest * rate))
    if len(wave) <= most:
        return None
    n = max(1, int(min(longest * SEARCHED, MOST_SEARCHED) * rate))
    width = max(1, min(n, int(QUIET_SECONDS * rate)))
    energy = np.cumsum(np.concatenate([[0.0], wave[most - n : most].astype(np.float64) ** 2]))
    sums = energy[width:] - energy[:-width]  # (n - width + 1,): of each place for the pause
    at = len(sums) - 1 - int(np.argmin(sums[::-1]))
    return max(1, most - n + at + width // 2)
