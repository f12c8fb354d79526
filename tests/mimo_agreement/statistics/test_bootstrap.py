"""Intervals of the bootstrap."""

import numpy as np
import pytest

from mimo_agreement.statistics.bootstrap import UNKNOWN, drawn_clips, estimate, rates, sums
from runtime_check.run.compare.fidelity import DRAWS, Estimate

from .made import clip_of


def test_an_interval_is_the_one_that_theory_gives() -> None:
    """Of clips of equal length, the mean of independent errors: ±1.96 standard errors."""
    n = 400
    wrong = np.random.default_rng(1).binomial(20, 0.1, n).astype(np.float64)
    drawn = drawn_clips([clip_of(i) for i in range(n)])
    found = estimate(rates(drawn, wrong[None], np.full((1, n), 20.0))[:, 0], n)
    error = wrong.std() / 20 / np.sqrt(n)
    assert found.value == pytest.approx(wrong.mean() / 20)
    assert found.low == pytest.approx(found.value - 1.96 * error, abs=0.3 * error)
    assert found.high == pytest.approx(found.value + 1.96 * error, abs=0.3 * error)


def test_the_first_draw_is_every_clip_once() -> None:
    drawn = drawn_clips([clip_of(i) for i in range(9)])
    assert drawn.shape == (1 + DRAWS, 9)
    assert (drawn[0] == 1).all()
    assert (drawn.sum(axis=1) == 9).all()


def test_clips_of_a_source_are_drawn_together_unless_there_is_no_other() -> None:
    drawn = drawn_clips([clip_of(i, source=str(i // 3)) for i in range(9)])
    assert (drawn[:, :3] == drawn[:, :1]).all()
    assert (drawn[:, 0] != drawn[:, 3]).any()
    alone = drawn_clips([clip_of(i, source="me") for i in range(9)])
    assert (alone[:, 0] != alone[:, 1]).any()


def test_sums_of_whole_numbers_are_exact() -> None:
    rng = np.random.default_rng(0)
    drawn = drawn_clips([clip_of(i) for i in range(50)])
    values = rng.integers(0, 1 << 30, (3, 50)).astype(np.float64)
    assert (sums(drawn, values) == (drawn.astype(np.int64) @ values.astype(np.int64).T)).all()


def test_draws_without_words_tell_nothing() -> None:
    assert estimate(np.array([np.nan, 1.0]), 5) == UNKNOWN
    assert estimate(np.array([1.0, np.nan, 2.0, np.nan, 2.0]), 5) == Estimate(1.0, 2.0, 2.0)
    assert estimate(np.array([1.0, np.nan]), 5) == Estimate(1.0, None, None)
    assert np.isnan(rates(np.ones((1, 2)), np.array([[0.0, 1.0]]), np.zeros((1, 2)))).all()
