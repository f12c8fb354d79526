"""The page, as its readers see it: in Chromium, on a phone, in the dark, on paper."""

import base64
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from mimo_commands.convert import main as mimo_convert
from runtime_check.audio.jfk import JFK_TEXT
from runtime_check.gate import LAYER
from runtime_check.report.json_report import report_of
from runtime_check.report.junit import as_junit
from runtime_check.report.page.page import as_html
from runtime_check.report.page.parts import stacks_of
from runtime_check.report.records import Report
from runtime_check.report.table import check_as_text
from runtime_check.run.records import StageResult
from runtime_check.text.words import align_words, count_words
from tests import reports
from tests.system.browser import (
    DESKTOP,
    HOSTILE,
    OPEN_ALL,
    PHONE,
    Browser,
    check_all_text_can_be_read,
    check_it_is_only_shown,
    check_it_stands_alone,
    chromium,
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


def written(folder: Path, report: Report) -> Path:
    path = folder / "report.html"
    path.write_text(as_html(report), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def passed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("passed"), reports.report())


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("failed"), reports.failed_report())


# ── what it says ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_writes_the_page_and_the_xml_of_its_json_report_and_of_nothing_else(tmp_path: Path) -> None:
    names = [tmp_path / f"report.{ending}" for ending in ("json", "html", "xml")]
    outputs = [f"--{option}={path}" for option, path in zip(("json", "html", "junit"), names, strict=True)]
    result = CliRunner().invoke(mimo_convert, ["tiny", "--outtype", "q4_k", "--out", str(tmp_path / "out"), *outputs])
    assert result.exit_code == 0, result.output
    report = report_of(json.loads(names[0].read_text()), names[0], {})
    assert names[1].read_text(encoding="utf-8") == as_html(report)
    assert names[2].read_bytes() == as_junit(report)
    assert JFK_TEXT in names[1].read_text(encoding="utf-8")


def test_it_shows_every_part_of_the_report(browser: Browser, passed: Path) -> None:
    browser.open(passed)
    browser.run(OPEN_ALL)
    assert browser.driver.title == "PASS · mimo-asr-q4_k.gguf and mimo-tokenizer-q4_k.gguf · mimo-convert"
    text = browser.run("return document.body.innerText")
    assert text.index("PASS") < text.index("Files")
    for shown in (
        "All 663 gates passed", "4,523,915,264 bytes", "4.52 GB", "4.51", "0123456789abcdef" * 4, "simd",
        "401 q4_k, 243 f32, 2 q6_k", JFK_TEXT, "Word error rate 0.0%", "layer_35", "prefill_text_logits_step0",
        "81.23% equal", "Americans", "96.30% equal", "0.410000", "310 ms", "6.12 GB", "model.layers.85.ffn.gate.weight",
        "2.13.0", "mimo-check report 2", "merges", "rows of 32 are not a multiple of 256: q4_0",
        "Blocks are compared by bytes: a changed byte of any weight fails.",
    ):  # fmt: skip
        assert shown in text, shown


def test_files_stand_side_by_side_with_every_clip(browser: Browser, tmp_path: Path) -> None:
    browser.open(written(tmp_path, reports.side_by_side()))
    browser.run(OPEN_ALL)
    tables = browser.run("""return [...document.querySelectorAll('#fidelity ~ * table')].slice(0, 2).map(table =>
        [...table.rows].map(row => [...row.cells].map(cell => cell.innerText.split('\\n'))))""")
    files, clips = tables
    assert [row[0] for row in files[1:]] == [["mimo-asr-q4_k.gguf", "q4_k"], ["mimo-asr-q4_k-mix.gguf", "q4_k"]]
    assert files[2][6:] == [["0.50", "0.50 … 0.50"], ["0.0032"], ["1"]]
    assert [row[0] for row in clips[1:]] == [["one.wav"], ["two.wav"]]
    text = browser.run("return document.body.innerText")
    assert "2 clips, 54 tokens, held out by calibration.gguf, which was made with synthetic speech" in text
    assert "Loop: “and so” stands 12 times in a row, 36 tokens." in text


def calibrated() -> Report:
    """A report of a file that was made with an importance matrix of synthetic speech, and with error feedback."""
    report = reports.report()
    [check] = report.checks
    main, *others = check.files
    methods = {
        "blk.0.attn_q.weight": "feedback-0.1",
        "blk.0.attn_k.weight": "plain",
        "blk.1.attn_q.weight": "feedback-0.1",
    }
    told = replace(
        main.provenance, imatrix="01" * 32, imatrix_file="speech.gguf", imatrix_dataset="synthetic speech: espeak-ng",
        feedback="".join(f"{name}={method}\n" for name, method in methods.items()),
    )  # fmt: skip
    check = replace(check, files=(replace(main, provenance=told), *others))
    return replace(report, checks=(check,))


def test_the_importance_matrix_and_the_method_of_each_matrix_are_told(browser: Browser, tmp_path: Path) -> None:
    browser.open(written(tmp_path, calibrated()))
    browser.run(OPEN_ALL)
    row = browser.run("return document.querySelector('#files ~ .box table').innerText")
    assert "importance matrix speech.gguf, of synthetic speech alone; of its matrices:" in row
    assert "1 plain, 2 feedback-0.1" in row
    assert "blk.0.attn_k.weight plain" in row
    assert browser.run("return document.body.innerText").count("importance matrix") == 1
    table = check_as_text(calibrated().checks[0])
    assert "  importance matrix speech.gguf, of synthetic speech alone; matrices: 1 plain, 2 feedback-0.1\n" in table


def test_plots_have_a_mark_for_every_stage_layer_step_and_tensor(browser: Browser, passed: Path) -> None:
    browser.open(passed)
    plots = browser.run("""return Object.fromEntries([...document.querySelectorAll('svg[role=img]')].map(svg => [
        svg.querySelector(':scope > title').textContent.split(',')[0],
        ['mean', 'worst', 'dot', 'expected'].map(kind => svg.querySelectorAll('.mark.' + kind).length)]))""")
    assert plots == {
        "Cosine of each stage": [10, 10, 0, 0],
        "Cosine of each layer": [36, 36, 0, 0],
        "Relative RMSE of each layer": [36, 0, 0, 0],
        "KL divergence of each step": [27, 0, 0, 0],
        "Relative RMSE of each tensor": [0, 0, 600, 600],
    }
    notes = browser.run("return [...document.querySelectorAll('svg .mark > title')].map(title => title.textContent)")
    assert "step 5, “ Americans”: 1.5e-07" in notes
    assert sum(note.startswith("layer_07") for note in notes) == 3


def test_a_failure_is_told_first_with_every_reason_and_marked_in_the_plots(browser: Browser, failed: Path) -> None:
    browser.open(failed)
    assert browser.driver.title.startswith("FAIL")
    banner = browser.run("return document.querySelector('.banner').innerText")
    assert "11 of 715 gates failed" in banner
    for check in reports.failed_report().checks:
        subjects = {gate.subject: gate.text for gate in reversed(check.gates) if not gate.passed}
        for text in subjects.values():  # the first of each
            assert text in banner
    for shown in ("kl_mean 0.5, expected at most 0.2", "model.norm.weight of the source is missing", "'# #'"):
        assert shown in banner
    assert browser.run("return document.querySelectorAll('svg .mark.failed').length") == 2 * 3 + 3
    assert browser.run("return [...document.querySelectorAll('td.fail')].every(cell => cell.innerText == '✗ FAIL')")


def test_what_was_heard_wrongly_is_struck_or_underlined(browser: Browser, failed: Path) -> None:
    browser.open(failed)
    said = "return [...document.querySelectorAll('#check-2 ~ .said {}')].map(element => element.textContent)"
    assert browser.run(said.format("del")) == ["Americans,", "your", "you", "for your country."]
    assert browser.run(said.format("ins")) == ["American", "you're", "for you."]
    lines = browser.run(
        "return ['del', 'ins'].map(x => getComputedStyle(document.querySelector(x)).textDecorationLine)"
    )
    assert lines == ["line-through", "underline"]


def test_a_transcript_without_reference_or_text_is_called_not_compared(browser: Browser, tmp_path: Path) -> None:
    check = reports.without_reference(reports.check())
    check = replace(check, clip=replace(check.clip, text=None), words=None)
    report = replace(reports.report(), checks=(check,), lint=(), tensors=(), conversions=(), passed=None)
    browser.open(written(tmp_path, report))
    assert browser.driver.title.startswith("NOT COMPARED")
    text = browser.run("return document.body.innerText")
    assert JFK_TEXT in text
    assert "There was no reference" in text
    assert "FAIL" not in text


# ── how it behaves ───────────────────────────────────────────────────────────────────────────────────────────────


def test_it_asks_for_nothing_runs_nothing_and_makes_no_complaint(browser: Browser, failed: Path) -> None:
    check_it_stands_alone(browser, failed)


def test_hostile_names_tokens_and_texts_are_only_shown(browser: Browser, tmp_path: Path) -> None:
    report = reports.failed_report()
    report = replace(report, tensors=(reports.tensor_check(report.tensors[0].tensors[:40]),))
    shown = check_it_is_only_shown(browser, written(tmp_path, reports.spoiled(report, HOSTILE)), ".token")
    assert shown.startswith(" And<script>window.hacked = 1")


def test_the_same_report_gives_the_same_bytes() -> None:
    assert as_html(reports.failed_report()) == as_html(reports.failed_report())


LESS: list[Callable[[Report, Any], Report]] = [
    *(lambda report, check, key=key: replace(report, **{key: ()})  # type: ignore[misc]
      for key in ("lint", "tensors", "conversions")),
    lambda report, check: replace(report, words=None),
    lambda report, check: replace(report, versions={}, memory={}),
    lambda report, check: replace(report, checks=()),
    lambda report, check: replace(report, checks=(replace(check, stages=()),)),
    lambda report, check: replace(report, checks=(replace(check, steps=None, timings={}, memory={}),)),
    lambda report, check: replace(report, checks=(replace(check, reference=None, words=None),)),
    lambda report, check: replace(report, checks=(replace(check, steps=replace(check.steps, steps=())),)),
    lambda report, check: replace(report, checks=(reports.with_stage(check, "layer_20", rel_rmse=None),)),
    lambda report, check: replace(report, checks=(reports.with_stage(check, "layer_20", cos_mean=None),)),
    lambda report, check: replace(
        report, checks=(report.checks[0], reports.with_steps(check, replace(check.steps, kl_mean=None)))
    ),
]  # fmt: skip


@pytest.mark.parametrize("less", LESS)
def test_what_a_report_lacks_is_left_out(less: Callable[[Report, Any], Report]) -> None:
    """Parts that a command did not run, and what was not measured, or is not a number."""
    report = reports.failed_report()
    report = replace(report, tensors=(reports.tensor_check(report.tensors[0].tensors[:40]),))
    found = less(report, report.checks[1])
    assert "✗ FAIL" in as_html(found)
    assert b"<failure" in as_junit(found)


# ── how it looks ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("width", [PHONE, 320, 768, DESKTOP])
def test_the_page_is_never_wider_than_the_window(browser: Browser, failed: Path, width: int) -> None:
    browser.open(failed, width)
    browser.run(OPEN_ALL)
    assert browser.run("return document.documentElement.scrollWidth") <= width
    assert browser.run("return innerWidth") == width
    # what is wider scrolls in a box that the keyboard reaches
    assert browser.run("""return [...document.querySelectorAll('table')].every(
        table => table.parentElement.matches('[tabindex="0"][role=region][aria-label]'))""")


@pytest.mark.parametrize("dark", [False, True], ids=["day", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_all_text_can_be_read(browser: Browser, failed: Path, width: int, dark: bool) -> None:
    check_all_text_can_be_read(browser, failed, width, dark, 2000)


def test_the_dark_is_dark(browser: Browser, failed: Path) -> None:
    """Also on the screen's own picture, of which most is paper."""
    commonest = {}
    for dark in (False, True):
        browser.open(failed, PHONE, dark=dark)
        commonest[dark] = commonest_color(browser, browser.screenshot())
    assert min(commonest[False]) > 240
    assert max(commonest[True]) < 32


def commonest_color(browser: Browser, png: bytes) -> list[int]:
    script = """
        const [png, done] = arguments, image = new Image();
        image.onload = () => {
            const canvas = new OffscreenCanvas(image.width, image.height), context = canvas.getContext('2d');
            context.drawImage(image, 0, 0);
            const counts = new Map(), {data} = context.getImageData(0, 0, image.width, image.height);
            for (let i = 0; i < data.length; i += 4) {
                const color = data.slice(i, i + 3).join();
                counts.set(color, (counts.get(color) || 0) + 1);
            }
            done([...counts].sort((a, b) => b[1] - a[1])[0][0].split(',').map(Number));
        };
        image.src = 'data:image/png;base64,' + png;"""
    return browser.driver.execute_async_script(script, base64.b64encode(png).decode())


def test_headings_are_in_order_and_tables_and_plots_are_named(browser: Browser, failed: Path) -> None:
    browser.open(failed)
    levels = browser.run("return [...document.querySelectorAll('h1, h2, h3, h4')].map(h => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert browser.run("return [...document.querySelectorAll('th')].every(th => th.scope)")
    assert browser.run("""return [...document.querySelectorAll('svg')].every(svg => svg.getAttribute('role') == 'img'
        && svg.querySelector(':scope > title').textContent && svg.querySelector(':scope > desc').textContent)""")
    assert browser.run("return document.documentElement.lang") == "en"


def test_it_prints_with_the_steps_and_without_what_is_long(browser: Browser, failed: Path) -> None:
    browser.open(failed, dark=True, media="print")
    assert browser.run("return getComputedStyle(document.documentElement).getPropertyValue('--paper')") == "#fdfdfc"
    shown = "return [...document.querySelectorAll('{} table')].map(table => table.checkVisibility())"
    assert set(browser.run(shown.format("details:not(.long)"))) == {True}
    assert set(browser.run(shown.format("details.long"))) == {False}
    browser.open(failed)
    pdf = browser.pdf()
    assert pdf.startswith(b"%PDF-")
    assert 5 <= len(re.findall(rb"/Type /Page\b", pdf)) <= 20


# ── aligned words ─────────────────────────────────────────────────────────────────────────────────────────────────

words = st.sampled_from(["And", "so,", "my", "—", "fellow", "Americans.", "é", "..."])
sentences = st.lists(words, max_size=12).map(" ".join)


@given(expected=sentences.filter(lambda text: re.search(r"\w", text)), heard=sentences)
def test_differences_are_those_that_the_word_error_rate_counts(expected: str, heard: str) -> None:
    spans = align_words(expected, heard)
    counted = count_words(expected, heard)
    n = {kind: sum(len(re.findall(r"\w+", span.text)) for span in spans if span.kind == kind)
         for kind in ("equal", "deletion", "insertion")}  # fmt: skip
    assert n["equal"] + n["deletion"] == counted.words
    assert max(n["deletion"], n["insertion"]) <= counted.errors <= n["deletion"] + n["insertion"]
    shown = " ".join(span.text for span in spans if span.kind != "deletion")
    assert re.findall(r"\w+", shown) == re.findall(r"\w+", heard)


def test_each_stack_of_layers_has_plots_of_its_own() -> None:
    names = ["enc_layer_00", "enc_layer_01", "layer_00", "layer_01"]
    stages = [StageResult(name, "asr", LAYER, (9, 8), 9, 1.0, 1.0, 0.0, 1.0) for name in names]
    assert [(where, [one.name for one in stack]) for where, stack in stacks_of(stages)] == [
        (" (enc_layer_…)", names[:2]),
        (" (layer_…)", names[2:]),
    ]
    assert stacks_of(stages[2:]) == [("", stages[2:])]
