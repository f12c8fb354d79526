"""Packs of clips: those that are run together, whichever machine runs them."""

from collections.abc import Iterable

PACK_SECONDS = 120.0  # of audio: products of fewer positions take more time each


def packs_of(seconds: Iterable[float]) -> list[int]:
    """How many clips are in each pack, in order: as many as have at most PACK_SECONDS together, or one that has
    more."""
    packs: list[int] = []
    filled = 0.0
    for one in seconds:
        if packs and filled + one <= PACK_SECONDS:
            packs[-1] += 1
        else:
            packs.append(1)
            filled = 0.0
        filled += one
    return packs
