"""Numbers of decoding steps, against PyTorch and by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from runtime_check.gate import CACHED, STEPS, Gate
from runtime_check.report.finite import finite
from runtime_check.run.compare.measures import kl_divergence, log_softmax
from runtime_check.run.compare.steps import compare_step, compare_steps, step_gates
from runtime_check.run.compare.thresholds import THRESHOLDS
from runtime_check.run.records import Steps


@given(st.integers(2, 40), st.integers(0, 1000), st.floats(0.1, 30))
def test_kl_divergence_rank_and_probability_are_those_of_pytorch(n: int, seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    ours, theirs, cached = (rng.standard_normal((3, n)) * scale).astype(np.float32)
    step = compare_step(1, " so", ours, theirs, cached)
    p, q, c = (torch.from_numpy(x).double().log_softmax(-1) for x in (ours, theirs, cached))
    assert step.kl == pytest.approx(float(torch.nn.functional.kl_div(p, q, reduction="sum", log_target=True)), abs=1e-9)
    expected = int(q.argmax())
    assert (step.id, step.text) == (1, " so")
    assert (step.top1, step.reference_top1) == (int(p.argmax()), expected)
    assert step.probability == pytest.approx(float(p[expected].exp()))
    assert step.reference_probability == pytest.approx(float(q[expected].exp()))
    assert step.rank == 1 + sorted(p.tolist(), reverse=True).index(p[expected].item())
    cached_kl = torch.nn.functional.kl_div(c, p, reduction="sum", log_target=True)
    assert step.cached_kl == pytest.approx(float(cached_kl), abs=1e-9)


def test_huge_and_damaged_logits() -> None:
    assert log_softmax(np.array([3e38, 0], np.float32)).tolist() == [0, pytest.approx(-3e38)]
    broken = np.array([np.nan, 1, 2], np.float32)
    assert math.isnan(compare_step(0, "", broken, np.array([1, 2, 3], np.float32), broken).kl)


def test_equal_logits_differ_by_nothing() -> None:
    x = log_softmax(np.linspace(-9, 9, 100, dtype=np.float32))
    assert kl_divergence(x, x) == 0


def steps(kls: list[float], same: list[bool]) -> Steps:
    """Steps with these divergences, at some of which the top-1 token is the reference's."""
    theirs = np.random.default_rng(0).standard_normal((len(kls), 9)).astype(np.float32)
    ours = np.where(np.array(same)[:, None], theirs, -theirs)
    stages = {"answer_ids": np.arange(len(kls)), "answer_logits": ours, "cached_logits": ours}
    found = compare_steps(stages, stages | {"answer_logits": theirs}, [f"piece {i}" for i in range(len(kls))])
    every = tuple(replace(step, kl=kl) for step, kl in zip(found.steps, kls, strict=True))
    return replace(found, kl_mean=float(np.mean(kls)), kl_max=float(np.max(kls)), steps=every)


def gates(found: Steps) -> dict[str, Gate]:
    """By metric."""
    return {gate.metric: gate for gate in step_gates(found, THRESHOLDS["q4_k"].steps, "speech_lm")}


def test_totals_are_those_of_the_steps() -> None:
    rng = np.random.default_rng(0)
    ours, theirs, cached = rng.standard_normal((3, 5, 9)).astype(np.float32)
    stages = {"answer_ids": np.arange(5), "answer_logits": ours, "cached_logits": cached}
    found = compare_steps(stages, stages | {"answer_logits": theirs}, list("abcde"))
    assert found.tokens == len(found.steps) == 5
    assert found.top1_agreement == np.mean([step.top1 == step.reference_top1 for step in found.steps])
    assert found.kl_mean == pytest.approx(np.mean([step.kl for step in found.steps]))
    assert found.kl_max == max(step.kl or 0 for step in found.steps)
    assert found.cached_kl_max == max(step.cached_kl or 0 for step in found.steps)
    assert found.cached_rel_rmse == pytest.approx(np.linalg.norm(cached - ours) / np.linalg.norm(ours), rel=1e-5)


def test_one_step_that_slips_is_seen_in_the_worst_and_not_hidden_by_the_mean() -> None:
    found = steps([0, 0, 0.3, 0], [True, True, False, True])
    assert (found.top1_agreement, found.kl_mean, found.kl_max) == (0.75, pytest.approx(0.075), 0.3)
    top1, kl, cached = gates(found).values()
    assert (top1.passed, kl.passed, cached.passed) == (False, True, True)
    assert (top1.stage, kl.stage, cached.stage) == (STEPS, STEPS, CACHED)
    assert (top1.value, top1.bound, cached.value) == (0.75, 0.8, 0)
    assert top1.text == "top1_agreement 75.0%, expected at least 80.0%, over 4 steps"
    assert kl.text.endswith("; the largest is 0.300000, at step 2")


@pytest.mark.parametrize("stored", [False, True], ids=["as it was measured", "as JSON has it"])
def test_a_divergence_that_is_not_a_number_fails(stored: bool) -> None:
    found = steps([0, float("nan")], [True, True])
    kl = gates(finite(found) if stored else found)["kl_mean"]
    assert not kl.passed
    assert kl.text.startswith("kl_mean nan, expected at most 0.2")
