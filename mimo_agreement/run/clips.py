"""Clips in conditions: decoded, the last few kept, and degraded by condition and seed."""

from collections import OrderedDict
from dataclasses import replace

from mimo_agreement.conditions.apply import apply
from mimo_agreement.conditions.condition import Condition
from runtime_check.audio.clips import Clip, read_clip

from .jobs import Job
from .places import Places, changed

KEPT_SAMPLES = 1 << 24  # of decoded clips: 17 minutes at 16 kHz, 64 MB


class Clips:
    """The clips of a process, by their SHA-256."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self._kept: OrderedDict[str, Clip] = OrderedDict()

    def of(self, job: Job) -> Clip:
        """The clip of a job in its condition, with its text. Raises InputError for a clip that has changed, or that
        cannot be degraded so."""
        return self.degraded(job.pair.clip, job.condition, job.voices, job.pair.seed, job.text)

    def degraded(
        self, sha256: str, condition: Condition, voices: tuple[str, ...], seed: int, text: str | None = None
    ) -> Clip:
        """The clip in a condition, for which `voices` are heard beside it. Raises as `of`."""
        clip = replace(self.read(sha256), text=text)
        return apply(condition, clip, [self.read(voice) for voice in voices], seed)

    def read(self, sha256: str) -> Clip:
        """The clip with that hash. Raises InputError if its file has another one now."""
        if sha256 in self._kept:
            self._kept.move_to_end(sha256)
            return self._kept[sha256]
        path = self.places.path(sha256)
        clip = read_clip(path)
        if clip.sha256 != sha256:
            raise changed(path)
        self._kept[sha256] = clip
        while sum(len(one.wave) for one in self._kept.values()) > KEPT_SAMPLES and len(self._kept) > 1:
            self._kept.popitem(last=False)
        return clip
