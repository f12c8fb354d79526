"""The choice of a method: by inputs that were not calibrated with."""

import numpy as np
import pytest

from quantize.backends import GGML, IMATRIX
from quantize.feedback.choice import ALPHAS, EQUAL, METHODS, PLAIN, Sampled, alpha_of, choose, spread
from quantize.feedback.library import variants
from quantize.kernels import Floats
from quantize.types import TYPES

from .samples import importance_of, sample

pytestmark = pytest.mark.skipif(not variants(), reason="no kernels for this platform")
N = 256


def inputs_of(moments: Floats, n: int, seed: int) -> Floats:
    """Inputs of these second moments."""
    root = np.linalg.cholesky(moments.astype(np.float64) + 1e-6 * np.trace(moments) * np.eye(len(moments)) / N)
    return (np.random.default_rng(seed).standard_normal((n, len(moments))) @ root.T).astype(np.float32)


def sampled(name: str = "q4_k") -> dict[str, Sampled]:
    return {"a": Sampled(sample(N).rows, TYPES[name], GGML)}


@pytest.mark.parametrize("name", ["q4_k", "iq4_xs"])
def test_speech_like_what_was_calibrated_with_gets_feedback(name: str) -> None:
    moments = sample(N).moments
    choice = choose(sampled(name), moments, inputs_of(moments, 256, 1), importance_of(moments))["a"]
    assert alpha_of(choice.method) in ALPHAS
    assert set(choice.errors) == {*METHODS, EQUAL}
    assert choice.errors[choice.method] == min(choice.errors.values()) < choice.errors[IMATRIX] < 0.9


@pytest.mark.parametrize("name", ["q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_xs", "q4_0"])
@pytest.mark.parametrize("positions", [60, 2000])
def test_a_corpus_of_noise_leaves_everything_plain(name: str, positions: int) -> None:
    noise = np.random.default_rng(3).standard_normal((positions, N)).astype(np.float32)
    moments = noise.T @ noise / positions
    held_out = np.random.default_rng(4).standard_normal((256, N)).astype(np.float32)
    assert choose(sampled(name), moments, held_out, importance_of(moments))["a"].method == PLAIN


def test_a_corpus_of_other_sounds_leaves_everything_plain() -> None:
    moments, others = sample(N).moments, sample(N, seed=9).moments[::-1, ::-1]
    choice = choose(sampled(), moments, inputs_of(others, 256, 1), importance_of(moments))["a"]
    assert choice.method == PLAIN
    assert min(error for method, error in choice.errors.items() if method != PLAIN) > 0.85


def test_few_inputs_decide_nothing() -> None:
    moments = sample(N).moments
    assert choose(sampled(), moments, inputs_of(moments, 15, 1), importance_of(moments))["a"].method == PLAIN


def test_types_without_feedback_are_judged_by_the_imatrix_alone() -> None:
    moments = sample(N).moments
    choice = choose(sampled("q4_0"), moments, inputs_of(moments, 64, 1), importance_of(moments))["a"]
    assert set(choice.errors) == {PLAIN, EQUAL, IMATRIX}


@pytest.mark.parametrize("n_rows", [1, 255, 256, 257, 11008])
def test_rows_are_spread_over_the_matrix(n_rows: int) -> None:
    rows = spread(n_rows)
    assert len(set(rows)) == len(rows) == min(n_rows, 256)
    assert rows[0] == 0
    assert rows[-1] >= n_rows - 1 - n_rows // 256
