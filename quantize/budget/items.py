"""What is chosen from: items with candidates, each of a size and a cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Candidate(NamedTuple):
    """A way to store an item: its size in bytes, and what it costs, in any unit that adds up over items."""

    name: str
    nbytes: int
    cost: float


@dataclass(frozen=True)
class Item:
    """What gets one of its `candidates`; tensors that must be of equal type are one item."""

    name: str
    candidates: tuple[Candidate, ...]

    @property
    def least(self) -> int:
        """Bytes of its smallest candidate."""
        return min(one.nbytes for one in self.candidates)


class BudgetTooSmallError(Exception):
    """The smallest candidates of all items, `least` bytes together, exceed the budget."""

    def __init__(self, budget: int, least: int) -> None:
        self.budget, self.least = budget, least
        super().__init__(f"a budget of {budget:,} bytes, where the smallest candidates have {least:,}")


Chosen = tuple[int, ...]  # the number of the candidate of each item


def nbytes_of(items: Sequence[Item], chosen: Sequence[int]) -> int:
    """Bytes of the chosen candidates."""
    return sum(item.candidates[k].nbytes for item, k in zip(items, chosen, strict=True))


def cost_of(items: Sequence[Item], chosen: Sequence[int]) -> float:
    """The cost of the chosen candidates."""
    return sum(item.candidates[k].cost for item, k in zip(items, chosen, strict=True))


def worthwhile(item: Item) -> list[int]:
    """The numbers of the candidates that are the cheapest of their size or less, by size; of equal ones the first."""
    by_size = sorted(range(len(item.candidates)), key=lambda k: (*item.candidates[k][1:], k))
    kept: list[int] = []
    for k in by_size:
        if not kept or item.candidates[k].cost < item.candidates[kept[-1]].cost:
            kept.append(k)
    return kept


def lower_hull(item: Item) -> list[int]:
    """Those of `worthwhile` on the lower convex hull of cost over size: along it, less and less is gained per
    byte."""
    hull: list[int] = []
    for k in worthwhile(item):
        while len(hull) > 1 and gain(item, hull[-2], hull[-1]) <= gain(item, hull[-2], k):
            hull.pop()
        hull.append(k)
    return hull


def gain(item: Item, small: int, large: int) -> float:
    """By how much the cost falls per byte from one candidate to a larger one."""
    a, b = item.candidates[small], item.candidates[large]
    return (a.cost - b.cost) / (b.nbytes - a.nbytes)
