"""Sums of positions, against numpy's own; what is added in the same order is equal."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from runtime_check.calibrate.per_clip.sums import AllSums, add_up, sums_of


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6), columns=st.integers(1, 12), seed=st.integers(0, 9))
def test_the_sums_of_clips_are_those_of_all_positions(lengths: list[int], columns: int, seed: int) -> None:
    random, total = np.random.default_rng(seed), AllSums()
    clips = [random.standard_normal((n, columns)).astype(np.float32) for n in lengths]
    add_up(total, ({"q": sums_of(clip), "k": sums_of(clip)} for clip in clips))
    whole = np.concatenate(clips).astype(np.float64)
    for of in total.values():
        assert of.count == len(whole)
        np.testing.assert_allclose(of.squares, (whole**2).sum(0), rtol=1e-12)
        np.testing.assert_allclose(of.sums, whole.sum(0), rtol=1e-9, atol=1e-12)
        assert of.columns.squares.dtype == np.float32
    again = AllSums()
    for clip in clips:
        add_up(again, [{"q": sums_of(clip)}])
    np.testing.assert_array_equal(again["q"].sums, total["k"].sums)
