"""The Pareto front: files of which none is both smaller and better."""

from collections.abc import Sequence
from typing import NamedTuple


class Point(NamedTuple):
    """A file by its SHA-256: its bytes and its cost, an error rate or KL divergence; None: not known."""

    file: str
    bytes: int
    cost: float | None


def front(points: Sequence[Point]) -> tuple[str, ...]:
    """The files that no other dominates, by size: none is at most as large and at most as costly, and less in one.

    Files whose cost is not known are on no front; of equal files, all are.
    """
    known = [(point.bytes, point.cost, point.file) for point in points if point.cost is not None]
    kept: list[tuple[int, float, str]] = []
    for nbytes, cost, file in sorted(known):
        if not kept or cost < kept[-1][1] or (nbytes, cost) == kept[-1][:2]:
            kept.append((nbytes, cost, file))
    return tuple(file for _, _, file in kept)
