"""The page of nightly runs, as its readers see it: in Chromium, on a phone, in the dark, on paper."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from mimo_nightly.history import FAILED, PASSED, FileRow, History, Problem, StageRow, TargetResult
from mimo_nightly.show.page import as_html
from runtime_check.gate import LAYER
from tests.mimo_nightly import made_up
from tests.system.browser import DESKTOP, OPEN_ALL, PHONE, Browser, check_all_text_can_be_read, chromium

NARROW = 360


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    made = made_up.history(tmp_path_factory.mktemp("pages"), unfinished=True)
    yield made
    made.close()


@pytest.fixture(scope="module")
def page(history: History) -> Path:
    """The page in its folder, with every run's report and log."""
    folder = history.path.parent
    for target in history.targets():
        for result in history.results_of_target(target):
            report = folder / (result.report or f"runs/{result.run}/{target}.log")
            report.parent.mkdir(parents=True, exist_ok=True)
            report.touch()
            report.with_suffix(".log").touch()
    return written(history, made_up.NAMES)


def written(history: History, names: list[str]) -> Path:
    path = history.path.parent / "index.html"
    path.write_text(as_html(history, names, is_report), encoding="utf-8")
    return path


def is_report(link: str) -> bool:
    """Whether a link is to a report or log: these targets have no agreement set."""
    return bool(link) and not link.endswith(".agreement.html")


def small(folder: Path, *results: TargetResult) -> History:
    """A history of a few results, one a run."""
    history = History(folder / "history.sqlite")
    for result in results:
        run = history.begin(f"2026-11-{result.run:02}T03:00:00Z", "")
        assert run == result.run
        history.record(result)
        history.finish(run, f"2026-11-{result.run:02}T03:30:00Z")
    return history


# ── what it says ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_wrong_is_told_first(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.driver.title.startswith("FAIL · 1 of 5 targets failed, 1 could not be checked, 1 never ran")
    banner = browser.run("return document.querySelector('.banner').innerText")
    for shown in (
        "FAIL", "1 of 5 targets failed, 1 could not be checked, 1 never ran, 1 passed by the header alone.",
        "Run 40 ended 2026-11-20 03:31 UTC.", "Run 41, begun 2026-11-21 03:00 UTC, has not finished: 2 of 5 targets",
        "Since 2026-11-13 03:09, 9 runs; last good: run 32, 2026-11-12 03:09", "26 more",
        *(problem.text for problem in made_up.PROBLEMS[:3]),
        "Changed since the last good run: mimo-asr-q8_0.gguf: sha256 4b8f03c2d9e4… → 5b8f03c2d9e4…; revision 4d0e5f",
        "the server does not answer",
    ):  # fmt: skip
        assert shown in banner, shown
    assert made_up.GOOD not in banner
    box = browser.run(
        "const box = document.querySelector('.banner').getBoundingClientRect(); return [box.top, box.bottom]"
    )
    assert box[0] < 200
    assert box[1] < 812  # all of it in the first window


def test_every_target_has_its_state_and_a_cell_a_run(browser: Browser, page: Path) -> None:
    browser.open(page)
    rows = browser.run("""return [...document.querySelectorAll('.overview tbody tr')].map(row => [
        row.querySelector('th').innerText.replace(/\\s+/g, ' '), row.cells[2].innerText.split('\\n')[0],
        ...['pass', 'fail', 'not-checked', 'header-only'].map(
            kind => row.querySelectorAll('.cell.' + kind).length)])""")
    assert rows == [
        ["asr-q4_k PASS", "2026-10-12 03:00", 30, 0, 0, 0],
        ["hub-asr-q8_0 FAIL", "2026-11-13 03:09", 20, 10, 0, 0],
        ["audio-instruct NOT CHECKED", "2026-11-18 03:18", 25, 1, 3, 0],
        ["asr-f16 HEADER ONLY", "2026-10-12 03:27", 0, 0, 0, 29],
        ["asr-q6_k NEVER RUN", "–", 0, 0, 0, 0],
    ]
    notes = browser.run("""return [...document.querySelectorAll('.overview .cell.fail > title')].map(
        title => title.textContent)""")
    assert notes[0] == "run 21, 2026-11-01 03:00: FAIL"
    assert notes[1].startswith("run 33, 2026-11-13 03:00: FAIL; mimo-asr-q8_0.gguf: sha256 4b8f03c2d9e4… → 5b8f")
    signs = browser.run("return [...document.querySelectorAll('.overview .sign')].map(sign => sign.getAttribute('d'))")
    assert [sign.count("M") for sign in signs] == [2, 2, 1, 1]


def test_a_target_tells_its_problems_changes_files_and_versions(browser: Browser, page: Path) -> None:
    browser.open(page)
    section = "document.querySelector('#target-2').closest('section')"
    text = browser.run(f"return {section}.innerText")
    assert text.count("\nlayer_") >= 16
    assert made_up.PROBLEMS[19].text in text
    assert made_up.PROBLEMS[20].text not in text
    browser.run(OPEN_ALL)
    text = browser.run(f"return {section}.innerText")
    assert made_up.PROBLEMS[-1].text in text
    for shown in (
        "Nothing changed since the run before (40, 2026-11-20 03:09)",
        "Changed since the last good run (32, 2026-11-12 03:09):", "revision 4d0e5fab174d… → 5d0e5fab175d…",
        "4.52 GB", "402.65 MB", "c0ffee123456…", "numpy 2.4.6", "ggml-python 0.0.45", "took 7 min 23 s",
    ):  # fmt: skip
        assert shown in text, shown
    full = browser.run("return [...document.querySelectorAll('code[title]')].map(code => code.title)")
    assert made_up.files(made_up.FALLEN, 41)[0].sha256 in full


def test_every_stage_has_a_line_whose_figures_are_the_historys(browser: Browser, page: Path, history: History) -> None:
    browser.open(page)
    browser.run(OPEN_ALL)
    section = "document.querySelector('#target-2').closest('section')"
    rows = browser.run(f"""return Object.fromEntries(
        [...{section}.querySelectorAll('.stages tbody tr:has(td)')].map(row => [
            row.querySelector('code').innerText, [...row.cells].map(cell => cell.innerText).concat(
            row.querySelector('.join') !== null)]))""")
    last = {row.stage: row for row in history.results_of_target(made_up.FALLEN)[-1].stages}
    assert len(rows) == 5 + 1 + 3 + 1 + 2 + 2 + 1 + 1
    assert all(row[-1] for row in rows.values())
    assert rows["tok_pool"][2] == f"{last['tok_pool'].cos_mean:.6f}"
    assert rows["tok_pool"][3] == f"{last['tok_pool'].cos_min:.6f}"
    assert rows["prefill_last_hidden"][2:6] == ["✗ 0.655000", "−0.200000", "0.998200", "0.655000"]
    assert rows["layer_35"][0] == "layer_35\nworst of 36 layers, 16 failed"
    assert rows["steps, KL divergence"][2] == "✗ 2.500000"
    layers = browser.run(f"return [...{section}.querySelectorAll('.layers li')].map(item => item.innerText)")
    assert [layer.split()[0] for layer in layers] == [f"layer_{i:02}" for i in range(36)]
    assert sum("✗" in layer for layer in layers) == 16


def test_gaps_rings_and_strokes_are_where_they_happened(browser: Browser, page: Path) -> None:
    browser.open(page)
    lines = browser.run("""return Object.fromEntries([1, 2, 3].map(n => [n, Object.fromEntries(
        [...document.querySelector('#target-' + n).closest('section').querySelectorAll('svg.spark')].map(svg => [
            svg.querySelector('title').textContent, ['join', 'change', 'failed'].map(
                kind => svg.querySelector('.' + kind)?.getAttribute('d') ?? '')]))]))""")
    assert lines["1"]["prefill_text_logits_step0"][0].count("M") == 2  # a gap
    assert lines["1"]["prefill_last_hidden"][0].count("M") == 1
    first = 41 - 30 + 1
    assert re.findall(r"M(\d+) ", lines["1"]["tok_mel"][1]) == [str(6 * (run - first)) for run in (14, 25)]
    rings = [str(6 * (run - first) + 3) for run in (made_up.FAILED_ONCE, *range(made_up.FELL, 42))]
    assert re.findall(r"M(\d+) ", lines["2"]["prefill_last_hidden"][2]) == rings
    assert lines["2"]["tok_mel"][2] == ""
    assert re.findall(r"M(\d+) ", lines["3"]["prefill_last_hidden"][2]) == [str(6 * (made_up.NO_NUMBER - first) + 3)]


def test_several_clips_are_apart(browser: Browser, page: Path) -> None:
    browser.open(page)
    clips = browser.run("""return [...document.querySelector('#target-3').closest('section')
        .querySelectorAll(':scope > details:not(.long)')].map(details => [
            details.querySelector('summary').innerText, details.open, details.querySelectorAll('.stages').length])""")
    as_of = f", last measured in run {made_up.AWAY_SINCE - 1}"
    assert clips == [[f"jfk.wav{as_of}", True, 1], [f"talk.flac{as_of}", False, 1]]


def test_figures_of_an_older_run_are_told_to_be(browser: Browser, tmp_path: Path) -> None:
    """A file that broke has none of its own, and those of the one before are not its."""
    stages = [made_up.row("lm.gguf", "jfk.wav", "layer_00", 0.99, 0.98, 0.1)]
    good = TargetResult(1, "asr", "2026-11-01T03:00:00Z", 5, PASSED, stages=stages)
    broken = TargetResult(2, "asr", "2026-11-02T03:00:00Z", 5, FAILED, problems=[Problem("truncated")])
    for results, heading in (([good], "On jfk.wav"), ([good, broken], "On jfk.wav, last measured in run 1")):
        (tmp_path / heading).mkdir()
        browser.open(written(small(tmp_path / heading, *results), ["asr"]))
        assert browser.run("return document.querySelector('h3').innerText") == heading


def test_what_the_config_names_no_longer_is_told_at_the_end(browser: Browser, page: Path) -> None:
    browser.open(page)
    text = browser.run("return document.body.innerText")
    assert text.rstrip().endswith("asr-q5_0, at last PASS since 2026-10-12 03:50, 20 runs")
    assert "No run has come to it as yet." in text


def test_all_is_well(browser: Browser, tmp_path: Path) -> None:
    rows = [made_up.row("lm.gguf", "jfk.wav", "layer_00", 0.99, 0.9)]
    files = [FileRow("lm.gguf", "ab" * 32, 5)]
    results = [
        TargetResult(run, "asr", "2026-11-21T03:00:00Z", 2.0, PASSED, files=files, stages=rows) for run in (1, 2)
    ]
    history = small(tmp_path, *results)
    browser.open(written(history, ["asr"]))
    assert browser.driver.title == "PASS · the only target passed · nightly runs"
    text = browser.run("return document.body.innerText")
    assert "FAIL" not in text
    assert "has not finished" not in text
    assert "Nothing changed since the run before" in text
    assert browser.run("return document.querySelectorAll('a:not([href^=\"#\"])').length") == 0  # no report, no link


def test_before_the_first_run(browser: Browser, tmp_path: Path) -> None:
    browser.open(written(small(tmp_path), ["asr"]))
    assert browser.driver.title == "NOT CHECKED · 1 of 1 target never ran · nightly runs"
    assert browser.complaints() == []
    assert "there are no targets" in as_html(small(tmp_path), [])


# ── how it behaves ───────────────────────────────────────────────────────────────────────────────────────────────


def test_it_asks_for_nothing_runs_nothing_and_makes_no_complaint(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert [url for url in browser.requests() if not url.startswith("data:")] == [page.as_uri()]
    assert browser.complaints() == []
    assert browser.run("return document.scripts.length") == 0
    ids = browser.run("return [...document.querySelectorAll('[id]')].map(element => element.id)")
    assert len(ids) == len(set(ids))


def test_every_link_leads_to_a_section_or_a_file(browser: Browser, page: Path) -> None:
    browser.open(page)
    links = browser.run("return [...document.querySelectorAll('a')].map(link => link.getAttribute('href'))")
    sections = [link for link in links if link.startswith("#")]
    assert len(sections) >= 5 + 2
    assert browser.run("return arguments[0].every(id => document.getElementById(id.slice(1)))", sections)
    files = [link for link in links if not link.startswith("#")]
    assert len(files) > 2 * (30 + 30 + 26 + 29)
    assert {Path(file).suffix for file in files} == {".html", ".log"}
    assert all((page.parent / file).is_file() for file in files)


def test_a_run_without_report_links_its_log(browser: Browser, tmp_path: Path) -> None:
    name = "a b%20#?&'.gguf"
    (tmp_path / f"{name}.log").touch()
    gone = [Problem("gone")]
    history = small(tmp_path, TargetResult(1, "asr", "", 2.0, "unchecked", problems=gone, report=f"{name}.log"))
    browser.open(written(history, ["asr"]))
    links = browser.run("return [...document.querySelectorAll('a:not([href^=\"#\"])')].map(a => [a.innerText, a.href])")
    assert {text for text, _ in links if text} == {"log"}
    browser.driver.get(links[0][1])
    assert browser.run("return document.title + document.body.innerText") == ""


def test_hostile_names_and_texts_are_only_shown(browser: Browser, tmp_path: Path) -> None:
    hostile = (
        "<script>window.hacked = 1</script>\"'><img src=http://127.0.0.1:9/x onerror='window.hacked = 2'>"
        "\x00\x1b\u202e{{7*7}}"
    )
    rows = [
        StageRow(hostile, hostile, stage, hostile, kind, 0.9, 0.8, passed=False)
        for stage, kind in ((hostile, hostile), ("layer_00", LAYER))
    ]
    files, problems = [FileRow(hostile, hostile, 5, hostile, hostile)], [Problem(hostile, hostile, hostile)]
    results = [
        TargetResult(run, hostile, "2026-11-21T03:00:00Z", 2.0, FAILED, "whole", problems, files,
                     {hostile: f"{hostile}{run}"}, f"javascript:{hostile}", rows)
        for run in (1, 2)
    ]  # fmt: skip
    browser.open(written(small(tmp_path, *results), [hostile, "other"]))
    browser.run(OPEN_ALL)
    assert browser.run("return [typeof window.hacked, document.scripts.length, document.images.length]") == [
        "undefined", 0, 0,
    ]  # fmt: skip
    assert browser.complaints() == []
    assert [url for url in browser.requests() if url.startswith("http")] == []
    assert browser.run("return [...document.links].every(link => link.protocol == 'file:')")
    heading = browser.run("return document.querySelector('#target-1 bdi').textContent")
    assert heading == hostile.replace("\x00", "\\u0000").replace("\x1b", "\\u001b")
    unguarded = browser.run("""return [...document.querySelectorAll('body *')].filter(element =>
        [...element.childNodes].some(node => node.nodeType == 3 && node.data.includes('\\u202e')) &&
        !element.closest('svg') && !/isolate/.test(getComputedStyle(element).unicodeBidi)).map(e => e.outerHTML)""")
    assert unguarded == []  # what turns text ends with the element


def test_the_same_history_gives_the_same_bytes(history: History, tmp_path: Path) -> None:
    again = made_up.history(tmp_path, unfinished=True)
    assert as_html(history, made_up.NAMES) == as_html(again, made_up.NAMES)


# ── how it looks ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("width", [PHONE, NARROW, 768, DESKTOP])
def test_the_page_is_never_wider_than_the_window(browser: Browser, page: Path, width: int) -> None:
    browser.open(page, width)
    browser.run(OPEN_ALL)
    assert browser.run("return document.documentElement.scrollWidth") <= width
    assert browser.run("return innerWidth") == width
    # what is wider scrolls in a box that the keyboard reaches
    assert browser.run("""return [...document.querySelectorAll('table')].every(
        table => table.parentElement.matches('[tabindex="0"][role=region][aria-label]'))""")
    # a phone, too, shows every target's last runs without scrolling to the side
    assert browser.run(
        """return [...document.querySelectorAll('.overview svg')].every(
            svg => svg.getBoundingClientRect().right <= innerWidth)"""
    )


@pytest.mark.parametrize("dark", [False, True], ids=["day", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_all_text_can_be_read(browser: Browser, page: Path, width: int, dark: bool) -> None:
    check_all_text_can_be_read(browser, page, width, dark, 1000)


@pytest.mark.parametrize("dark", [False, True], ids=["day", "dark"])
def test_lines_and_cells_can_be_seen(browser: Browser, page: Path, dark: bool) -> None:
    """3 : 1, as WCAG asks of graphics."""
    browser.open(page, dark=dark)
    colors = browser.run("""
        const style = of => getComputedStyle(document.querySelector(of));
        return [style('body').backgroundColor, ...['.join', '.spark .failed'].map(of => style(of).stroke),
            ...['.cell.pass', '.cell.fail', '.cell.header-only'].map(of => style(of).fill),
            style('.cell.not-checked').stroke]""")
    paper, *marks = [luminance(color) for color in colors]
    assert all((max(mark, paper) + 0.05) / (min(mark, paper) + 0.05) > 3 for mark in marks)


def luminance(color: str) -> float:
    values = [int(value) / 255 for value in re.findall(r"\d+", color)[:3]]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in values]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_headings_are_in_order_and_tables_and_drawings_are_named(browser: Browser, page: Path) -> None:
    browser.open(page)
    levels = browser.run("return [...document.querySelectorAll('h1, h2, h3, h4')].map(h => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert browser.run("return [...document.querySelectorAll('th')].every(th => th.scope)")
    assert browser.run("""return [...document.querySelectorAll('svg:not([aria-hidden])')].every(svg =>
        svg.getAttribute('role') == 'img' && svg.querySelector(':scope > title').textContent
        && svg.querySelector(':scope > desc').textContent)""")


def test_it_prints_its_layers_without_its_list_of_runs(browser: Browser, page: Path) -> None:
    browser.open(page, dark=True, media="print")
    assert browser.run("return getComputedStyle(document.documentElement).getPropertyValue('--paper')") == "#fdfdfc"
    shown = "return [...document.querySelectorAll('{}')].map(element => element.checkVisibility())"
    assert set(browser.run(shown.format("details .layers"))) == {True}
    assert set(browser.run(shown.format("details.long table"))) == {False}
    pdf = browser.pdf()
    assert pdf.startswith(b"%PDF-")
    assert 4 <= len(re.findall(rb"/Type /Page\b", pdf)) <= 12
