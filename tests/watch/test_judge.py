"""Verdicts on reports of the real model's size, with nights before them."""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watch.history import FAILED, HEADER, PASSED, WHOLE, FileRow, History, TargetResult
from watch.judge import METRICS, judge, stages_of

from .. import reports

TOLERANCE = {name: metric.tolerance for name, metric in METRICS.items()}
CLIP, LAYER = "jfk.wav", "layer_07"
WHERE: dict[
    str, tuple[str, Callable[[Any], Any], str]
] = {  # metric → a stage that has it, where in a check, and as what
    "cos_mean": (LAYER, lambda check: check["stages"][15], "cos_mean"),
    "cos_min": (LAYER, lambda check: check["stages"][15], "cos_min"),
    "rel_rmse": (LAYER, lambda check: check["stages"][15], "rel_rmse"),
    "agreement": ("tok_codes", lambda check: check["codes"], "agreement"),
    "kl_mean": ("steps", lambda check: check["steps"], "kl_mean"),
    "error_rate": ("transcript", lambda check: check, "word_error_rate"),
}


class Nights:
    """One target, night after night."""

    def __init__(self, folder: Path) -> None:
        self.history = History(folder / "history.sqlite")
        self.gates: Mapping[str, Mapping[str, float]] = {}
        self.since = ""

    def __call__(self, report: Any, scope: str = WHOLE, sha256: str = "ab" * 32, numpy: str = "2.4.6") -> TargetResult:
        run = self.history.begin("", "")
        found = TargetResult(
            run, "asr", f"2026-11-{run:02}T03:00:00Z", 1.0, PASSED, scope, [], [FileRow("lm.gguf", sha256, 5)],
            {"numpy": numpy},
        )  # fmt: skip
        result = judge(report, found, self.gates, TOLERANCE, self.since, self.history)
        self.history.record(result)
        return result


@pytest.fixture
def night(tmp_path: Path) -> Nights:
    return Nights(tmp_path)


def checked(clip: str = CLIP) -> Any:
    """A report of one check that passed."""
    return copy.deepcopy(reports.report() | {"checks": [reports.check(f"/sounds/{clip}")]})


def changed(metric: str, by: float) -> Any:
    """The report with one number that is better by so much."""
    report = checked()
    _, place, key = WHERE[metric]
    place(report["checks"][0])[key] += by if METRICS[metric].more_is_better else -by
    return report


def test_every_number_of_a_report_is_a_row() -> None:
    report = reports.failed_report()
    rows = {(row.sound, row.stage): row for row in stages_of(report)}
    for check, sound in zip(report["checks"], ("jfk.wav", "talk.flac"), strict=True):
        for one in check["stages"]:
            row = rows.pop((sound, one["name"]))
            assert (row.cos_mean, row.cos_min, row.rel_rmse) == (one["cos_mean"], one["cos_min"], one["rel_rmse"])
            assert row.passed == one["passed"]
            assert row.file == ("mimo-tokenizer-q4_k.gguf" if one["name"][:4] == "tok_" else "mimo-asr-q4_k.gguf")
        assert rows.pop((sound, "tok_codes")).agreement == 0.8123
        steps = rows.pop((sound, "steps"))
        assert (steps.agreement, steps.kl_mean) == (26 / 27, check["steps"]["kl_mean"])
        assert rows.pop((sound, "cached")).rel_rmse == 1e-6
        assert rows.pop((sound, "transcript")).error_rate == check["word_error_rate"]
    assert not rows


def test_clips_of_one_name_are_told_apart() -> None:
    report = reports.report() | {"checks": [reports.check(), reports.check("/other/jfk.wav"), reports.check("/a.wav")]}
    assert list(dict.fromkeys(row.sound for row in stages_of(report))) == ["jfk.wav", "jfk.wav (2)", "a.wav"]


def test_an_audio_tokenizer_alone_has_its_own_rows() -> None:
    report = checked()
    check = report["checks"][0]
    check |= {"speech_lm": None, "steps": None, "word_error_rate": None, "stages": check["stages"][:5]}
    rows = stages_of(report)
    assert {row.file for row in rows} == {"mimo-tokenizer-q4_k.gguf"}
    assert [row.stage for row in rows] == [*reports.TOKENIZER_STAGES, "tok_codes"]


def test_what_the_report_says_is_repeated(night: Nights) -> None:
    result = night(reports.failed_report())
    assert result.state == FAILED
    for said in ("layer_20: cos_mean 0.610000", "merges: the merge '# #' is missing", "row 8 has a relative RMSE"):
        assert any(said in problem for problem in result.problems), said
    assert night(checked()).problems == []


@pytest.mark.parametrize(
    ("gates", "says"),
    [
        ({LAYER: {"cos_mean": 0.9, "cos_min": 0.9}, "transcript": {"error_rate": 0}}, ""),
        ({LAYER: {"cos_mean": 0.9999}}, "layer_07 of jfk.wav: cos_mean 0.99"),
        ({"cached": {"rel_rmse": 1e-7}}, "cached of jfk.wav: rel_rmse 1e-06, at most 1e-07 by the config"),
        ({"layer_36": {"cos_mean": 0.1}}, "layer_36 of jfk.wav: the config has a gate for its cos_mean, which was not"),
        ({LAYER: {"error_rate": 1}}, "layer_07 of jfk.wav: the config has a gate for its error_rate, which was not me"),
    ],
)
def test_gates_of_the_config(night: Nights, gates: Any, says: str) -> None:
    night.gates = gates
    result = night(checked())
    assert (result.state, len(result.problems)) == ((FAILED, 1) if says else (PASSED, 0))
    assert not says or result.problems[0].startswith(says)
    assert {row.stage for row in result.stages if not row.passed} <= set(gates)


@pytest.mark.parametrize("metric", METRICS)
def test_a_drop_beyond_the_tolerance_is_a_failure(night: Nights, metric: str) -> None:
    """Of each metric by itself; a smaller one is none, and neither is an improvement."""
    assert night(checked()).state == PASSED
    assert night(changed(metric, -0.99 * TOLERANCE[metric])).state == PASSED
    assert night(changed(metric, 1e-7)).state == PASSED
    result = night(changed(metric, -1.01 * TOLERANCE[metric]), sha256="cd" * 32, numpy="2.5.0")
    stage = WHERE[metric][0]
    assert result.state == FAILED
    assert result.problems[0].startswith(f"{stage} of jfk.wav: {metric} ")
    assert "was" in result.problems[0]
    assert f"tolerance {TOLERANCE[metric]:g}" in result.problems[0]
    assert result.problems[1].startswith("changed since the last good run, of 2026-11-03T03:00:00Z: lm.gguf: sha256 ab")
    assert "numpy 2.4.6 → 2.5.0" in result.problems[1]
    assert len(result.problems) == 3
    assert [row.stage for row in result.stages if not row.passed] == [stage]


def test_many_small_drops_are_one_large_one(night: Nights) -> None:
    """Each less than the tolerance: the best does not slide along."""
    states = [night(changed("cos_mean", -0.3 * i * TOLERANCE["cos_mean"])).state for i in range(8)]
    assert states == [PASSED] * 4 + [FAILED] * 4


@given(st.lists(st.integers(0, 40), min_size=2, max_size=12))
def test_a_night_is_compared_with_the_best_of_the_good_ones(tmp_path_factory: Any, errors: list[int]) -> None:
    """By a model of a line: whoever is within the tolerance of the best that passed, passes."""
    night, best = Nights(tmp_path_factory.mktemp("nights")), 99
    for error in errors:
        state = night(changed("error_rate", -error / 100)).state
        assert state == (PASSED if error <= best + 5 else FAILED)
        best = min(best, error) if state == PASSED else best


def test_bad_nights_and_headers_are_no_measure(night: Nights) -> None:
    better = changed("cos_mean", 0.001)
    better["checks"][0] |= {"passed": False, "reasons": ["vocabulary: is another"], "vocabulary_equal": False}
    assert night(better | {"passed": False}).state == FAILED
    assert night(reports.report() | {"checks": []}, HEADER).state == PASSED
    assert night(changed("cos_mean", -0.0019)).state == PASSED


def test_what_is_no_longer_measured_is_a_failure(night: Nights) -> None:
    night(checked())
    report = checked()
    del report["checks"][0]["stages"][15]
    report["checks"][0]["stages"][16]["cos_min"] = None  # what is no number in JSON
    problems = night(report).problems
    assert sum("layer_07 of jfk.wav: its " in problem for problem in problems) == 3
    assert sum("layer_09 of jfk.wav: its cos_min is no longer measured; it was 0.9" in one for one in problems) == 1


def test_a_sound_that_the_config_does_not_name_any_more_is_none(night: Nights) -> None:
    night(checked())
    assert night(checked("other.wav")).state == PASSED


def test_the_config_says_which_nights_still_count(night: Nights) -> None:
    night(checked())
    worse = changed("cos_mean", -0.005)
    result = night(worse)
    assert "write compare_since = 2026-11-02T03:00:00Z into its [[target]]" in result.problems[-1]
    night.since = "2026-11-02T03:00:00Z"
    assert night(worse).state == PASSED
    assert night(changed("cos_mean", -0.01)).state == FAILED
