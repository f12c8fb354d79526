"""Rows + b · a by every variant of the kernel, against float64 and against one product at a time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantize import simd
from quantize.kernels import Floats

VARIANTS = [*simd.variants(), "none"]  # the last: without the kernels


def factors(n: int, row: int, rank: int, seed: int = 0) -> tuple[Floats, Floats, Floats]:
    rng = np.random.default_rng(seed)
    return tuple(rng.standard_normal(shape, np.float32) for shape in ((n, row), (n, rank), (rank, row)))  # type: ignore[return-value]


def added(rows: Floats, b: Floats, a: Floats, variant: str) -> Floats:
    sums = rows.copy()
    simd.add_low_rank(sums, b, a, variant)
    return sums


@given(
    n=st.integers(1, 9), row=st.sampled_from([1, 3, 7, 8, 15, 16, 31, 32, 33, 100, 256]), rank=st.integers(1, 24),
    seed=st.integers(0, 1000),
)  # fmt: skip
def test_every_variant_gives_the_same_bits_and_the_exact_sum_but_for_rounding(
    n: int, row: int, rank: int, seed: int
) -> None:
    rows, b, a = factors(n, row, rank, seed)
    exact = rows.astype(np.float64) + b.astype(np.float64) @ a
    results = [added(rows, b, a, variant) for variant in VARIANTS]
    for found in results[1:]:
        assert np.array_equal(found.view(np.uint32), results[0].view(np.uint32))
    bound = (rank + 2) * np.finfo(np.float32).eps * (np.abs(rows) + np.abs(b) @ np.abs(a))
    assert np.all(np.abs(results[0] - exact) <= bound)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run_of_rows_is_that_of_the_whole(variant: str) -> None:
    rows, b, a = factors(50, 96, 5)
    whole = added(rows, b, a, variant)
    for first, last in ((0, 1), (1, 4), (4, 11), (11, 50)):
        part = added(rows[first:last], np.ascontiguousarray(b[first:last]), a, variant)
        assert np.array_equal(part, whole[first:last])


def test_what_is_not_a_number_stays_visible() -> None:
    rows, b, a = factors(4, 32, 2)
    b[1, 0] = np.nan
    for variant in VARIANTS:
        assert np.isnan(added(rows, b, a, variant)).any(axis=1).tolist() == [False, True, False, False]
