"""Loops in responses, against a search by hand."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from runtime_check.text.loops import LONGEST_PERIOD, Loop, longest_repetition, loop_of

IDS = st.lists(st.integers(0, 3), max_size=30)


def spelled(ids: Sequence[int]) -> str:
    return " ".join(map(str, ids))


def copies(ids: Sequence[int], begin: int, period: int) -> int:
    """How often the `period` ids from `begin` on stand in a row."""
    times = 1
    while ids[begin + times * period : begin + (times + 1) * period] == ids[begin : begin + period]:
        times += 1
    return times


@given(IDS)
def test_the_longest_repetition_is_that_of_a_search_of_every_place(ids: list[int]) -> None:
    found = longest_repetition(ids)
    every = [(n, p) for p in range(1, len(ids) // 2 + 1) for b in range(len(ids)) if (n := copies(ids, b, p)) > 1]
    most = max(((n - 1) * p for n, p in every), default=0)
    assert (found.times - 1) * found.period == most
    if most:
        assert copies(ids, found.begin, found.period) == found.times
        assert found.period == min(p for n, p in every if (n - 1) * p == most)


@given(IDS, st.lists(st.integers(4, 999), min_size=1, max_size=LONGEST_PERIOD, unique=True), st.integers(25, 30))
def test_a_loop_is_found_whatever_stands_before_it(before: list[int], piece: list[int], times: int) -> None:
    found = loop_of([*before, *piece * times, 5000], [], spelled)
    assert found == Loop(spelled(piece), times, times * len(piece))


def test_what_is_said_a_few_times_is_no_loop() -> None:
    assert loop_of([7, 8] * 3, [], spelled) is None  # no, no, no
    assert loop_of([7] * 20, [], spelled) is None  # laughter
    assert loop_of(list(range(40)) * 3, [], spelled) is None  # a refrain
    assert loop_of([], [], spelled) is None
    assert loop_of([1], [], spelled) is None


def test_what_was_said_as_often_is_no_loop() -> None:
    assert loop_of([1, 2, 3] * 12, [9, *[1, 2, 4] * 12], spelled) is None
    assert loop_of([1, 2, 3] * 12, [9, *[1, 2, 4] * 11], spelled) == Loop("1 2 3", 12, 36)
