"""The choice by dynamic programming over what is left of the budget: exact where the budget has few enough units."""

from collections.abc import Sequence
from math import gcd
from typing import NamedTuple

import numpy as np

from .items import BudgetTooSmallError, Chosen, Item

MOST_UNITS = 1 << 16  # into which the room above the smallest candidates is divided


class Exact(NamedTuple):
    """A choice within the budget; `is_exact`: no other within it costs less, else sizes were rounded up."""

    chosen: Chosen
    is_exact: bool


def exact(items: Sequence[Item], budget: int, most_units: int = MOST_UNITS) -> Exact:
    """The cheapest choice whose sizes above the smallest, in whole units, are within the budget. Raises
    BudgetTooSmallError.

    The unit is the greatest that divides all sizes, if the budget has at most `most_units` of it. Time and memory are
    items × candidates × units, and items × units bytes.
    """
    least = sum(item.least for item in items)
    room = budget - least
    if room < 0:
        raise BudgetTooSmallError(budget, least)
    above = [[one.nbytes - item.least for one in item.candidates] for item in items]
    room = min(room, sum(map(max, above)))
    divisor = gcd(*(nbytes for of_item in above for nbytes in of_item)) or 1
    unit = max(divisor, -(-room // most_units))
    n_units = room // unit
    cost = np.zeros(n_units + 1)  # of the items so far, within so many units
    taken = np.zeros((len(items), n_units + 1), np.uint8)
    for i, item in enumerate(items):
        best = np.full(n_units + 1, np.inf)
        for k, candidate in enumerate(item.candidates):
            size = -(-above[i][k] // unit)
            if size > n_units:
                continue
            costs = cost[: n_units + 1 - size] + candidate.cost
            better = costs < best[size:]
            np.copyto(best[size:], costs, where=better)
            taken[i, size:][better] = k
        cost = best
    chosen, left = [0] * len(items), n_units
    for i in reversed(range(len(items))):
        chosen[i] = int(taken[i, left])
        left -= -(-above[i][chosen[i]] // unit)
    return Exact(tuple(chosen), unit == divisor)
