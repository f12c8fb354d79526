"""Cut long audio as upstream does: near every 1200 s, where it is quietest.

Source: the qwen-asr package.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from runtime_check.audio.clips import Clip
from runtime_check.audio.cutting import CutClip, Cutting
from runtime_check.audio.wave import Wave, resample

from .front_end import within_one
from .sizes import SAMPLE_RATE

LONGEST_SECONDS, SEARCHED_SECONDS = 1200.0, 5.0  # of a piece; before and after its end
QUIET_SAMPLES, LEAST_SAMPLES = 1600, 8000  # of the window that is quietest; of a piece of a clip that was cut


def cut(clip: Clip, longest: float) -> Iterator[CutClip]:
    """Cut a clip into parts near LONGEST_SECONDS, or as near as a context that holds `longest` seconds allows; a clip
    that is short enough is itself its only part."""
    searched = min(SEARCHED_SECONDS, longest / 4)
    most = min(LONGEST_SECONDS, longest - searched)
    if clip.seconds <= most:
        yield CutClip(0, clip.seconds, clip)
        return
    wave = within_one(resample(clip.wave, clip.rate, SAMPLE_RATE))
    ends = [*cuts(wave, int(most * SAMPLE_RATE), max(1, int(searched * SAMPLE_RATE))), len(wave)]
    for begin, end in zip([0, *ends], ends, strict=False):
        part = np.pad(wave[begin:end], (0, max(0, LEAST_SAMPLES - (end - begin))))
        yield CutClip(begin / SAMPLE_RATE, end / SAMPLE_RATE, replace(clip, wave=part, rate=SAMPLE_RATE))


def cuts(wave: Wave, most: int, searched: int) -> Iterator[int]:
    """Yield where a (samples,) wave is cut: within `searched` samples of every `most`, in the first window of
    QUIET_SAMPLES with the least sum of |x|, at its first sample of least |x|."""
    begin = 0
    while len(wave) - begin > most:
        left, right = max(begin, begin + most - searched), min(len(wave), begin + most + searched)
        loudness = np.abs(wave[left:right].astype(np.float64))
        width = min(QUIET_SAMPLES, len(loudness))
        sums = np.cumsum(np.concatenate([[0.0], loudness]))
        window = int(np.argmin(sums[width:] - sums[:-width]))
        begin = max(begin + 1, left + window + int(np.argmin(loudness[window : window + width])))
        yield begin


def join(texts: Iterable[str]) -> Iterator[str]:
    """The texts of all pieces, directly behind each other."""
    yield from texts


CUTTING = Cutting(cut, join)
