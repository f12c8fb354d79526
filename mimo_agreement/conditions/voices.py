"""The voices of a clip's babble: which of the other clips, by their hashes alone."""

import hashlib
from collections.abc import Collection

from quantize.errors import InputError

from .condition import BABBLE, NOISE

VOICES = 6
NOISE_FOLDER = "--noise DIR"


def voices_of(clip: str, others: Collection[str], seed: int, fewest: int = VOICES) -> tuple[str, ...]:
    """The SHA-256 of the clips that are heard in the babble of the clip with the SHA-256 `clip`: VOICES of `others`,
    never the clip itself, whatever the order of `others` and the SNR; fewer, if no more are there.

    One clip more in a set of n changes the voices of about VOICES in n clips, and leaves those of the rest.
    Raises InputError if there are less than `fewest`: VOICES where others are the clips of a set, 1 for a folder of
    noise.
    """
    found = sorted(set(others) - {clip}, key=lambda other: _digest(f"{seed}\n{clip}\n{other}"))[:VOICES]
    if len(found) < max(1, fewest):
        what = f"needs {fewest} other clips, found {len(found)}"
        raise InputError(f"{NOISE}:{BABBLE}", what, todo=f"give more clips, or noise: {NOISE_FOLDER}")
    return tuple(sorted(found))


def generator_seed(seed: int, clip: str, condition: str) -> int:
    """The seed of what is drawn for a clip in a condition; each has its own."""
    return int.from_bytes(_digest(f"{seed}\n{clip}\n{condition}"), "big")


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
