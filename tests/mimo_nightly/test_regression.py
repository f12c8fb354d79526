"""Verdicts on reports of the real model's size, with runs before them."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimo_nightly.history import FAILED, HEADER, PASSED, UNCHECKED, WHOLE, FileRow, History, Problem, TargetResult
from mimo_nightly.regression import METRICS, evaluate, stages_of
from runtime_check.gate import CACHED, LOGITS, STEPS, TEXT, TRANSCRIPT, VOCABULARY
from runtime_check.report.records import Report
from runtime_check.run.records import Check
from runtime_check.text.words import WordErrors
from tests import reports

TOLERANCE = {name: metric.tolerance for name, metric in METRICS.items()}
CLIP, LAYER, CODES = "jfk.wav", "layer_07", "tok_codes"
STAGES = {
    "cos_mean": LAYER, "cos_min": LAYER, "rel_rmse": LAYER, "agreement": CODES, "kl_mean": STEPS,
    "error_rate": TRANSCRIPT,
}  # fmt: skip


class Runs:
    """One target, run after run."""

    def __init__(self, folder: Path) -> None:
        self.history = History(folder / "history.sqlite")
        self.gates: Mapping[str, Mapping[str, float]] = {}
        self.since = ""

    def __call__(
        self, report: Report, scope: str = WHOLE, sha256: str = "ab" * 32, numpy: str = "2.4.6"
    ) -> TargetResult:
        run = self.history.begin("", "")
        found = TargetResult(
            run, "asr", f"2026-11-{run:02}T03:00:00Z", 1.0, PASSED, scope, [], [FileRow("lm.gguf", sha256, 5)],
            {"numpy": numpy},
        )  # fmt: skip
        result = evaluate(report, found, self.gates, TOLERANCE, self.since, self.history)
        self.history.record(result)
        return result


@pytest.fixture
def run(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


def of_checks(*checks: Check) -> Report:
    return replace(reports.report(), checks=checks, passed=all(check.passed for check in checks))


def checked(clip: str = CLIP) -> Report:
    """A report of one check that passed."""
    return of_checks(reports.check(f"/clips/{clip}"))


def changed(metric: str, by: float) -> Report:
    """The report with one number that is better by so much."""
    check, by = reports.check(), by if METRICS[metric].more_is_better else -by
    assert check.steps is not None
    if metric == "kl_mean":
        return of_checks(reports.with_steps(check, replace(check.steps, kl_mean=(check.steps.kl_mean or 0) + by)))
    if metric == "error_rate":
        return of_checks(replace(check, words=WordErrors(10**9, round(by * 10**9))))
    stage = reports.stage_of(check, STAGES[metric])
    return of_checks(reports.with_stage(check, stage.name, **{metric: getattr(stage, metric) + by}))


def test_what_is_wrong_beside_the_report_counts(run: Runs) -> None:
    """But what could not be checked does not hide that a gate of the report is missed."""
    problem = Problem("agreement, clean: +2.00 points from the baseline")
    for state, report, expected in (
        (FAILED, checked(), FAILED), (UNCHECKED, checked(), UNCHECKED), (UNCHECKED, reports.failed_report(), FAILED)
    ):  # fmt: skip
        found = TargetResult(1, "asr", "", 1.0, state, problems=[problem])
        result = evaluate(report, found, {}, TOLERANCE, "", run.history)
        assert (result.state, result.problems[-1]) == (expected, problem)


def test_every_number_of_a_report_is_a_row() -> None:
    report = reports.failed_report()
    rows = {(row.clip, row.stage): row for row in stages_of(report)}
    for check, clip in zip(report.checks, ("jfk.wav", "talk.flac"), strict=True):
        failed = {gate.stage for gate in check.gates if not gate.passed}
        for one in check.stages:
            row = rows.pop((clip, one.name))
            assert (row.cos_mean, row.cos_min, row.rel_rmse) == (one.cos_mean, one.cos_min, one.rel_rmse)
            assert (row.role, row.kind, row.agreement) == (one.role, one.kind, one.agreement)
            assert row.passed == (one.name not in failed)
            assert row.file == ("mimo-tokenizer-q4_k.gguf" if one.name[:4] == "tok_" else "mimo-asr-q4_k.gguf")
        steps, measured = rows.pop((clip, STEPS)), check.steps
        assert measured is not None
        assert (steps.agreement, steps.kl_mean, steps.kind) == (26 / 27, measured.kl_mean, LOGITS)
        assert steps.passed == (STEPS not in failed)
        assert rows.pop((clip, CACHED)).rel_rmse == 1e-6
        transcript = rows.pop((clip, TRANSCRIPT))
        assert check.words is not None
        assert (transcript.error_rate, transcript.kind) == (check.words.rate, TEXT)
    assert not rows


def test_rows_of_a_file_are_together_in_the_order_of_the_run() -> None:
    rows = stages_of(checked())
    stages = [stage.name for stage in reports.check().stages]
    assert [row.stage for row in rows] == [*stages, STEPS, CACHED, TRANSCRIPT]


def test_clips_of_one_name_are_told_apart() -> None:
    report = of_checks(reports.check(), reports.check("/other/jfk.wav"), reports.check("/a.wav"))
    assert list(dict.fromkeys(row.clip for row in stages_of(report))) == ["jfk.wav", "jfk.wav (2)", "a.wav"]


def test_an_audio_tokenizer_alone_has_its_own_rows() -> None:
    rows = stages_of(of_checks(reports.tokenizer_alone(reports.check())))
    assert {row.file for row in rows} == {"mimo-tokenizer-q4_k.gguf"}
    assert [row.stage for row in rows] == [*reports.TOKENIZER_STAGES, CODES]


def test_what_the_report_says_is_repeated_with_its_clip_and_stage(run: Runs) -> None:
    result = run(reports.failed_report())
    assert result.state == FAILED
    where = "mimo-asr-q4_k.gguf on talk.flac: "
    for problem in (
        Problem(f"{where}layer_20: cos_mean 0.610000, expected at least 0.929000", "talk.flac", "layer_20"),
        Problem(f"{where}vocabulary: {reports.vocabulary_gate(False).text}", "talk.flac", VOCABULARY),
        Problem("mimo-asr-q4_k.gguf: merges: the merge '# #' is missing"),
        Problem("mimo-asr-q4_k.gguf: tensor model.norm.weight of the source is missing"),
    ):
        assert problem in result.problems, problem
    assert sum("row 8 has a relative RMSE" in problem.text for problem in result.problems) == 3
    assert list(run(checked()).problems) == []


def test_a_report_that_failed_without_a_reason_has_failed(run: Runs) -> None:
    assert run(replace(checked(), passed=False)).state == FAILED
    assert run(replace(checked(), passed=None)).state == FAILED


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
def test_gates_of_the_config(run: Runs, gates: Any, says: str) -> None:
    run.gates = gates
    result = run(checked())
    assert (result.state, len(result.problems)) == ((FAILED, 1) if says else (PASSED, 0))
    assert not says or result.problems[0].text.startswith(says)
    assert {row.stage for row in result.stages if not row.passed} <= set(gates)


@pytest.mark.parametrize("metric", METRICS)
def test_a_drop_beyond_the_tolerance_is_a_failure(run: Runs, metric: str) -> None:
    """Of each metric by itself; a smaller one is none, and neither is an improvement."""
    assert run(checked()).state == PASSED
    assert run(changed(metric, -0.99 * TOLERANCE[metric])).state == PASSED
    assert run(changed(metric, 1e-7)).state == PASSED
    result = run(changed(metric, -1.01 * TOLERANCE[metric]), sha256="cd" * 32, numpy="2.5.0")
    drop, change, advice = result.problems
    stage = STAGES[metric]
    assert result.state == FAILED
    assert (drop.clip, drop.stage) == (CLIP, stage)
    assert drop.text.startswith(f"{stage} of jfk.wav: {metric} ")
    assert "was" in drop.text
    assert f"tolerance {TOLERANCE[metric]:g}" in drop.text
    assert change.text.startswith("changed since the last good run, of 2026-11-03T03:00:00Z: lm.gguf: sha256 ab")
    assert "numpy 2.4.6 → 2.5.0" in change.text
    assert (change.stage, advice.stage) == ("", "")
    assert [row.stage for row in result.stages if not row.passed] == [stage]


def test_many_small_drops_are_one_large_one(run: Runs) -> None:
    """Each less than the tolerance: the best does not slide along."""
    states = [run(changed("cos_mean", -0.3 * i * TOLERANCE["cos_mean"])).state for i in range(8)]
    assert states == [PASSED] * 4 + [FAILED] * 4


@given(st.lists(st.integers(0, 40), min_size=2, max_size=12))
def test_a_run_is_compared_with_the_best_of_the_good_ones(tmp_path_factory: Any, errors: list[int]) -> None:
    """By a model of a line: whoever is within the tolerance of the best that passed, passes."""
    run, best = Runs(tmp_path_factory.mktemp("runs")), 99
    for error in errors:
        state = run(changed("error_rate", -error / 100)).state
        assert state == (PASSED if error <= best + 5 else FAILED)
        best = min(best, error) if state == PASSED else best


def test_bad_runs_and_headers_are_no_measure(run: Runs) -> None:
    [better] = changed("cos_mean", 0.001).checks
    assert run(of_checks(reports.with_gates(better, reports.vocabulary_gate(False)))).state == FAILED
    assert run(replace(reports.report(), checks=()), HEADER).state == PASSED
    assert run(changed("cos_mean", -0.0019)).state == PASSED


def test_what_is_no_longer_measured_is_a_failure(run: Runs) -> None:
    run(checked())
    check = reports.without_stages(reports.check(), [LAYER])
    stages = tuple(replace(one, cos_min=None) if one.name == "layer_09" else one for one in check.stages)
    problems = run(of_checks(replace(check, stages=stages))).problems
    assert sum("layer_07 of jfk.wav: its " in problem.text for problem in problems) == 3
    assert (
        sum("layer_09 of jfk.wav: its cos_min is no longer measured; it was 0.9" in one.text for one in problems) == 1
    )


def test_a_clip_that_the_config_does_not_name_any_more_is_none(run: Runs) -> None:
    run(checked())
    assert run(checked("other.wav")).state == PASSED


def test_the_config_says_which_runs_still_count(run: Runs) -> None:
    run(checked())
    worse = changed("cos_mean", -0.005)
    result = run(worse)
    assert "write compare_since = 2026-11-02T03:00:00Z into its [[target]]" in result.problems[-1].text
    run.since = "2026-11-02T03:00:00Z"
    assert run(worse).state == PASSED
    assert run(changed("cos_mean", -0.01)).state == FAILED
