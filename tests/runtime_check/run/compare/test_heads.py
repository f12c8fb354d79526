import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime_check.gate import CHOICES, CHOSEN, Subject
from runtime_check.run.compare.heads import compare_head
from runtime_check.run.compare.stages import compare
from runtime_check.run.compare.thresholds import HeadThreshold
from runtime_check.run.stages import Stage

HEAD = Subject("lm", "head.3", CHOICES)
LOOSE = HeadThreshold(0.5, 0.5)


def scores(seed: int, noise: float = 0.0) -> np.ndarray:
    """(2, 4, 17): eight choices."""
    x = np.random.default_rng(0).standard_normal((2, 4, 17))
    return (x + noise * np.random.default_rng(seed).standard_normal(x.shape)).astype(np.float32)


@given(st.integers(0, 99), st.floats(0, 2))
def test_top_1_and_kl_divergence_are_those_of_every_choice(seed: int, noise: float) -> None:
    ours, theirs = scores(seed, noise), scores(0)
    head, gates = compare_head(HEAD, ours, theirs, LOOSE)
    assert head is not None
    p, q = (np.exp(x.astype(float)) / np.exp(x.astype(float)).sum(-1, keepdims=True) for x in (theirs, ours))
    kls = (p * np.log(p / q)).sum(-1)
    assert (head.name, head.role, head.choices) == ("head.3", "lm", 8)
    assert head.top1_agreement == (ours.argmax(-1) == theirs.argmax(-1)).mean()
    assert head.kl_mean == pytest.approx(kls.mean(), abs=1e-9)
    assert head.kl_max == pytest.approx(kls.max(), abs=1e-9)
    passed = [gate.passed for gate in gates]
    assert passed == [head.top1_agreement >= 0.5, head.kl_mean <= 0.5]


def test_a_head_of_another_shape_or_with_nan_fails() -> None:
    head, [gate] = compare_head(HEAD, scores(0)[:1], scores(0), LOOSE)
    assert head is None
    assert gate.failures == ["head.3: shape (1, 4, 17), expected (2, 4, 17)"]
    broken = scores(0)
    broken[0, 0, 3] = np.nan
    assert [gate.passed for gate in compare_head(HEAD, broken, scores(0), LOOSE)[1]] == [True, False]


@pytest.mark.parametrize(("outtype", "passed"), [("f32", False), ("f16", False), ("q8_0", True), ("q4_k", True)])
def test_free_choices_must_be_equal_in_f32_and_f16_alone(outtype: str, passed: bool) -> None:
    stages = [Stage("ids", "lm", CHOSEN, ("groups",))]
    ours, theirs = np.array([1, 2, 3, 4]), np.array([1, 2, 5, 4])
    [gate] = compare(stages, {"ids": ours}, {"ids": theirs}, {"lm": outtype}).gates
    assert (gate.passed, gate.value) == (passed, 0)
    assert gate.text.startswith("id at (2) is 3, expected 5")
    assert ("75.0% are equal" in gate.text) == passed
    [gate] = compare(stages, {"ids": theirs}, {"ids": theirs}, {"lm": outtype}).gates
    assert gate.passed
