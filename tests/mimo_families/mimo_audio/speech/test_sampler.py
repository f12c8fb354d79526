import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mimo_families.mimo_audio.speech import reference
from mimo_families.mimo_audio.speech.sampler import GREEDY, Noise, Sampler, choose, draw, filtered, softmax

from . import plain

SETTINGS = st.builds(
    Sampler, st.sampled_from([0.3, 0.6, 1.0, 1.7]), st.integers(0, 40), st.sampled_from([0.1, 0.5, 0.9, 0.95, 1.0]),
    st.booleans(),
)  # fmt: skip


def scores_of(seed: int, n: int, scale: float) -> np.ndarray:
    return (scale * np.random.default_rng(seed).standard_normal(n)).astype(np.float32)


@given(SETTINGS, st.integers(0, 999), st.integers(2, 40), st.floats(0.1, 8), st.sets(st.integers(0, 39), max_size=3))
def test_three_writings_choose_the_same(sampler: Sampler, seed: int, n: int, scale: float, ids: set[int]) -> None:
    forbidden = {i for i in ids if i < n} if len(ids) < n else set()
    forbidden = forbidden if len(forbidden) < n else set()
    scores = scores_of(seed, n, scale)
    found = choose(scores, sampler, forbidden, Noise(seed))
    assert tuple(found) == reference.choose(torch.from_numpy(scores), sampler, forbidden, Noise(seed))
    assert found.id == plain.sample(scores.astype(np.float64), plain.Sampler(*sampler), forbidden, Noise(seed))
    assert found.id not in forbidden


@pytest.mark.parametrize("seed", range(40))
def test_a_draw_is_that_of_seeded_torch(seed: int) -> None:
    """torch.multinomial of one sample is argmax(p / e), bit for bit, with its own exponential noise."""
    scores = scores_of(seed, 1025, 3)
    probabilities = torch.from_numpy(softmax(filtered(scores / np.float32(0.9), Sampler(top_p=0.95))))
    torch.manual_seed(seed)
    expected = int(torch.multinomial(probabilities[None], 1))
    torch.manual_seed(seed)
    noise = torch.empty(1, 1025).exponential_(1)[0]
    assert draw(probabilities.numpy(), noise.numpy()) == expected


def test_draws_follow_the_probabilities() -> None:
    scores, noise = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32)), Noise(1)
    counts = np.bincount([choose(scores, Sampler(), (), noise).id for _ in range(4000)], minlength=4)
    np.testing.assert_allclose(counts / 4000, [0.5, 0.3, 0.15, 0.05], atol=0.03)


def test_top_k_keeps_ties_and_top_p_what_adds_up() -> None:
    scores = np.array([3, 1, 2, 2, 0], np.float32)
    assert np.isfinite(filtered(scores, Sampler(top_k=2))).tolist() == [True, False, True, True, False]
    likely = np.log(np.array([0.6, 0.3, 0.06, 0.04], np.float32))
    kept = [np.isfinite(filtered(likely, Sampler(top_p=p))).tolist() for p in (0.5, 0.7, 0.95, 1.0)]
    assert kept == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]


def test_filters_come_before_forbidden_ids_and_also_where_nothing_is_drawn() -> None:
    """With 0.7 of the probability on a forbidden id, top-p 0.75 leaves one other, and not the two that it would leave
    had the id been forbidden before."""
    scores = np.log(np.array([0.7, 0.16, 0.1, 0.04], np.float32))
    found = {choose(scores, Sampler(top_p=0.75), [0], Noise(seed)).id for seed in range(50)}
    assert found == {1}
    assert choose(scores, GREEDY._replace(top_p=0.75), [0], Noise(0)) == (1, False)


def test_where_filters_leave_only_forbidden_ids_these_are_dropped_and_the_draw_says_so() -> None:
    scores = np.log(np.array([0.9, 0.05, 0.04, 0.01], np.float32))
    drawn = [choose(scores, Sampler(top_p=0.8), [0], Noise(seed)) for seed in range(50)]
    assert all(choice.dropped for choice in drawn)
    assert {choice.id for choice in drawn} == {1, 2}  # 0.5 and 0.4 of what is left
    assert choose(scores, GREEDY._replace(top_p=0.8), [0], Noise(0)) == (1, True)
    assert choose(scores, GREEDY, [0], Noise(0)) == (1, False)


def test_greedy_takes_the_first_of_equal_scores_and_no_noise() -> None:
    def no_noise(n: int) -> np.ndarray:
        raise AssertionError

    assert choose(np.array([1, 2, 2], np.float32), GREEDY, (), no_noise).id == 1  # type: ignore[arg-type]


def test_noise_is_that_of_its_seed_and_never_zero() -> None:
    a, b = Noise(7), Noise(7)
    first = a(1000)
    np.testing.assert_array_equal(first, b(1000))
    assert not np.array_equal(first, a(1000))
    assert first.dtype == np.float32
    assert first.min() > 0
    assert abs(first.mean() - 1) < 0.1
