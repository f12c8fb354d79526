"""What counts as a difference from ggml."""

import numpy as np
import pytest

from runtime_check.products.comparison import difference

NAN, INF = np.nan, np.inf


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ([3.0, 4.0], [3.0, 4.0], 0),
        ([3.0, 4.5], [3.0, 4.0], 0.1),
        ([0.0, 0.0], [0.0, 0.0], 0),
        ([0.0, 1e-9], [0.0, 0.0], INF),
        ([NAN, 4.0], [INF, 4.0], 0),  # which of the two it is, is not compared
        ([NAN, 4.0], [3.0, 4.0], INF),
        ([3.0, 4.0], [3.0, -INF], INF),
        ([NAN, NAN], [NAN, INF], 0),
    ],
)
def test_difference_is_relative_to_the_norm(ours: list[float], theirs: list[float], expected: float) -> None:
    found = difference(np.array([ours], np.float32), np.array([theirs], np.float32))
    assert found == pytest.approx(expected, rel=1e-6)
