"""The importance of columns, compared with its formula in exact numbers."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantize import kernels
from quantize.importance import importance, takes_importance
from quantize.types import TYPES

SQUARES = st.lists(st.floats(0, 2**40, width=32), min_size=1, max_size=40).filter(any)


@given(SQUARES, st.integers(1, 2**40))
def test_it_is_the_mean_square_with_one_position_more_at_which_all_columns_are_alike(
    squares: list[float], count: int
) -> None:
    mean = sum(map(Fraction, squares)) / count / len(squares)
    expected = [float((Fraction(square) + mean) / (count + 1)) for square in squares]
    found = importance(np.array(squares, np.float32), count)
    assert found.dtype == np.float32
    assert np.allclose(found, expected, rtol=1e-6)


def test_a_column_that_was_always_zero_still_counts() -> None:
    found = importance(np.array([0, 6], np.float32), 2)
    assert found.tolist() == [0.5, 2.5]


@pytest.mark.parametrize("type_name", TYPES)
def test_types_whose_blocks_depend_on_it_are_those_of_ggml(type_name: str) -> None:
    ggml_type = TYPES[type_name]
    rows = np.random.default_rng(0).standard_normal((4, 256)).astype(np.float32)
    weights = importance(np.arange(256, dtype=np.float32) ** 3, 10)
    plain, weighted = (kernels.quantize_rows(rows, ggml_type, imatrix=one) for one in (None, weights))
    assert np.array_equal(plain, weighted) is not takes_importance(ggml_type)
