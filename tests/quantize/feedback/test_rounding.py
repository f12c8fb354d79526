"""Codes with error feedback: against GPTQ in float64, never worse than rounding, the same by any split and variant."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantize.feedback.factor import factor
from quantize.feedback.library import takes, variants
from quantize.feedback.rounding import with_feedback
from quantize.kernels import to_float32
from quantize.types import TYPES, Type

from .samples import (
    FEEDBACK_TYPES,
    grid_of,
    importance_of,
    naive_feedback,
    objective,
    sample,
    searched,
    shrunk,
)

pytestmark = pytest.mark.skipif(not variants(), reason="no kernels for this platform")
EACH = pytest.mark.parametrize("ggml_type", FEEDBACK_TYPES, ids=lambda ggml_type: ggml_type.name)


@EACH
def test_codes_are_those_of_gptq_in_float64(ggml_type: Type) -> None:
    rows, moments = sample(512, 24)
    blocks = searched(rows, ggml_type, importance_of(moments))
    found = factor(moments, 0.1)
    ours = with_feedback(rows, blocks, ggml_type, found, sweeps=0)
    exact = naive_feedback(rows, grid_of(blocks, ggml_type, 512), shrunk(moments, 0.1), found.order)
    ours_of, theirs_of = objective(rows, ours, ggml_type, shrunk(moments, 0.1)), rows - exact
    np.testing.assert_allclose(ours_of.sum(), ((theirs_of @ shrunk(moments, 0.1)) * theirs_of).sum(), rtol=1e-3)
    # A tie that is broken otherwise changes what comes behind it in its row, so most rows are equal as a whole.
    same = (to_float32(ours, ggml_type) == exact.astype(np.float32)).all(axis=1)
    assert same.mean() > 0.7


@EACH
def test_without_correlations_blocks_are_those_of_the_search(ggml_type: Type) -> None:
    rows, moments = sample(512, 24)
    blocks = searched(rows, ggml_type, importance_of(moments))
    alone = with_feedback(rows, blocks, ggml_type, factor(moments, 1.0), sweeps=1)
    if ggml_type.name == "iq4_xs":  # ggml rounds weights by a scale that is not a half yet
        assert (alone != blocks).mean() < 0.01
    else:
        np.testing.assert_array_equal(alone, blocks)


@EACH
def test_feedback_is_better_than_rounding_and_refinement_never_worse(ggml_type: Type) -> None:
    rows, moments = sample(512, 24)
    found, exact = factor(moments, 0.1), shrunk(moments, 0.1)
    blocks = searched(rows, ggml_type, importance_of(moments))
    errors = [objective(rows, blocks, ggml_type, exact).sum()]
    for sweeps in range(4):
        made = with_feedback(rows, blocks, ggml_type, found, sweeps)
        errors.append(objective(rows, made, ggml_type, exact))
    assert errors[1].sum() < 0.6 * errors[0]
    for before, after in pairwise(errors[1:]):
        assert (after <= before * (1 + 1e-6)).all()


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 1 << 20), alpha=st.sampled_from([0.0, 0.1, 0.3, 0.6]), ggml_type=st.sampled_from(FEEDBACK_TYPES)
)
def test_objective_is_never_above_that_of_rounding(seed: int, alpha: float, ggml_type: Type) -> None:
    rows, moments = sample(256, 32, positions=300, seed=seed)
    blocks = searched(rows, ggml_type, importance_of(moments))
    made = with_feedback(rows, blocks, ggml_type, factor(moments, alpha), sweeps=1)
    exact = shrunk(moments, alpha)
    assert objective(rows, made, ggml_type, exact).sum() <= objective(rows, blocks, ggml_type, exact).sum()


@EACH
def test_bytes_do_not_depend_on_the_split_nor_the_variant(ggml_type: Type) -> None:
    rows, moments = sample(512, 40)
    blocks = searched(rows, ggml_type, importance_of(moments))
    whole = with_feedback(rows, blocks, ggml_type, factor(moments, 0.3))
    for variant in variants():
        of_variant = factor(moments, 0.3, variant=variant)
        for step in (1, 7, 17, 40) if variant == variants()[0] else (19,):
            parts = [
                with_feedback(rows[i : i + step], blocks[i : i + step], ggml_type, of_variant)
                for i in range(0, 40, step)
            ]
            np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_scales_are_those_of_the_search() -> None:
    rows, moments = sample(512, 24)
    q4_k = TYPES["q4_k"]
    blocks = searched(rows, q4_k, importance_of(moments))
    made = with_feedback(rows, blocks, q4_k, factor(moments, 0.1))
    scales = np.s_[:, :, :16]
    np.testing.assert_array_equal(made.reshape(24, 2, -1)[scales], blocks.reshape(24, 2, -1)[scales])
    assert (made != blocks).any()


@EACH
def test_rows_of_zeros_and_of_one_value_stay(ggml_type: Type) -> None:
    _, moments = sample(512)
    rows = np.zeros((3, 512), np.float32)
    rows[1] = 0.5
    rows[2, 100] = 1
    blocks = searched(rows, ggml_type, importance_of(moments))
    made = to_float32(with_feedback(rows, blocks, ggml_type, factor(moments, 0.1)), ggml_type)
    assert not made[0].any()
    assert np.abs(made - rows).max() <= np.abs(to_float32(blocks, ggml_type) - rows).max() + 0.2


def test_types_without_super_blocks_are_not_taken() -> None:
    assert [ggml_type.name for ggml_type in TYPES.values() if takes(ggml_type)] == [
        "q6_k", "q5_k", "q4_k", "q3_k", "q2_k", "iq4_xs",
    ]  # fmt: skip
