"""The paired bootstrap over clips: rates of several files on the same draws.

Clips are drawn with replacement, as in `runtime_check.run.compare.fidelity`: those of one speaker or recording stay
together, and a clip with all its conditions. Rates are micro-averaged in each draw. The interval of a difference of two
files is that of the differences within each draw (Bisani and Ney 2004), so that what clips have in common cancels.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from runtime_check.run.compare.fidelity import COVERED, Estimate, Numbers, draws

from ..records import SpokenClip

UNKNOWN = Estimate(None, None, None)


def drawn_clips(clips: Sequence[SpokenClip]) -> Numbers:
    """How often each clip is in each draw, (1 + DRAWS, clips): first every clip once. Of a single speaker or recording,
    clips are drawn one by one; without clips, nothing is."""
    if not clips:
        return np.zeros((1, 0))
    sources = [clip.source or clip.sha256 for clip in clips]
    return _draws(tuple(sources) if len(set(sources)) > 1 else tuple(clip.sha256 for clip in clips))


@lru_cache(2)  # most conditions have the same clips
def _draws(sources: tuple[str, ...]) -> Numbers:
    found = draws(sources)
    found.flags.writeable = False
    return found


def sums(drawn: Numbers, values: Numbers) -> Numbers:
    """The sum over each draw of (files, clips): (draws, files). Whole numbers are exact in any order; others are added
    without BLAS, whose order depends on the machine."""
    if (values == np.rint(values)).all():
        return np.asarray(drawn @ values.T)
    return np.einsum("dc,fc->df", drawn, values, optimize=False)


def rates(drawn: Numbers, parts: Numbers, wholes: Numbers) -> Numbers:
    """The micro-averaged rates of (files, clips) in each draw: (draws, files); NaN for a draw whose whole is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found = sums(drawn, parts) / sums(drawn, wholes)
    return np.where(np.isfinite(found), found, np.nan)


def estimate(by_draw: npt.NDArray[np.float64], n_clips: int) -> Estimate:
    """The value over all clips, which is the first draw's, and the interval of the others that have one; an unknown
    interval for a single clip, of which every draw is the same."""
    if np.isnan(by_draw[0]):
        return UNKNOWN
    others = by_draw[1:][~np.isnan(by_draw[1:])]
    if n_clips < 2 or not len(others):
        return Estimate(float(by_draw[0]), None, None)
    rest = (100 - COVERED) / 2
    low, high = np.percentile(others, [rest, 100 - rest])
    return Estimate(float(by_draw[0]), float(low), float(high))
