"""Budgets against brute force: the choice is within the budget, nothing left improves it, and its bound holds."""

import itertools
import random
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantize.budget.allocate import allocate
from quantize.budget.exact import exact
from quantize.budget.items import BudgetTooSmallError, Candidate, Item, cost_of, lower_hull, nbytes_of, worthwhile
from quantize.budget.relaxed import relaxed

COSTS = st.one_of(st.floats(0, 10), st.sampled_from([0.0, 1.0, 2.0]))
CANDIDATES = st.lists(st.tuples(st.integers(1, 40), COSTS), min_size=1, max_size=4)
ITEMS = st.lists(CANDIDATES, min_size=1, max_size=5)


def made(sizes_and_costs: list[list[tuple[int, float]]]) -> list[Item]:
    return [
        Item(f"item {i}", tuple(Candidate(f"{k}", *one) for k, one in enumerate(candidates)))
        for i, candidates in enumerate(sizes_and_costs)
    ]


def every_choice(items: list[Item]) -> Iterator[tuple[int, ...]]:
    return itertools.product(*(range(len(item.candidates)) for item in items))


def best(items: list[Item], budget: int) -> float:
    return min(cost_of(items, one) for one in every_choice(items) if nbytes_of(items, one) <= budget)


@given(ITEMS, st.integers(0, 120))
def test_is_the_best_within_the_budget(sizes_and_costs: list[list[tuple[int, float]]], extra: int) -> None:
    items = made(sizes_and_costs)
    budget = sum(item.least for item in items) + extra

    found = allocate(items, budget)

    assert found.nbytes == nbytes_of(items, found.chosen) <= budget
    assert found.cost == cost_of(items, found.chosen)
    assert found.cost == pytest.approx(best(items, budget), abs=1e-9)
    assert found.gap <= 1e-9


@given(ITEMS, st.integers(0, 120), st.integers(1, 12))
def test_nothing_left_improves_it_where_sizes_are_rounded(
    sizes_and_costs: list[list[tuple[int, float]]], extra: int, most_units: int
) -> None:
    items = made(sizes_and_costs)
    budget = sum(item.least for item in items) + extra

    found = allocate(items, budget, most_units)

    assert found.nbytes <= budget
    assert found.bound <= best(items, budget) + 1e-9
    assert found.cost >= best(items, budget) - 1e-9
    slack = 1e-9 * (1 + found.cost)
    for i, item in enumerate(items):
        for k in range(len(item.candidates)):
            single = [*found.chosen[:i], k, *found.chosen[i + 1 :]]
            if nbytes_of(items, single) <= budget:
                assert cost_of(items, single) >= found.cost - slack
            for j in range(i):
                for other in range(len(items[j].candidates)):
                    pair = [*single[:j], other, *single[j + 1 :]]
                    if nbytes_of(items, pair) <= budget:
                        assert cost_of(items, pair) >= found.cost - slack


@given(ITEMS, st.integers(0, 120), st.randoms())
def test_does_not_depend_on_the_order_of_items(
    sizes_and_costs: list[list[tuple[int, float]]], extra: int, order: random.Random
) -> None:
    items = made(sizes_and_costs)
    budget = sum(item.least for item in items) + extra
    shuffled = list(items)
    order.shuffle(shuffled)

    def by_name(of: list[Item]) -> dict[str, int]:
        return dict(zip((item.name for item in of), allocate(of, budget).chosen, strict=True))

    assert by_name(shuffled) == by_name(items)


def test_a_budget_that_is_too_small_names_the_least() -> None:
    items = made([[(10, 1.0), (20, 0.5)], [(7, 1.0)]])
    for choose in (allocate, relaxed, exact):
        with pytest.raises(BudgetTooSmallError) as caught:
            choose(items, 16)
        assert caught.value.least == 17
    assert allocate(items, 17).chosen == (0, 0)


def test_a_candidate_that_costs_more_and_is_larger_is_never_chosen() -> None:
    [item] = made([[(10, 1.0), (12, 1.0), (20, 0.5), (30, 0.7)]])
    assert worthwhile(item) == [0, 2]
    assert allocate([item], 1000).chosen == (2,)


def test_the_hull_leaves_out_what_mixing_its_neighbours_beats() -> None:
    [item] = made([[(0, 10.0), (5, 9.0), (10, 1.0), (20, 0.0)]])
    assert lower_hull(item) == [0, 2, 3]
    assert allocate([item], 5).chosen == (1,)  # not on the hull, and all that there is room for


def test_three_hundred_tensors_of_a_real_model() -> None:
    """Sizes of k-quants, errors that fall by about 4 a bit: the gap to the linear program is far below 0.1 %."""
    draw = np.random.default_rng(0)
    bits = [3.4375, 4.25, 4.5, 5.5, 6.5625, 8.5, 16]
    n_weights = draw.choice([4096 * 1024, 4096 * 4096, 4096 * 11008], 300)
    items = [
        Item(
            f"blk.{i}",
            tuple(
                Candidate(f"{b}", int(n * b / 8), float(10 ** draw.normal(-3, 1)) * 4.0 ** (3.4375 - b)) for b in bits
            ),
        )
        for i, n in enumerate(n_weights)
    ]
    budget = int(4.5 * n_weights.sum() / 8)

    found = allocate(items, budget)

    assert budget * 0.9999 <= found.nbytes <= budget
    assert found.gap < 1e-3
    uniform = sum(item.candidates[2].cost for item in items)
    assert found.cost < 0.8 * uniform
