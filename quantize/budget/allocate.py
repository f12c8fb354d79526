"""Allocate a budget: the relaxed choice, then every improvement; checked by dynamic programming, improved likewise."""

from collections.abc import Sequence
from dataclasses import dataclass

from .exact import MOST_UNITS, exact
from .improve import improved
from .items import Chosen, Item, cost_of, nbytes_of
from .relaxed import relaxed


@dataclass(frozen=True)
class Allocation:
    """The number of the candidate of each item, with the bytes and the cost of all; no choice within the budget costs
    less than `bound`."""

    chosen: Chosen
    nbytes: int
    cost: float
    bound: float

    @property
    def gap(self) -> float:
        """The share of the cost that another choice could at most save."""
        return max(0.0, 1 - self.bound / self.cost) if self.cost else 0.0


def allocate(items: Sequence[Item], budget: int, most_units: int = MOST_UNITS) -> Allocation:
    """The choice of a candidate for each item within `budget` bytes that costs least, as far as it is found: no single
    change and no pair of changes makes it better. Raises BudgetTooSmallError.

    It does not depend on the order of items: equal ones are told apart by name.
    """
    order = sorted(range(len(items)), key=lambda i: items[i].name)
    sorted_items = [items[i] for i in order]
    first = relaxed(sorted_items, budget)
    second = exact(sorted_items, budget, most_units)
    found = [improved(sorted_items, one, budget) for one in (first.chosen, second.chosen)]
    best = min(found, key=lambda one: cost_of(sorted_items, one))  # of equal ones the first
    cost = cost_of(sorted_items, best)
    by_place = {place: best[i] for i, place in enumerate(order)}
    chosen = tuple(by_place[place] for place in range(len(items)))
    return Allocation(chosen, nbytes_of(items, chosen), cost, cost if second.is_exact else first.bound)
