"""Factors of shrunk second moments, against numpy in float64 and, bit for bit, in float32."""

import numpy as np
import pytest

from quantize.errors import InputError
from quantize.feedback.factor import factor
from quantize.feedback.library import variants

from .samples import factored, same_factor, sample, shrunk

pytestmark = pytest.mark.skipif(not variants(), reason="no kernels for this platform")


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.6])
def test_product_of_the_factor_is_the_shrunk_matrix(alpha: float) -> None:
    moments = sample(512).moments
    found = factor(moments, alpha)
    a = np.tril(found.a[:, :512]).astype(np.float64)
    expected = shrunk(moments, alpha)[np.ix_(found.order, found.order)]
    np.testing.assert_allclose(a.T @ (found.d[:, None] * a), expected, rtol=0, atol=3e-6 * expected.max())
    np.testing.assert_allclose(found.moments[256:], expected[256:, 256:], rtol=1e-6)


def test_sums_are_those_of_a_plain_loop_in_float32() -> None:
    moments = sample(768).moments
    found = factor(moments, 0.3)
    whole = factor(moments, 0.3, variant=variants()[-1])
    ordered = shrunk(moments, 0.3).astype(np.float32)[np.ix_(found.order, found.order)]
    for first in (0, 256, 512):  # what was factored, as the kernels rounded it
        block = slice(first, first + 256)
        np.testing.assert_allclose(found.moments[block], ordered[block, block], rtol=1e-6)
    keep, damping = np.float32(1 - 0.3), np.float32(0.01 * moments.diagonal().astype(np.float64).mean())
    exact = moments[np.ix_(found.order, found.order)] * keep
    np.fill_diagonal(exact, moments.diagonal()[found.order] + damping)
    a, d = factored(exact)
    for one in (found, whole):
        np.testing.assert_array_equal(np.tril(one.a[:, :768]), a)
        np.testing.assert_array_equal(one.d, d)


@pytest.mark.parametrize("variant", variants())
def test_threads_and_variants_do_not_matter(variant: str) -> None:
    moments = sample(1280, positions=256).moments
    assert same_factor(factor(moments, 0.1), factor(moments, 0.1, threads=3, variant=variant))


def test_columns_are_in_descending_order_of_the_diagonal() -> None:
    diagonal = np.ones(256, np.float32)
    diagonal[[7, 200]] = 3
    diagonal[5] = 0  # never used: damped
    found = factor(np.diag(diagonal), 0.1)
    assert found.order[:4].tolist() == [7, 200, 0, 1]
    assert found.order[-1] == 5
    assert (found.order[found.places] == np.arange(256)).all()


@pytest.mark.parametrize("wrong", ["zeros", "nan", "indefinite"])
def test_what_is_no_second_moment_is_refused(wrong: str) -> None:
    moments = sample(256).moments.copy()
    if wrong == "zeros":
        moments[:] = 0
    elif wrong == "nan":
        moments[3, 3] = np.nan
    else:
        moments[:] = -1 + 3 * np.eye(256)
    with pytest.raises(InputError, match="second moments"):
        factor(moments, 0.1)
