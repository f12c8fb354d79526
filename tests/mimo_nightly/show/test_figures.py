"""States in words, and series over the runs."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimo_nightly.history import HEADER, PASSED, UNCHECKED, History, TargetResult
from mimo_nightly.show.figures import (
    COSINE,
    FAIL,
    HEADER_ONLY,
    NEVER_RUN,
    NOT_CHECKED,
    PASS,
    Series,
    counted,
    duration,
    overall,
    printable_line,
    series_of,
    since,
    worst_figures,
)
from runtime_check.gate import LAYER
from tests.mimo_nightly import made_up
from tests.mimo_nightly.made_up import row


def test_a_state_holds_since_the_first_run_that_had_it(tmp_path: Path) -> None:
    history = History(tmp_path / "history.sqlite")
    assert since(history, "asr") is None
    for state, scope in ((PASSED, "whole"), (PASSED, HEADER), (UNCHECKED, "whole"), (PASSED, HEADER), (PASSED, HEADER)):
        run = history.begin("", "")
        history.record(TargetResult(run, "asr", f"2026-11-0{run}T03:00:00Z", 1.0, state, scope))
    assert since(history, "asr") == (HEADER_ONLY, 2, "2026-11-04T03:00:00Z")


@pytest.mark.parametrize(
    ("words", "verdict", "told"),
    [
        ([], NOT_CHECKED, "there are no targets"),
        ([PASS], PASS, "the only target passed"),
        ([PASS, PASS], PASS, "all 2 targets passed"),
        ([PASS, HEADER_ONLY], PASS, "1 of 2 targets passed by the header alone"),
        ([PASS, NEVER_RUN], NOT_CHECKED, "1 of 2 targets never ran"),
        ([NOT_CHECKED, FAIL, FAIL], FAIL, "2 of 3 targets failed, 1 could not be checked"),
    ],
)
def test_all_states_together(words: list[str], verdict: str, told: str) -> None:
    assert (overall(words), counted(words)) == (verdict, told)


def test_the_worst_figures_are_those_of_the_worst_clip_and_stage() -> None:
    rows = [
        row("lm", "a", "layer_00", 0.99, 0.9), row("lm", "b", "layer_00", 0.99, -0.5),
        row("lm", "a", "layer_01", math.nan, math.nan), row("lm", "a", "steps", agreement=1.0, kl_mean=0.25),
        row("lm", "b", "steps", agreement=0.5, kl_mean=0.125), row("lm", "b", "transcript", error_rate=0.0),
    ]  # fmt: skip
    result = TargetResult(1, "asr", "", 1.0, PASSED, stages=rows)
    found = [(figure.metric.field, figure.value, figure.stage) for figure in worst_figures(result)]
    assert found == [("error_rate", 0.0, "transcript"), ("cos_min", -0.5, "layer_00"), ("kl_mean", 0.25, "steps")]


def test_a_series_has_a_place_for_every_run_and_knows_where_it_fell() -> None:
    runs = [made_up.result(made_up.FALLEN, run) for run in range(28, 38)]
    series = {one.name: one for one in series_of([*runs[:2], None, *runs[3:]])}
    hidden = series["prefill_last_hidden"]
    assert hidden.values[2] is None
    assert hidden.known == [0, 1, 3, 4, 5, 6, 7, 8, 9]
    assert hidden.fell == made_up.FELL - 28
    assert hidden.failed == {5, 6, 7, 8, 9}
    assert hidden.text(hidden.worst) == "0.655000"
    assert series["tok_mel"].fell is None
    assert {
        "steps, agreement",
        "steps, KL divergence",
        "tok_codes, agreement",
        "cached, relative RMSE",
    } <= series.keys()


def test_up_is_good_and_rounding_is_no_fall() -> None:
    still = Series("lm", "a", "layer_00", LAYER, COSINE, [0.99, 0.9900001, 0.99])
    assert all(height is not None and height > 0.99 for height in still.heights())
    falling = Series("lm", "a", "layer_00", LAYER, COSINE, [0.99, None, 0.9, 0.0]).heights()
    assert falling[0] == 1
    assert falling[1] is None
    assert falling[2] == pytest.approx(0.5)
    assert falling[3] == pytest.approx(0)


@given(st.lists(st.one_of(st.none(), st.floats(-1, 1.0000001)), max_size=40))
def test_every_height_is_in_the_drawing(values: list[float | None]) -> None:
    heights = Series("lm", "a", "layer_00", LAYER, COSINE, values).heights()
    assert [height is None for height in heights] == [value is None for value in values]
    assert all(-1e-9 <= height <= 1 for height in heights if height is not None)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (3900, "1 h 05 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_line_shows_what_would_be_invisible() -> None:
    assert printable_line("a\n b\x1b[31m\u202etxt.é\u2028") == "a b\\x1b[31m\\u202etxt.é"
