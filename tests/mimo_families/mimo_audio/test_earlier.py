"""Reports of schema 1, which versions before 0.7 wrote: read, shown, and never better than they were."""

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mimo_families.mimo_audio.earlier import as_schema_2, subject_of
from mimo_families.registry import UPGRADES
from mimo_publish.card import as_card, as_plots
from mimo_publish.destination import Destination
from mimo_publish.publication import may_be_published
from quantize.errors import InputError
from runtime_check.audio.jfk import JFK_TEXT
from runtime_check.gate import CACHED, CODES, LAYER, STEPS, VOCABULARY, Subject
from runtime_check.report.json_report import json_text, read_report, report_of
from runtime_check.report.junit import as_junit
from runtime_check.report.page.page import as_html
from runtime_check.report.records import Report
from runtime_check.report.suites import suites_of

RECORDED = Path(__file__).parents[2] / "data" / "report-schema-1.json"  # of tiny, by version 0.6
LM, TOKENIZER = "speech_lm", "audio_tokenizer"
Data = dict[str, Any]
Change = Callable[[Data], object]


def recorded() -> Data:
    found: Data = json.loads(RECORDED.read_text(encoding="utf-8"))
    return found


def publication(report: Data) -> Data:
    [check] = report["checks"]
    files = [{"file": Path(check[role]["file"]).name, **{key: check[role][key] for key in ("sha256", "bytes")}}
             for role in (LM, TOKENIZER)]  # fmt: skip
    return {"repo": "someone/Tiny", "files": files, "even_if_failed": False, "base_model": None}


def read(report: Data) -> Report:
    return report_of(report, "report.json", UPGRADES)


def changed(*changes: Change) -> Data:
    report = recorded()
    report["publication"] = publication(report)
    for change in changes:
        change(report)
    return report


def failures(report: Report) -> dict[str, str]:
    """Name of a failed case in the JUnit XML → what it says."""
    cases = ET.fromstring(as_junit(report)).iter("testcase")
    return {case.attrib["name"]: found.attrib["message"] for case in cases
            if (found := case.find("failure")) is not None}  # fmt: skip


# ── what it says ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_recorded_report_is_read_with_all_its_numbers() -> None:
    old, report = recorded(), read_report(RECORDED, UPGRADES)
    assert report.passed is True
    assert report.schema == "mimo-check report 2"
    assert [len(part) for part in (report.conversions, report.lint, report.tensors, report.checks)] == [2, 2, 1, 1]
    [before], [check] = old["checks"], report.checks
    assert [(file.role, file.file, file.sha256) for file in check.files] == [
        (role, before[role]["file"], before[role]["sha256"]) for role in (LM, TOKENIZER)
    ]
    assert [file.provenance.repo for file in check.files] == ["Some/Tiny", "Some/Tiny-Tokenizer"]
    assert check.transcript == check.clip.text == JFK_TEXT
    assert check.words is not None
    assert (check.words.words, check.words.errors) == (22, 0)
    assert list(check.token_ids) == before["greedy_ids"]
    stages = {stage.name: stage for stage in check.stages}
    for stage in before["stages"]:
        found = stages[stage["name"]]
        for metric in ("cos_mean", "cos_min", "rel_rmse"):
            assert getattr(found, metric) == stage[metric]
        bounds = {gate.metric: gate.bound for gate in check.gates if gate.stage == stage["name"]}
        assert (bounds["cos_mean"], bounds["cos_min"]) == (stage["gate_mean"], stage["gate_min"])
    assert stages["tok_codes"].agreement == before["codes"]["agreement"]
    assert check.steps is not None
    assert (check.steps.kl_mean, check.steps.cached_rel_rmse) == (
        before["steps"]["kl_mean"], before["steps"]["cached"]["rel_rmse"],
    )  # fmt: skip
    assert [step.text for step in check.steps.steps] == [step["text"] for step in before["steps"]["steps"]]
    assert [rule.checked for rule in report.lint[0].rules] == [rule["checked"] for rule in old["static"][0]["rules"]]
    assert len(report.tensors[0].tensors) == len(old["tensors"][0]["tensors"])


def test_gates_are_in_the_order_of_a_run_those_of_a_subject_together() -> None:
    [suite] = [suite for suite in suites_of(read(recorded())) if suite.kind == "check"]
    names = [case.name for case in suite.cases]
    assert names == [
        "transcribed", "tok_mel", "tok_conv1", "tok_conv2", "tok_xfmr", "tok_pool", "tok_codes", "vocabulary",
        "prompt_ids", "prefill_audio_features", "prefill_text_embeds", "prefill_inputs_embeds", "layer_00", "layer_01",
        "prefill_last_hidden", "prefill_text_logits_step0", "steps", "cached",
    ]  # fmt: skip
    assert not suite.failed


def test_page_card_plots_xml_and_json_are_made_of_it() -> None:
    report = read(changed())
    page, card = as_html(report), as_card(report)
    for shown in ("PASS", JFK_TEXT, "layer_01", "Speech LM", "Audio tokenizer", "mimo-check report 2"):
        assert shown in page, shown
    assert "FAIL" not in page
    assert "**PASS**" in card
    assert "Some/Tiny" in card
    assert list(as_plots(report)) == ["layers-mimo-asr-q4_k.svg"]
    assert failures(report) == {}
    assert report_of(json.loads(json_text(report)), "again", {}) == report


def test_an_audio_tokenizer_alone_has_no_response() -> None:
    def alone(report: Data) -> None:
        [check] = report["checks"]
        nothing = (LM, "vocabulary_equal", "prompt_equal", "first_token", "steps", "expected_text", "word_error_rate")
        check |= dict.fromkeys(nothing) | {"transcript": "", "greedy_ids": []}
        check["stages"] = [stage for stage in check["stages"] if stage["name"].startswith("tok_")]

    [check] = read(changed(lambda report: report.update(publication=None), alone)).checks
    assert [file.role for file in check.files] == [TOKENIZER]
    assert (check.transcript, check.words, check.steps) == (None, None, None)
    assert {gate.role for gate in check.gates} == {TOKENIZER}


@pytest.mark.parametrize(
    ("stage", "subject"),
    [
        ("layer_07", Subject(LM, "layer_07", LAYER)),
        ("tok_codes", Subject(TOKENIZER, "tok_codes", CODES)),
        ("steps", Subject(LM, STEPS, "logits")),
        ("cached", Subject(LM, CACHED, "logits")),
        ("transcript", Subject(LM, "transcript", "text")),
        ("vocabulary", Subject(LM, VOCABULARY, VOCABULARY)),
        ("what is this", Subject(LM, "what is this", "text")),
    ],
)
def test_every_stage_of_earlier_versions_has_a_role_and_a_kind(stage: str, subject: Subject) -> None:
    assert subject_of(stage) == subject


# ── failures stay failures ───────────────────────────────────────────────────────────────────────────────────────


def failed_check(reasons: list[str], **keys: Any) -> Change:
    def change(report: Data) -> None:
        report["passed"] = False
        report["checks"][0] |= {"passed": False, "reasons": reasons} | keys

    return change


def failed_stage(name: str, reason: str = "", **numbers: float) -> Change:
    def change(report: Data) -> None:
        failed_check([f"{name}: {reason}"] if reason else [])(report)
        stage = next(one for one in report["checks"][0]["stages"] if one["name"] == name)
        stage |= {"passed": False} | numbers

    return change


def failed_steps(**numbers: Any) -> Change:
    return lambda report: [
        failed_check([])(report), report["checks"][0]["steps"].update({"passed": False} | numbers)
    ]  # fmt: skip


def failed_cached(**numbers: Any) -> Change:
    return lambda report: [
        failed_check([])(report), report["checks"][0]["steps"]["cached"].update({"passed": False} | numbers)
    ]  # fmt: skip


def failed_part(part: str, **keys: Any) -> Change:
    def change(report: Data) -> None:
        report["passed"] = False
        report[part][0] |= {"passed": False} | keys

    return change


UNEXPLAINED = "failed, for a reason that the report does not name"
FAILURES: list[tuple[Change, dict[str, str]]] = [
    (failed_stage("layer_01", cos_mean=0.5),
     {"layer_01": "cos_mean 0.500000, expected at least 0.929000"}),
    (failed_stage("tok_pool", "its norm is 1.1000 times the reference's, at most 1.0521 may be"),
     {"tok_pool": "its norm is 1.1000 times the reference's, at most 1.0521 may be"}),
    (failed_stage("layer_00"), {"layer_00": UNEXPLAINED}),
    (failed_check(["vocabulary: its tokens or merges are not the reference's"], vocabulary_equal=False),
     {"vocabulary": "differs, expected the reference's"}),
    (failed_check(["prompt_ids: channel 2 at position 7 is 1, the reference's is 2"], prompt_equal=False),
     {"prompt_ids": "differs, expected the reference's"}),
    (failed_check(["prefill_text_logits_step0: the first token is 11, the reference's is 480"],
                  first_token={"ours": 11, "reference": 480}),
     {"prefill_text_logits_step0": "top-1 token 11, expected 480"}),
    (failed_check(["tok_codes: 1.00% of the codes are equal"],
                  codes={"agreement": 0.01, "gate": 0.425, "passed": False}),
     {"tok_codes": "agreement 1.00%, expected at least 42.50% of equal codes"}),
    (failed_steps(top1_agreement=0.5), {"steps": "top1_agreement 50.0%, expected at least 80.0%"}),
    (failed_steps(kl_mean=0.5), {"steps": "kl_mean 0.5, expected at most 0.2"}),
    (failed_steps(kl_mean=None), {"steps": "kl_mean nan, expected at most 0.2"}),
    (failed_steps(), {"steps": UNEXPLAINED}),
    (failed_cached(rel_rmse=0.5), {"cached": "rel_rmse 0.5, expected at most 0.2"}),
    (failed_check(["answer_logits: of shape (3, 40), the reference has (3, 50)"], steps=None),
     {"steps": "of shape (3, 40), the reference has (3, 50)"}),
    (failed_check(["transcript: the reference's answer spells 'a', in the reference 'b'"]),
     {"transcript": "the reference's answer spells 'a', in the reference 'b'"}),
    (failed_check(["loudness: too low", "something else", "and more"]),
     {"loudness": "too low", "verdict": "something else (and 1 more)"}),
    (failed_check([]), {"verdict": UNEXPLAINED}),
    (failed_part("static"), {"verdict": UNEXPLAINED}),
    (failed_part("static", rules=[{"name": "merges", "checked": 1, "problems": ["one", "two"]}]),
     {"merges": "one (and 1 more)"}),
    (failed_part("tensors", problems=["tensor x of the source is missing"]),
     {"file": "tensor x of the source is missing"}),
    (failed_part("tensors", tensors=[]), {"verdict": UNEXPLAINED}),
    (lambda report: report.update(passed=False), {"verdict": UNEXPLAINED}),
]  # fmt: skip


@pytest.mark.parametrize(("change", "says"), FAILURES, ids=[" ".join(says.values()) for _, says in FAILURES])
def test_what_failed_fails_and_is_told(change: Change, says: dict[str, str]) -> None:
    report = read(changed(change))
    assert report.passed is False
    assert failures(report) == says
    assert as_html(report).count("FAIL") > 1
    told: list[str] = []
    assert not may_be_published(report, Destination("someone/Tiny"), told.append)
    assert told


@pytest.mark.parametrize(("change", "says"), FAILURES[:16], ids=[" ".join(says.values()) for _, says in FAILURES[:16]])
def test_the_card_of_a_check_that_failed_says_so(change: Change, says: dict[str, str]) -> None:
    card = as_card(read(changed(change)))
    assert "> [!WARNING]" in card
    assert "**PASS**" not in card


@pytest.mark.parametrize("how", ["absent", "null", "empty"])
def test_what_a_report_lacks_is_left_out(how: str) -> None:
    """Parts that a command did not run, and those that older reports do not know."""
    report = changed(failed_part("tensors", problems=["x"]), failed_stage("layer_01", cos_mean=0.5))
    [check] = report["checks"]
    optional = [(report, key) for key in ("static", "conversions", "versions", "words", "memory", "publication")]
    optional += [(check, key) for key in (
        "reference", "codes", "first_token", "steps", "timings", "vocabulary_equal", "prompt_equal", "expected_text",
        "word_error_rate",
    )]  # fmt: skip
    optional += [(check["steps"], key) for key in ("steps", "cached", "gate_top1", "gate_kl_mean")]
    optional.append((check["stages"][9], "rel_rmse"))
    for where, key in optional:
        kept = where.pop(key)
        if how == "null":
            where[key] = None
        elif how == "empty" and isinstance(kept, (dict, list)):
            where[key] = type(kept)()
        found = read(report)
        assert "✗ FAIL" in as_html(found)
        assert failures(found).keys() >= {"layer_01", "file"}
        where[key] = kept


@pytest.mark.parametrize(
    "change",
    [
        lambda report: report.pop("passed"),
        lambda report: report.update(checks=7),
        lambda report: report.update(checks=[7]),
        lambda report: report["checks"][0].pop("audio"),
        lambda report: report["checks"][0]["stages"].append({}),
        lambda report: report["checks"][0]["codes"].update(agreement="high"),
        lambda report: report["checks"][0].update(first_token=[]) or report["checks"][0]["first_token"].append(1),
        lambda report: report["tensors"][0].pop("tensors"),
        lambda report: report["conversions"][0].update(tensor_types=[1]),
        lambda report: report["checks"][0]["timings"].update(load_s="long"),
        lambda report: report["checks"][0].update(reasons=[1]),
    ],
)
def test_a_report_that_is_none_is_one_line(change: Change) -> None:
    with pytest.raises(InputError, match=r"report\.json: is not as a report should be") as error:
        read(changed(change))
    assert "\n" not in str(error.value)


def test_other_schemas_are_refused() -> None:
    with pytest.raises(InputError, match="expected 'mimo-check report 2' or 'mimo-check report 1'"):
        read(recorded() | {"schema": "mimo-check report 3"})
    with pytest.raises(InputError, match="has the schema 'mimo-check report 1'; expected 'mimo-check report 2'"):
        report_of(recorded(), "report.json", {})


def test_nothing_of_the_old_report_is_changed() -> None:
    report = changed()
    as_schema_2(report)
    assert report == changed()
