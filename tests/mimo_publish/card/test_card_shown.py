"""The model card on screen, its plots, and texts that others wrote, which are only shown; the same bytes every time."""

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mimo_publish.card import as_card, as_plots, own_text
from runtime_check.audio.jfk import JFK_TEXT
from runtime_check.report.records import Report
from runtime_check.run.records import FileFacts
from tests import reports
from tests.system.browser import DESKTOP, HIDDEN_TEXTS, PHONE, Browser, chromium

from ..published import EVERY, LM, MakeReport, bad, good, metadata, one_pair
from ..rendered import Element, as_html, read, tables, write_page

ROOT = Path(__file__).parents[3]

# ── what others wrote is only shown ──────────────────────────────────────────────────────────────────────────────

HOSTILE = (
    "a|b`c``d```\n---\n<script>x</script>--><!-- **e** _f_ ~~g~~ [h](i) ![j](k) $$l$$ {{7*7}} &amp; \\| \x00\ud800\"'"
)


def spoiled() -> Report:
    """The failed report with that in all names and texts, but where tools read them."""
    report: Report = reports.spoiled(bad(), HOSTILE)
    assert report.publication is not None
    checks = tuple(replace(check, files=tuple(map(with_ending, check.files))) for check in report.checks)
    listed = tuple(replace(file, file=f"{file.file}.gguf") for file in report.publication.files)
    [lint], [tensors] = report.lint, report.tensors
    return replace(
        report,
        checks=checks,
        publication=replace(report.publication, files=listed),
        lint=(replace(lint, file=f"{lint.file}.gguf"),),
        tensors=(replace(tensors, file=f"{tensors.file}.gguf", tensors=tensors.tensors[28:34]),),
    )


def with_ending(file: FileFacts) -> FileFacts:
    architecture = file.architecture.removesuffix(HOSTILE)
    return replace(file, file=f"{file.file}.gguf", architecture=architecture, outtype="q4_k")


def test_hostile_names_and_texts_are_only_shown() -> None:
    card = as_card(spoiled(), own="mine")
    body = read(card)
    allowed = {
        "h1", "h2", "h3", "p", "a", "code", "pre", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "strong",
        "s", "blockquote", "details", "summary", "br", "sub", "img",
    }  # fmt: skip
    everything: list[Element] = [body]
    for element in everything:
        everything += [child for child in element.children if isinstance(child, Element)]
    assert {element.tag for element in everything[1:]} <= allowed
    for rows in tables(body):
        assert {len(row) for row in rows} == {len(rows[0])}
    shown = HOSTILE.replace("\x00", "\\u0000").replace("\ud800", "\\ud800")
    assert f"{LM}{shown}.gguf".replace("\n", "⏎") in [code.text for code in body.all("code")]
    assert body.text.count("<script>x</script>") > 20
    quoted = [quote.text for quote in body.all("blockquote")]
    assert any(" ".join(f"{JFK_TEXT}{shown}”".split()) in " ".join(text.split()) for text in quoted)
    assert not re.search(r"\$\$", re.sub(r"```+sh\n.*?\n```+\n", "", card.split("\n---\n", 1)[1], flags=re.DOTALL))
    assert {link.attributes["href"] for link in body.all("a")} >= {"https://github.com/CrispStrobe/CrispASR"}
    for link in body.all("a", "img"):
        target = link.attributes.get("href") or link.attributes.get("src") or ""
        assert re.fullmatch(r"(https://[a-z.]+/)?[\w.~%/-]+", target), target
    assert own_text(card) == "mine"
    assert metadata(card)["base_model_relation"] == "quantized"


def test_every_plot_is_a_picture_by_itself_and_says_in_words_what_it_shows() -> None:
    report = good()
    body, plots = read(as_card(report)), as_plots(report)
    pictures = {image.attributes["src"]: image.attributes["alt"] for image in body.all("img")}
    assert list(pictures) == list(plots) == ["layers-mimo-asr-q4_k.svg", "layers-mimo-asr-q8_0.svg"]
    assert pictures["layers-mimo-asr-q4_k.svg"] == (
        f"Cosine of each of the 36 layers of {LM} to the reference: the lowest mean is 0.987887, in layer_35, where "
        "0.929 must be reached; none failed"
    )
    for svg in plots.values():
        root = ET.fromstring(svg)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert len([mark for mark in root.iter() if mark.get("class") == "mark mean"]) == 36
        assert not re.search(r"href|url\(|<script|@import", svg)
    failed = as_plots(bad())["layers-mimo-asr-q4_k.svg"]
    assert failed.count('class="mark failed"') == 4  # of two layers, mean and worst position


# ── the same report, the same bytes ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("make", EVERY)
def test_the_same_report_gives_the_same_bytes(make: MakeReport) -> None:
    assert as_card(make()) == as_card(make())


def test_another_process_elsewhere_writes_the_same_bytes(tmp_path: Path) -> None:
    script = (
        "import sys; from tests.mimo_publish.published import *; from mimo_publish.card import *; r = bad(); "
        "sys.stdout.buffer.write('\\0'.join([as_card(r), *as_plots(r).values()]).encode())"
    )
    found = set()
    for seed, zone, language in (("1", "UTC", "C"), ("7", "Asia/Tokyo", "de_DE.UTF-8")):
        own = {"PYTHONHASHSEED": seed, "TZ": zone, "LC_ALL": language, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
        found.add(subprocess.check_output([sys.executable, "-c", script], env=os.environ | own, cwd=tmp_path))
    assert found == {"\0".join([as_card(bad()), *as_plots(bad()).values()]).encode()}


# ── in the browser ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.mark.parametrize("make", [good, bad, spoiled])
def test_it_fits_a_desk_and_a_phone_by_day_and_in_the_dark(browser: Browser, tmp_path: Path, make: MakeReport) -> None:
    page = write_page(tmp_path, as_card(make()), as_plots(make()) if make is not spoiled else {})
    for width in (DESKTOP, PHONE):
        for dark in (False, True):
            browser.open(page, width, dark=dark)
            browser.run("document.querySelectorAll('details').forEach(details => details.open = true)")
            assert browser.run("return document.documentElement.scrollWidth <= window.innerWidth")
            wide = browser.run("""return [...document.body.querySelectorAll('*')].filter(element =>
                element.getBoundingClientRect().right > window.innerWidth + 1 && !element.closest('table, pre'))
                .map(element => element.outerHTML.slice(0, 80))""")
            assert wide == []
    if make is not spoiled:
        assert browser.complaints() == []
        assert browser.run("return [...document.images].every(image => image.complete && image.naturalWidth > 300)")


def test_plots_are_dark_where_the_page_is(browser: Browser, tmp_path: Path) -> None:
    page = write_page(tmp_path, as_card(one_pair()), as_plots(one_pair()))
    ground = """const canvas = document.createElement('canvas'), image = document.images[0];
        image.scrollIntoView(); return [image.naturalWidth, image.naturalHeight]"""
    browser.open(page)
    assert browser.run(ground) == [422, 298]
    svg = tmp_path / "layers-mimo-asr-q4_k.svg"
    colours = []
    for dark in (False, True):
        browser.open(svg, dark=dark)
        colours.append(browser.run("""return ['.ground', '.legend', '.mark.mean'].map(
            mark => getComputedStyle(document.querySelector(mark)).fill)"""))  # fmt: skip
        wide = browser.run("""const box = document.documentElement.getBoundingClientRect();
            return [...document.querySelectorAll('text')].filter(text => {
                const own = text.getBoundingClientRect();
                return own.left < box.left || own.right > box.right || own.top < box.top || own.bottom > box.bottom;
            }).map(text => text.textContent)""")
        assert wide == []
    assert all(by_day != by_night for by_day, by_night in zip(*colours, strict=True))


@pytest.mark.parametrize("make", [good, bad])
def test_no_text_of_a_plot_is_cut_off_or_lies_on_another(browser: Browser, tmp_path: Path, make: MakeReport) -> None:
    for name, svg in as_plots(make()).items():
        (tmp_path / name).write_text(svg, encoding="utf-8")
        browser.open(tmp_path / name)
        hidden = browser.run(HIDDEN_TEXTS)
        assert hidden == []


def test_the_rendering_is_that_of_commonmark_with_tables() -> None:
    assert "<table>" in as_html("---\na: b\n---\n\n| a |\n| - |\n| b |\n")
