"""Numbers of decoding steps, against PyTorch and by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from runtime_check.gates import GATES, StepGate
from runtime_check.measures import kl_divergence, log_softmax
from runtime_check.steps import Steps, compare_step, compare_steps


@given(st.integers(2, 40), st.integers(0, 1000), st.floats(0.1, 30))
def test_kl_divergence_rank_and_probability_are_those_of_pytorch(n: int, seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    ours, theirs, cached = (rng.standard_normal((3, n)) * scale).astype(np.float32)
    step = compare_step(1, ours, theirs, cached)
    p, q, c = (torch.from_numpy(x).double().log_softmax(-1) for x in (ours, theirs, cached))
    assert step.kl == pytest.approx(float(torch.nn.functional.kl_div(p, q, reduction="sum", log_target=True)), abs=1e-9)
    expected = int(q.argmax())
    assert (step.top1, step.reference_top1) == (int(p.argmax()), expected)
    assert step.probability == pytest.approx(float(p[expected].exp()))
    assert step.reference_probability == pytest.approx(float(q[expected].exp()))
    assert step.rank == 1 + sorted(p.tolist(), reverse=True).index(p[expected].item())
    cached_kl = torch.nn.functional.kl_div(c, p, reduction="sum", log_target=True)
    assert step.cached_kl == pytest.approx(float(cached_kl), abs=1e-9)


def test_huge_and_damaged_logits() -> None:
    assert log_softmax(np.array([3e38, 0], np.float32)).tolist() == [0, pytest.approx(-3e38)]
    broken = np.array([np.nan, 1, 2], np.float32)
    assert math.isnan(compare_step(0, broken, np.array([1, 2, 3], np.float32), broken).kl)


def test_equal_logits_differ_by_nothing() -> None:
    x = log_softmax(np.linspace(-9, 9, 100, dtype=np.float32))
    assert kl_divergence(x, x) == 0


def steps(kls: list[float], top1: list[bool], gate: StepGate = GATES["q4_k"].steps) -> Steps:
    rng = np.random.default_rng(0)
    theirs = rng.standard_normal((len(kls), 9)).astype(np.float32)
    stages = {"answer_ids": np.arange(len(kls)), "answer_logits": theirs, "cached_logits": theirs}
    found = compare_steps(stages, stages, gate)
    changed = [
        type(step)(**vars(step) | {"kl": kl, "top1": step.top1 if same else -1})
        for step, kl, same in zip(found.steps, kls, top1, strict=True)
    ]
    return Steps(changed, found.cached_rmse, gate)


def test_one_step_that_slips_is_seen_in_the_worst_and_not_hidden_by_the_mean() -> None:
    found = steps([0, 0, 0.3, 0], [True, True, False, True])
    assert (found.top1_agreement, found.kl_mean, found.kl_max) == (0.75, pytest.approx(0.075), 0.3)
    assert not found.top1_passed
    assert found.kl_passed
    assert found.cached_passed
    [problem] = found.problems
    assert (
        problem == "answer_logits: the likeliest token is the reference's at 75.0% of 4 steps, at least 80.0% must be"
    )


def test_a_divergence_that_is_no_number_fails() -> None:
    found = steps([0, float("nan")], [True, True])
    assert not found.kl_passed
    assert any("KL divergence nan nats" in why for why in found.problems)
