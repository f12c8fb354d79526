"""Sums of packs are equal in whatever order they come, wherever the run is interrupted, whatever comes twice."""

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime_check.calibrate.per_clip.in_order import PackSums
from runtime_check.calibrate.per_clip.sums import AllSums, add_up, sums_of

N = 6


def pack(number: int) -> list[AllSums]:
    random = np.random.default_rng(number)
    return [{name: sums_of(random.standard_normal((3, 4))) for name in ("q", "head")} for _ in range(number % 3 + 1)]


def expected() -> AllSums:
    total = AllSums()
    for number in range(N):
        add_up(total, pack(number))
    return total


@settings(max_examples=30)
@given(
    order=st.permutations(range(N)), again=st.lists(st.integers(0, N - 1), max_size=3),
    ends=st.sets(st.integers(0, N)), damaged=st.sets(st.integers(0, N - 1), max_size=2),
)  # fmt: skip
def test_sums_are_those_of_the_packs_in_order(
    order: list[int], again: list[int], ends: set[int], damaged: set[int]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sums = PackSums(folder)
        for i, number in enumerate([*order, *again]):
            if i in ends:  # the run is interrupted, and some of what waits is not whole
                for path in sorted(folder.glob("pack-*")):
                    if int(path.stem[-6:]) in damaged:
                        path.write_bytes(path.read_bytes()[:-30])
                sums = PackSums(folder)
            sums.keep(number, pack(number))
        for number in range(N):
            if not sums.has(number):
                sums.keep(number, pack(number))
        assert sums.next == N
        for matrix, of in expected().items():
            assert sums.total[matrix].count == of.count
            np.testing.assert_array_equal(sums.total[matrix].squares, of.squares)
            np.testing.assert_array_equal(sums.total[matrix].sums, of.sums)
        assert [path.name for path in folder.iterdir()] == ["sums.npz"]
