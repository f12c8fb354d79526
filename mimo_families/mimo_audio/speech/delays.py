"""The delay pattern: which codebooks a step of the patch decoder predicts, and for which frame of the group."""

from typing import NamedTuple

from quantize.errors import InputError

from ..layout import SpeechLMDims


class Place(NamedTuple):
    """A code of a group: its codebook and its frame."""

    channel: int
    frame: int


def places_by_step(d: SpeechLMDims) -> list[list[Place]]:
    """The codes that each step predicts, codebooks in ascending order: step t predicts frame t - delay of those
    codebooks that have it. Raises InputError for a delay pattern that is none."""
    parts = d.delay_pattern.split("-")
    if len(parts) != d.channels or not all(part.isdecimal() and len(part) < 3 for part in parts):
        what = f"delay_pattern is {d.delay_pattern!r}"
        raise InputError("speech generation", what, expected=f"{d.channels} numbers below 100 joined by dashes")
    delays = [int(part) for part in parts]
    return [
        [Place(c, t - delay) for c, delay in enumerate(delays) if 0 <= t - delay < d.group_size]
        for t in range(d.group_size + max(delays))
    ]
