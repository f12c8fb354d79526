"""The XML, as the test pages of GitLab, Jenkins and the like read it."""

import xml.etree.ElementTree as ET
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime_check.junit import as_junit

from .. import reports


def suites(report: dict[str, Any]) -> dict[str, ET.Element]:
    return {suite.attrib["name"]: suite for suite in ET.fromstring(as_junit(report))}


def failures(suite: ET.Element) -> dict[str, str]:
    """Name of a failed case → what it says."""
    return {
        case.attrib["name"]: found.attrib["message"] for case in suite if (found := case.find("failure")) is not None
    }


def test_there_is_a_case_for_every_gate() -> None:
    report = reports.report()
    found = suites(report)
    assert list(found) == [
        "static: mimo-asr-q4_k.gguf", "tensors: mimo-asr-q4_k.gguf", "check: mimo-asr-q4_k.gguf on jfk.wav",
    ]  # fmt: skip
    static, tensors, check = ([case.attrib["name"] for case in suite] for suite in found.values())
    assert static == [rule["name"] for rule in report["static"][0]["rules"]]
    assert tensors == ["file", *(tensor["name"] for tensor in report["tensors"][0]["tensors"])]
    assert check == [
        "transcribed", *(stage["name"] for stage in report["checks"][0]["stages"]), "tok_codes", "vocabulary",
        "prompt_ids", "first token", "steps: likeliest token", "steps: KL divergence", "steps: cached equals full pass",
    ]  # fmt: skip
    assert not any(map(failures, found.values()))


@pytest.mark.parametrize("make", [reports.report, reports.failed_report])
def test_counts_and_times_are_those_of_the_cases(make: Any) -> None:
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
    root = ET.fromstring(as_junit(reports.report() | {"command": "\x0b\ud800 & <x>"}))
    assert root.attrib["name"] == "\\u000b\\ud800 & <x>"


def test_a_failure_says_what_was_found_and_what_was_wanted() -> None:
    static, tensors, passed, failed = map(failures, suites(reports.failed_report()).values())
    assert static == {"merges": "the merge '# #' is missing (and 1 more)"}
    assert tensors == {
        "file": "tensor model.norm.weight of the source is missing",
        **{
            f"model.layers.4.ffn.{name}.weight": "row 0 has a relative RMSE of 0.31, 0.07 is expected (and 8 more)"
            for name in ("gate", "up", "down")
        },
    }
    assert passed == {}
    assert failed == {
        "layer_20": "cos_mean 0.610000 is below 0.929000 by 0.319000, cos_min -0.200000 is below 0.829 by 1.029",
        "layer_21": "cos_mean 0.610000 is below 0.929000 by 0.319000",
        "prefill_last_hidden": "cos_mean 0.610000 is below 0.950000 by 0.340000",
        "vocabulary": "its tokens or merges are not the reference's",
        "first token": "the first token is 11, the reference's is 3036",
        "steps: KL divergence": "0.5 nats a step, at most 0.2 may be",
    }


def test_all_problems_of_a_gate_are_in_its_text() -> None:
    tensors = list(suites(reports.failed_report()).values())[1]
    texts = [element.text.splitlines() for element in tensors.iter("failure") if element.text]
    assert [len(lines) for lines in texts] == [1, 9, 9, 9]


def test_without_a_reference_there_is_one_case_which_passes_and_holds_the_transcript() -> None:
    check = reports.check() | dict.fromkeys(("reference", "codes", "steps", "first_token", "passed"))
    check |= {
        "stages": [],
        "vocabulary_equal": None,
        "prompt_equal": None,
        "transcript": "Hello.",
        "word_error_rate": 0.25,
    }
    [suite] = suites(reports.report() | {"checks": [check], "static": [], "tensors": [], "passed": None}).values()
    [case] = suite
    assert case.attrib["name"] == "transcribed"
    assert [(element.tag, element.text) for element in case] == [("system-out", "Hello.\nword error rate 25.0%")]


@pytest.mark.parametrize(
    ("part", "key"),
    [("checks", "first_token"), ("checks", "stages"), ("static", "rules"), ("tensors", "tensors")],
)
def test_what_failed_is_never_green(part: str, key: str) -> None:
    """Also if no gate says so: a report that contradicts itself, or has a gate that is unknown here."""
    report = reports.report() | {"passed": False}
    assert list(map(failures, suites(report).values()))[-1].keys() == {"verdict"}
    report[part][0]["passed"] = False
    report[part][0][key] = []
    [failed] = [name for name, suite in suites(report).items() if failures(suite)]
    assert failed.startswith(part.removesuffix("s") if part == "checks" else part)


def test_a_reason_that_is_about_no_known_gate_is_a_case_of_its_own() -> None:
    report = reports.report() | {"passed": False}
    report["checks"][0] |= {"passed": False, "reasons": ["loudness: too low", "something else"]}
    assert failures(list(suites(report).values())[2]) == {"loudness": "too low", "check": "something else"}


def test_a_lower_type_may_begin_with_another_token() -> None:
    report = reports.report()
    report["checks"][0]["first_token"] = {"ours": 11, "reference": 3036}
    [case] = [case for case in ET.fromstring(as_junit(report)).iter("testcase") if case.attrib["name"] == "first token"]
    assert [(element.tag, element.text) for element in case] == [("system-out", "11, the reference's is 3036")]


def test_two_files_of_one_name_stay_apart() -> None:
    report = reports.report()
    report["checks"] *= 2
    names = list(suites(report))
    assert names[-2:] == ["check: mimo-asr-q4_k.gguf on jfk.wav", "check: mimo-asr-q4_k.gguf on jfk.wav (2)"]


@given(st.text())
def test_any_text_can_be_written(text: str) -> None:
    """Lone surrogates and control characters too, which XML forbids; what it allows is kept."""
    report = reports.report() | {"passed": False, "tensors": []}
    report["static"][0] |= {
        "file": f"x{text}",
        "passed": False,
        "rules": [{"name": f"x{text}", "problems": [text + "!"]}],
    }
    report["checks"][0]["transcript"] = text
    root = ET.fromstring(as_junit(report))
    failure = root.find(".//failure")
    assert failure is not None
    if text.isprintable() and text.isascii():
        assert failure.attrib["message"] == f"{text}!"
        assert root.find(".//testcase").attrib["name"] == f"x{text}"  # type: ignore[union-attr]


def test_the_same_report_gives_the_same_bytes() -> None:
    assert as_junit(reports.failed_report()) == as_junit(reports.failed_report())
    assert as_junit(reports.report()).startswith(b"<?xml version='1.0' encoding='utf-8'?>\n<testsuites ")
