"""Agreement as JUnit XML: what has no answer is an error, and nothing fails without a tolerance."""

import xml.etree.ElementTree as ET
from dataclasses import replace

from mimo_agreement.records import ALL_CONDITIONS, Agreement
from mimo_agreement.report.junit import as_junit
from runtime_check.run.compare.fidelity import Estimate
from tests import reports

from .. import made_up

N_CASES = len(made_up.TYPES) * (1 + len(made_up.CONDITIONS))


def read(agreement: Agreement, tolerance: float | None = None) -> ET.Element:
    return ET.fromstring(as_junit(agreement, tolerance))


def counts(root: ET.Element) -> tuple[int, int, int]:
    return int(root.attrib["tests"]), int(root.attrib["failures"]), int(root.attrib["errors"])


def failed(root: ET.Element) -> set[tuple[str, str]]:
    return {
        (suite.attrib["name"].removeprefix("agreement: mimo-asr-").removesuffix(".gguf"), case.attrib["name"])
        for suite in root.iter("testsuite")
        for case in suite.iter("testcase")
        if case.find("failure") is not None
    }


def test_there_is_a_case_for_each_file_and_condition_and_none_fails() -> None:
    root = read(made_up.agreement())
    assert counts(root) == (N_CASES, 0, 0)
    for suite in root.iter("testsuite"):
        assert [case.attrib["name"] for case in suite] == [ALL_CONDITIONS, *made_up.CONDITIONS]
    said = root.findtext(".//system-out") or ""
    assert "WER 9.40% (7.99 … 10.81%), sub / del / ins 226 / 3 / 2" in said
    assert "KL 0.31 (0.25 … 0.37)" in said


def test_a_pair_without_an_answer_is_an_error_of_its_case() -> None:
    root = read(made_up.unanswered())
    assert counts(root) == (N_CASES, 0, 1)
    [error] = root.iter("error")
    assert error.attrib["message"] == "clip-3.wav: no answer after 3 tries: killed by SIGSEGV"


def test_a_tolerance_is_one_of_the_upper_end() -> None:
    beyond: dict[str, set[str]] = {row.file: set() for row in made_up.agreement().rows}
    for row in made_up.agreement().rows:
        beyond[row.file] |= {row.condition} if (row.difference.high or 0) > 0.01 else set()
    expected = {(name, condition) for name in made_up.TYPES for condition in beyond[made_up.sha(name)]}
    assert failed(read(made_up.agreement(), 1.0)) == expected
    assert {name for name, _ in expected} == {"q2_k", "q3_k"}
    assert failed(read(made_up.agreement(), 100.0)) == set()
    message = next(read(made_up.agreement(), 1.0).iter("failure")).attrib["message"]
    assert message == "+4.21 points from the baseline, at most +4.61 by the 95 % interval; expected at most +1"


def test_an_interval_that_is_not_known_does_not_pass() -> None:
    found = made_up.agreement()
    unknown = tuple(replace(row, difference=Estimate(0.0, None, None)) for row in found.rows)
    root = read(replace(found, rows=unknown), 1.0)
    assert {name for name, _ in failed(root)} == set(made_up.TYPES) - {"f16"}, "but the baseline's"
    assert "has no interval" in next(root.iter("failure")).attrib["message"]


def test_without_texts_it_has_what_differs_from_the_baseline() -> None:
    said = read(made_up.without_texts()).findtext(".//system-out") or ""
    assert "WER to baseline 6.31% (4.42 … 8.21%)" in said


def test_any_text_can_stand_in_it() -> None:
    hostile = "]]>&<a>\x00\ud800"
    found = made_up.unanswered()
    spoiled: Agreement = replace(
        found, files=reports.spoiled(found.files, ""),
        quarantined=tuple(replace(one, clip=hostile, reason=hostile) for one in found.quarantined),
    )  # fmt: skip
    [error] = read(spoiled).iter("error")
    assert "]]>&<a>\\u0000\\ud800" in (error.text or "")
    assert as_junit(spoiled) == as_junit(spoiled)
