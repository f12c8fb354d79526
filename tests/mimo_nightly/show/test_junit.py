"""A run's XML, as the test pages of GitLab, Jenkins and the like read it."""

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimo_nightly.history import FAILED, HEADER, PASSED, UNCHECKED, Problem, StageRow, TargetResult
from mimo_nightly.show.junit import as_junit
from tests.mimo_nightly import made_up

RUN = [made_up.result(name, 40) for name in made_up.NAMES[:4]]


def cases(result: TargetResult) -> dict[str, ET.Element]:
    [suite] = ET.fromstring(as_junit([result]))
    return {case.attrib["name"]: case for case in suite}


def test_there_is_a_suite_a_target_and_a_case_a_stage() -> None:
    suites = {suite.attrib["name"]: suite for suite in ET.fromstring(as_junit(RUN))}
    assert list(suites) == [f"target: {result.target}" for result in RUN]
    for suite, result in zip(suites.values(), RUN, strict=True):
        names = [case.attrib["name"] for case in suite]
        assert names == ["target", *(f"{row.file} on {row.clip}: {row.stage}" for row in result.stages)]


@pytest.mark.parametrize("run", [1, 30, 40])
def test_counts_and_times_are_those_of_the_cases(run: int) -> None:
    root = ET.fromstring(as_junit([made_up.result(name, run) for name in made_up.NAMES[:4]]))
    for element in (root, *root):
        found = list(element.iter("testcase"))
        assert int(element.attrib["tests"]) == len(found)
        for tag, attribute in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
            assert int(element.attrib[attribute]) == sum(case.find(tag) is not None for case in found)
        total = sum(float(case.attrib["time"]) for case in found)
        assert float(element.attrib["time"]) == pytest.approx(total, abs=0.01)
    assert all(set(case.attrib) == {"name", "classname", "time"} for case in root.iter("testcase"))
    names = [(case.attrib["classname"], case.attrib["name"]) for case in root.iter("testcase")]
    assert len(names) == len(set(names))


def test_a_failed_target_has_all_its_problems_and_each_stage_its_own() -> None:
    found = cases(RUN[1])
    whole = found["target"].find("failure")
    assert whole is not None
    assert (whole.text or "").splitlines() == [problem.text for problem in made_up.PROBLEMS]
    failed = {name: failure.attrib["message"] for name, case in found.items()
              if (failure := case.find("failure")) is not None}  # fmt: skip
    lm = "mimo-asr-q8_0.gguf on jfk.wav"
    assert failed.keys() - {"target"} == {
        *(f"{lm}: layer_{i}" for i in range(20, 36)), f"{lm}: prefill_last_hidden", f"{lm}: steps", f"{lm}: transcript",
    }  # fmt: skip
    assert failed[f"{lm}: layer_20"] == made_up.PROBLEMS[0].text
    assert failed[f"{lm}: steps"] == "agreement 41.00%, KL divergence 2.500000"  # of which no problem tells
    passed = found["mimo-tokenizer-q4_k.gguf on jfk.wav: tok_codes"]
    assert passed.findtext("system-out") == "agreement 79.23%"


def test_a_target_that_could_not_be_checked_is_an_error() -> None:
    [(name, case)] = cases(RUN[2]).items()
    assert name == "target"
    [error] = case
    assert (error.tag, error.attrib["type"]) == ("error", "unchecked")
    assert "does not answer" in error.attrib["message"]


def test_a_problem_of_another_clip_is_not_told() -> None:
    rows = [made_up.row("lm", clip, "layer_01", 0.5, passed=False) for clip in ("a.wav", "b.wav")]
    problems = [
        Problem("layer_01 of a.wav: too low", "a.wav", "layer_01"),
        Problem("layer_01 of b.wav: far too low", "b.wav", "layer_01"),
        Problem("layer_10 of b.wav: another", "b.wav", "layer_10"),
        Problem("layer_01: of no clip"),
    ]
    found = cases(TargetResult(1, "asr", "", 1.0, FAILED, problems=problems, stages=rows))
    texts = [case.findtext("failure") for case in found.values()]
    assert texts == ["\n".join(one.text for one in problems), problems[0].text, problems[1].text]


def test_what_failed_is_never_green() -> None:
    for state, tag in ((FAILED, "failure"), (UNCHECKED, "error")):
        assert cases(TargetResult(1, "asr", "", 1.0, state))["target"].find(tag) is not None


def test_a_header_alone_is_said_to_be_no_more() -> None:
    case = cases(TargetResult(1, "asr", "", 1.0, PASSED, HEADER))["target"]
    assert case.findtext("system-out") == "only the header was checked"


@given(st.text())
def test_any_text_can_be_written(text: str) -> None:
    row = StageRow(text, text, text, text, text, passed=False)
    result = TargetResult(1, text, "", 1.0, FAILED, problems=[Problem(text + "!")], stages=[row])
    root = ET.fromstring(as_junit([result]))
    failure = root.find(".//failure")
    assert failure is not None
    if text.isprintable() and text.isascii():
        assert failure.attrib["message"] == f"{text}!"


def test_the_same_results_give_the_same_bytes() -> None:
    assert as_junit(RUN) == as_junit([made_up.result(name, 40) for name in made_up.NAMES[:4]])
    assert as_junit(RUN).startswith(b"<?xml version='1.0' encoding='utf-8'?>\n<testsuites ")
