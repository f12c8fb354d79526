"""The choice by Lagrange multiplier: the least cost + µ · bytes, for the smallest µ whose choice is within the budget.

As µ falls, each item moves along the lower hull of its candidates, by the steps whose gain per byte exceeds µ; so the
steps of all items in falling order of gain are every choice that there is, and bisection on µ has an end.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from .items import BudgetTooSmallError, Chosen, Item, cost_of, gain, lower_hull, nbytes_of


class Relaxed(NamedTuple):
    """A choice within the budget, and a cost that no choice within it can be below: that of the linear program, in
    which the next step may be taken in part."""

    chosen: Chosen
    bound: float


class Step(NamedTuple):
    """Of one item, from a candidate to the next larger one on its hull."""

    gain: float
    item: int
    small: int
    large: int


def relaxed(items: Sequence[Item], budget: int) -> Relaxed:
    """The choice for the smallest multiplier. Raises BudgetTooSmallError."""
    hulls = [lower_hull(item) for item in items]
    chosen = [hull[0] for hull in hulls]
    room = budget - nbytes_of(items, chosen)
    if room < 0:
        raise BudgetTooSmallError(budget, budget - room)
    for step in steps_of(items, hulls):
        a, b = (items[step.item].candidates[k] for k in (step.small, step.large))
        if b.nbytes - a.nbytes > room:
            return Relaxed(tuple(chosen), cost_of(items, chosen) - step.gain * room)
        chosen[step.item] = step.large
        room -= b.nbytes - a.nbytes
    return Relaxed(tuple(chosen), cost_of(items, chosen))


def steps_of(items: Sequence[Item], hulls: Sequence[Sequence[int]]) -> list[Step]:
    """The steps of all items, that with the highest gain first; those of one item are in order, as its hull is
    convex."""
    steps = [
        Step(gain(items[i], small, large), i, small, large)
        for i, hull in enumerate(hulls)
        for small, large in itertools.pairwise(hull)
    ]
    return sorted(steps, key=lambda step: (-step.gain, step.item, items[step.item].candidates[step.large].nbytes))
