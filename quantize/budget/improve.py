"""Improve a choice by single changes that fit into what is left of the budget, and by pairs of changes."""

import bisect
from collections.abc import Sequence
from typing import NamedTuple

from .items import Chosen, Item, cost_of, nbytes_of

LEAST_GAIN = 1e-12  # of the whole cost: what is less is rounding, and could go round in circles
NOWHERE = -1


class Change(NamedTuple):
    """Of one item, to another candidate: by how much bytes and cost grow."""

    nbytes: int
    cost: float
    item: int
    candidate: int


def improved(items: Sequence[Item], chosen: Chosen, budget: int) -> Chosen:
    """The choice after every improvement: neither a single change nor a pair of changes of two items is left that is
    within the budget and costs less."""
    found = list(chosen)
    least = LEAST_GAIN * abs(cost_of(items, chosen))
    while True:
        room = budget - nbytes_of(items, found)
        changes = changes_of(items, found)
        best = best_single(changes, room, least) or best_pair(changes, room, least)
        if not best:
            return tuple(found)
        for change in best:
            found[change.item] = change.candidate


def changes_of(items: Sequence[Item], chosen: Sequence[int]) -> list[Change]:
    """Every change of one item, by bytes."""
    changes = []
    for i, item in enumerate(items):
        now = item.candidates[chosen[i]]
        others = (k for k in range(len(item.candidates)) if k != chosen[i])
        for k in others:
            other = item.candidates[k]
            changes.append(Change(other.nbytes - now.nbytes, other.cost - now.cost, i, k))
    return sorted(changes)


def best_single(changes: Sequence[Change], room: int, least: float) -> list[Change]:
    """The change that fits into `room` bytes and gains most per byte, at least `least`; empty if there is none."""
    fitting = [change for change in changes if change.nbytes <= room and change.cost < -least]
    if not fitting:
        return []
    return [min(fitting, key=lambda one: (one.nbytes > 0, one.cost / max(one.nbytes, 1), one.item, one.candidate))]


def best_pair(changes: Sequence[Change], room: int, least: float) -> list[Change]:
    """The two changes of different items that together fit into `room` bytes and gain most, at least `least`; empty if
    there are none.

    Of the changes by bytes, the cheapest among the first n is known for each n, and the cheapest one of another item:
    so each change finds its best partner by one search.
    """
    cheapest = cheapest_so_far(changes)
    sizes = [change.nbytes for change in changes]
    best: tuple[float, list[Change]] = (-least, [])
    for change in changes:
        n = bisect.bisect_right(sizes, room - change.nbytes)
        if change.cost >= 0 or n == 0:
            continue
        partner = next((k for k in cheapest[n - 1] if k != NOWHERE and changes[k].item != change.item), NOWHERE)
        if partner != NOWHERE and change.cost + changes[partner].cost < best[0]:
            best = change.cost + changes[partner].cost, [change, changes[partner]]
    return best[1]


def cheapest_so_far(changes: Sequence[Change]) -> list[tuple[int, int]]:
    """Of the changes up to each: the number of the cheapest one, and of the cheapest one of another item."""
    found: list[tuple[int, int]] = []
    first = second = NOWHERE
    for k, change in enumerate(changes):
        if first == NOWHERE or change.cost < changes[first].cost:
            second = first if first != NOWHERE and changes[first].item != change.item else second
            first = k
        elif change.item != changes[first].item and (second == NOWHERE or change.cost < changes[second].cost):
            second = k
        found.append((first, second))
    return found
