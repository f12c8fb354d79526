"""The XML, as the test pages of GitLab, Jenkins and the like read it."""

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimo_families.mimo_audio.stages import FIRST_LOGITS
from runtime_check.gate import may_differ
from runtime_check.report.json_report import json_text, report_of
from runtime_check.report.junit import as_junit
from runtime_check.report.records import Report
from runtime_check.static.records import RuleResult
from tests import reports


def suites(report: Report) -> dict[str, ET.Element]:
    return {suite.attrib["name"]: suite for suite in ET.fromstring(as_junit(report))}


def failures(suite: ET.Element) -> dict[str, str]:
    """Name of a failed case → what it says."""
    return {
        case.attrib["name"]: found.attrib["message"] for case in suite if (found := case.find("failure")) is not None
    }


def test_there_is_a_case_for_every_stage_rule_and_tensor() -> None:
    report = reports.report()
    found = suites(report)
    assert list(found) == [
        "lint: mimo-asr-q4_k.gguf", "tensors: mimo-asr-q4_k.gguf", "check: mimo-asr-q4_k.gguf on jfk.wav",
    ]  # fmt: skip
    lint, tensors, check = ([case.attrib["name"] for case in suite] for suite in found.values())
    assert lint == [rule.name for rule in report.lint[0].rules]
    assert tensors == ["file", *(tensor.name for tensor in report.tensors[0].tensors)]
    stages = [stage.name for stage in report.checks[0].stages]
    assert check == [
        "transcribed",
        *stages[:6],
        "vocabulary",
        "prompt_ids",
        *stages[6:],
        "steps",
        "cached",
        "transcript",
    ]
    assert not any(map(failures, found.values()))


@pytest.mark.parametrize("make", [reports.report, reports.failed_report])
def test_counts_and_times_are_those_of_the_cases(make: Callable[[], Report]) -> None:
    root = ET.fromstring(as_junit(make()))
    for element in (root, *root):
        cases = list(element.iter("testcase"))
        assert int(element.attrib["tests"]) == len(cases)
        assert int(element.attrib["failures"]) == sum(case.find("failure") is not None for case in cases)
        assert (element.attrib["errors"], element.attrib["skipped"]) == ("0", "0")
        total = sum(float(case.attrib["time"]) for case in cases)
        assert float(element.attrib["time"]) == pytest.approx(total, abs=0.01)
    assert all(set(case.attrib) == {"name", "classname", "time"} for case in root.iter("testcase"))
    names = [(case.attrib["classname"], case.attrib["name"]) for case in root.iter("testcase")]
    assert len(names) == len(set(names))


def test_a_command_of_any_characters_is_well_formed_xml() -> None:
    root = ET.fromstring(as_junit(replace(reports.report(), command="\x0b\ud800 & <x>")))
    assert root.attrib["name"] == "\\u000b\\ud800 & <x>"


def test_a_failure_says_what_was_found_and_what_was_expected() -> None:
    lint, tensors, passed, failed = map(failures, suites(reports.failed_report()).values())
    assert lint == {"merges": "the merge '# #' is missing (and 1 more)"}
    assert tensors == {
        "file": "tensor model.norm.weight of the source is missing",
        **{
            f"model.layers.4.ffn.{name}.weight": "row 0 has a relative RMSE of 0.31, 0.07 is expected (and 8 more)"
            for name in ("gate", "up", "down")
        },
    }
    assert passed == {}
    assert failed == {
        "vocabulary": "tokens or merges differ, expected the reference's",
        "layer_20": "cos_mean 0.610000, expected at least 0.929000 (and 1 more)",
        "layer_21": "cos_mean 0.610000, expected at least 0.929000 (and 1 more)",
        "prefill_last_hidden": "cos_mean 0.610000, expected at least 0.950000 (and 1 more)",
        "prefill_text_logits_step0": "top-1 token 11, expected 3036",
        "steps": "kl_mean 0.5, expected at most 0.2 nats a step; the largest is 8.000000, at step 3",
    }


def test_all_problems_of_a_case_are_in_its_text() -> None:
    tensors = list(suites(reports.failed_report()).values())[1]
    texts = [element.text.splitlines() for element in tensors.iter("failure") if element.text]
    assert [len(lines) for lines in texts] == [1, 9, 9, 9]


def test_without_a_reference_there_is_one_case_which_passes_and_holds_the_transcript() -> None:
    check = reports.without_reference(reports.check())
    assert check.words is not None
    check = replace(check, transcript="Hello.", words=replace(check.words, words=4, deletions=1))
    report = replace(reports.report(), checks=(check,), lint=(), tensors=(), passed=None)
    [suite] = suites(report).values()
    [case] = suite
    assert case.attrib["name"] == "transcribed"
    assert [(element.tag, element.text) for element in case] == [("system-out", "Hello.\nword error rate 25.0%")]


def test_an_audio_tokenizer_alone_encodes() -> None:
    report = replace(reports.report(), checks=(reports.tokenizer_alone(reports.check()),), lint=(), tensors=())
    [suite] = suites(report).values()
    names = [case.attrib["name"] for case in suite]
    assert names == ["encoded", *reports.TOKENIZER_STAGES, "tok_codes"]


@pytest.mark.parametrize(("part", "key"), [("checks", "stages"), ("lint", "rules"), ("tensors", "tensors")])
def test_what_failed_is_never_green(part: str, key: str) -> None:
    """Also if no gate says so: a report that contradicts itself."""
    values: Any = json.loads(json_text(reports.report())) | {"passed": False}
    assert list(map(failures, suites(report_of(values, "x", {})).values()))[-1].keys() == {"verdict"}
    values[part][0] |= {"passed": False, key: [], "gates": []}
    [(name, failed)] = [
        (name, found) for name, suite in suites(report_of(values, "x", {})).items() if (found := failures(suite))
    ]
    assert name.startswith("check" if part == "checks" else part)
    assert failed == {"verdict": "failed, for a reason that the report does not name"}


def test_a_lower_type_may_begin_with_another_token() -> None:
    gate = may_differ(reports.subject_of(FIRST_LOGITS), "top1", False, "top-1 token 11, expected 3036")
    report = replace(reports.report(), checks=(reports.with_gates(reports.check(), gate),))
    [case] = [case for case in ET.fromstring(as_junit(report)).iter("testcase") if case.attrib["name"] == FIRST_LOGITS]
    assert [(element.tag, element.text) for element in case] == [("system-out", "top-1 token 11, expected 3036")]


def test_two_files_of_one_name_stay_apart() -> None:
    report = replace(reports.report(), checks=reports.report().checks * 2)
    names = list(suites(report))
    assert names[-2:] == ["check: mimo-asr-q4_k.gguf on jfk.wav", "check: mimo-asr-q4_k.gguf on jfk.wav (2)"]


@given(st.text())
def test_any_text_can_be_written(text: str) -> None:
    """Lone surrogates and control characters too, which XML forbids; what it allows is kept."""
    lint = reports.lint_of((RuleResult(f"x{text}", 1, (text + "!",)),), f"x{text}")
    checks = (replace(reports.check(n_layers=1), transcript=text),)
    report = replace(reports.report(), passed=False, tensors=(), lint=(lint,), checks=checks)
    root = ET.fromstring(as_junit(report))
    failure = root.find(".//failure")
    assert failure is not None
    if text.isprintable() and text.isascii():
        assert failure.attrib["message"] == f"{text}!"
        assert root.find(".//testcase").attrib["name"] == f"x{text}"  # type: ignore[union-attr]


def test_the_same_report_gives_the_same_bytes() -> None:
    assert as_junit(reports.failed_report()) == as_junit(reports.failed_report())
    assert as_junit(reports.report()).startswith(b"<?xml version='1.0' encoding='utf-8'?>\n<testsuites ")
