"""Gates: made once, with what was found and expected in words."""

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime_check.gate import (
    LAYER,
    STAGE_KINDS,
    Gate,
    Subject,
    at_least,
    at_most,
    is_finite,
    may_differ,
    must_hold,
    no_findings,
    unexplained,
    within_factor,
)

SUBJECT = Subject("speech_lm", "layer_07", LAYER)
NUMBERS = st.floats(allow_nan=True, allow_infinity=True)


def test_a_gate_knows_what_it_is_about() -> None:
    gate = at_least(SUBJECT, "cos_mean", 0.5, 0.9)
    assert (gate.role, gate.stage, gate.kind, gate.metric) == (*SUBJECT, "cos_mean")
    assert gate.subject == SUBJECT
    assert len(set(STAGE_KINDS)) == len(STAGE_KINDS)


@given(NUMBERS, st.floats(-10, 10))
def test_a_bound_is_reached_by_itself_and_what_is_better_and_never_by_nan(value: float, bound: float) -> None:
    assert at_least(SUBJECT, "x", value, bound).passed == (value >= bound)
    assert at_most(SUBJECT, "x", value, bound).passed == (value <= bound)
    for make in (at_least, at_most):
        assert make(SUBJECT, "x", bound, bound).passed
        assert not make(SUBJECT, "x", math.nan, bound).passed


@given(NUMBERS, st.floats(1, 4))
def test_a_ratio_may_be_off_by_the_factor_either_way(value: float, factor: float) -> None:
    gate = within_factor(SUBJECT, "norm_ratio", value, factor)
    assert gate.passed == (1 / factor <= value <= factor)
    assert gate.bound == factor
    assert within_factor(SUBJECT, "norm_ratio", 1.0, factor).passed


@pytest.mark.parametrize(
    ("gate", "text"),
    [
        (at_least(SUBJECT, "cos_mean", 0.5, 0.9), "cos_mean 0.500000, expected at least 0.900000"),
        (at_least(SUBJECT, "agreement", 0.5, 0.9, "{:.1%}", " of codes"),
         "agreement 50.0%, expected at least 90.0% of codes"),
        (at_most(SUBJECT, "kl_mean", 0.5, 0.25, "{:.6g}"), "kl_mean 0.5, expected at most 0.25"),
        (at_least(SUBJECT, "cos_mean", math.nan, 0.9), "cos_mean nan, expected at least 0.900000"),
        (within_factor(SUBJECT, "norm_ratio", 2.0, 1.25), "norm_ratio 2.0000, expected 0.8000 to 1.2500"),
        (must_hold(SUBJECT, "equal", False, "one, expected another"), "one, expected another"),
        (no_findings(SUBJECT, ("row 1 is wrong", "row 2 is wrong")), "row 1 is wrong\nrow 2 is wrong"),
        (unexplained(SUBJECT), "failed, for a reason that the report does not name"),
    ],
)  # fmt: skip
def test_a_failure_says_what_was_found_and_what_was_expected(gate: Gate, text: str) -> None:
    assert not gate.passed
    assert gate.text == text
    assert gate.problems == text.splitlines()


@pytest.mark.parametrize("make", [must_hold, may_differ])
def test_what_holds_passes(make: Callable[..., Gate]) -> None:
    gate = make(SUBJECT, "equal", True, "every id is equal")
    assert (gate.value, gate.passed, gate.problems) == (1, True, [])


def test_what_may_differ_passes_without_a_bound() -> None:
    gate = may_differ(SUBJECT, "top1", False, "top-1 token 1, expected 2")
    assert (gate.value, gate.bound, gate.passed, gate.problems) == (0, None, True, [])


def test_without_findings_a_gate_passes() -> None:
    gate = no_findings(SUBJECT, ())
    assert (gate.value, gate.bound, gate.passed, gate.text) == (0, 0, True, "no findings")
    assert no_findings(SUBJECT, ("a", "b")).value == 2


def test_a_finding_without_words_is_a_failure_with_a_problem() -> None:
    assert no_findings(SUBJECT, ("",)).problems
    assert must_hold(SUBJECT, "equal", False, "").problems == ["failed"]


@pytest.mark.parametrize(
    ("value", "finite"), [(0.0, True), (-1e300, True), (None, False), (math.nan, False), (math.inf, False)]
)
def test_a_number_is_there_and_finite(value: float | None, finite: bool) -> None:
    assert is_finite(value) == finite
