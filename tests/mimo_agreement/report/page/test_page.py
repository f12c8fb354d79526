"""The page of agreement, as its readers see it: in Chromium, on a phone, in the dark."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from mimo_agreement.records import ALL_CONDITIONS, CHARACTERS, Agreement
from mimo_agreement.report.heard import NO_SOUNDS, Heard
from mimo_agreement.report.page.page import LONGEST, as_html, spans_of
from runtime_check.audio.wave import Sound
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

from ... import made_up


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


def written(folder: Path, agreement: Agreement, sounds: Mapping[Heard, Sound] = NO_SOUNDS) -> Path:
    path = folder / "agreement.html"
    path.write_text(as_html(agreement, sounds), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With every section there can be."""
    return written(tmp_path_factory.mktemp("page"), made_up.unanswered())


HEARD = (made_up.sha("clip 0"), made_up.CONDITIONS[1])


def sound() -> Sound:
    wave = np.sin(np.arange(16_000) / 20).astype(np.float32) / 4
    return Sound("clip-0.wav", wave, 16_000)


# ── what it says ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_verdict_comes_first_and_then_every_number(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.run(OPEN_ALL)
    text = browser.run("return document.body.innerText")
    verdict = text.index("Smallest file within 1 point of the baseline: mimo-asr-q4_k.gguf")
    assert verdict < text.index("All conditions")
    for shown in (
        "9.40%", "7.99 … 10.81%", "226 / 3 / 2", "+4.21 worse", "6.31%", "0.31", "16.92%", "16.75 GB", "0.45×",
        "6.00 GB", "clip-3.wav", "killed by SIGSEGV", "1 without an answer", "has no answer to 1 of 12 pairs",
        "mimo-check agreement 1", made_up.sha("q2_k"), "0.8.0", "2,400 words", "ask not what 3",
    ):  # fmt: skip
        assert shown in text, shown
    assert browser.driver.title == "7 files · mimo-asr-q4_k.gguf · mimo-check agreement"


def test_tables_have_a_row_a_file_over_all_and_in_each_condition(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.run(OPEN_ALL)
    tables = browser.run("""return Object.fromEntries([...document.querySelectorAll('[role=region]')].map(box =>
        [box.ariaLabel, [...box.querySelectorAll('tbody th code')].map(name => name.innerText)]))""")
    names = [f"mimo-asr-{name}.gguf" for name in made_up.TYPES]
    for label in ("All conditions", "Each condition", *made_up.CONDITIONS):
        assert tables[label] == names, label
    chosen = browser.run("return document.querySelector('.chosen code').innerText")
    assert chosen == "mimo-asr-q4_k.gguf"


def test_plots_show_every_file_with_interval_and_front(browser: Browser, page: Path) -> None:
    browser.open(page)
    plots = browser.run("""return [...document.querySelectorAll('svg[role=img]')].map(svg =>
        [svg.querySelector('title').textContent, ...['.mark.front', '.mark.behind', '.span', '.name'].map(
            kind => svg.querySelectorAll(kind).length)])""")
    assert plots == [["Size and WER", 6, 1, 8, 7], ["Size and KL divergence", 7, 0, 8, 7]]
    notes = browser.run("return [...document.querySelectorAll('.mark title')].map(note => note.textContent)")
    assert "mimo-asr-q2_k.gguf, 3.71 GB: 9.40% (7.99% … 10.81%)" in notes


def test_worst_clips_are_shown_word_by_word(browser: Browser, page: Path) -> None:
    browser.open(page)
    [first, *_] = browser.run("""return [...document.querySelectorAll('#worst ~ details[open]')].map(clip =>
        [clip.querySelector('summary').innerText, clip.querySelectorAll('.said').length,
         [...clip.querySelector('.said').querySelectorAll('del')].map(word => word.textContent),
         [...clip.querySelector('.said').querySelectorAll('ins')].map(word => word.textContent)])""")
    assert first == ["clip-0.wav, noise:babble:5dB", len(made_up.TYPES), ["not", "your"], ["now", "q 2", "k", "you"]]


def test_without_texts_it_shows_what_differs_from_the_baseline(browser: Browser, tmp_path: Path) -> None:
    browser.open(written(tmp_path, made_up.without_texts()))
    heads = browser.run("return [...document.querySelectorAll('#all ~ .box th.n')].map(head => head.innerText)")
    assert "WER to baseline" in heads
    assert "WER" not in heads
    text = browser.run("return document.body.innerText")
    assert "Size and WER to the baseline" in text
    assert "The texts are not known" in text


def test_characters_are_called_so() -> None:
    html = as_html(replace(made_up.agreement(), unit=CHARACTERS, verdict=""))
    assert "CER" in html
    assert "WER" not in html


def test_one_condition_needs_no_table_of_conditions() -> None:
    html = as_html(made_up.of_one_condition())
    assert 'id="conditions"' not in html
    assert '<h2 id="all">clean</h2>' in html


def test_one_file_has_no_plot() -> None:
    found = made_up.agreement()
    rows = tuple(row for row in found.rows if row.file == found.baseline)
    alone = replace(
        found, files=(found.files[-1],), rows=rows, worst=(), front_wer=(), front_kl=(), smallest=None,
        verdict="Nothing to compare",
    )  # fmt: skip
    assert "<svg" not in as_html(alone)


def test_a_long_response_is_cut() -> None:
    worst = replace(made_up.agreement().worst[0], transcript="again " * LONGEST)
    spans = spans_of(worst, "english")
    assert spans[-1].text == "…"
    assert sum(len(span.text) for span in spans) < 2 * LONGEST


# ── sounds ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_sounds_are_there_only_if_they_are_given(browser: Browser, tmp_path: Path, page: Path) -> None:
    players = "return [...document.querySelectorAll('audio')].map(player => player.src.slice(0, 15))"
    browser.open(page)
    assert browser.run(players) == []
    browser.open(written(tmp_path, made_up.agreement(), {HEARD: sound(), ("other", "clean"): sound()}))
    assert browser.run(players) == ["data:audio/mpeg"]
    assert browser.run("return document.querySelector('audio').parentElement.parentElement.innerText").startswith(
        "clip-0.wav, noise:babble:5dB"
    )
    assert browser.complaints() == []


def test_sounds_that_have_no_room_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mimo_agreement.report.page.page.MOST_BYTES", 100)
    html = as_html(made_up.agreement(), {HEARD: sound()})
    assert "no room left on this page" in html
    assert "<audio" not in html


# ── how it behaves ───────────────────────────────────────────────────────────────────────────────────────────────


def test_it_asks_for_nothing_and_runs_nothing(browser: Browser, page: Path) -> None:
    check_it_stands_alone(browser, page)


def spoiled(hostile: str) -> Agreement:
    """With that behind every text, but for the name of the row over all conditions."""
    found: Agreement = reports.spoiled(made_up.unanswered(), hostile)
    rows = (
        replace(row, condition=ALL_CONDITIONS if row.condition.startswith(ALL_CONDITIONS) else row.condition)
        for row in found.rows
    )
    return replace(found, rows=tuple(rows), unit=found.unit.removesuffix(hostile))


def test_hostile_names_and_texts_are_only_shown(browser: Browser, tmp_path: Path) -> None:
    shown = check_it_is_only_shown(browser, written(tmp_path, spoiled(HOSTILE)), ".sentence")
    assert "<script>window.hacked = 1" in shown


def test_the_same_agreement_gives_the_same_bytes() -> None:
    assert as_html(made_up.unanswered(), {HEARD: sound()}) == as_html(made_up.unanswered(), {HEARD: sound()})


# ── how it looks ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("width", [PHONE, 320, 768, DESKTOP])
def test_the_page_is_never_wider_than_the_window(browser: Browser, page: Path, width: int) -> None:
    browser.open(page, width)
    browser.run(OPEN_ALL)
    assert browser.run("return document.documentElement.scrollWidth") <= width
    assert browser.run("""return [...document.querySelectorAll('table')].every(
        table => table.parentElement.matches('[tabindex="0"][role=region][aria-label]'))""")


@pytest.mark.parametrize("dark", [False, True], ids=["day", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_all_text_can_be_read(browser: Browser, page: Path, width: int, dark: bool) -> None:
    check_all_text_can_be_read(browser, page, width, dark, 300)


@pytest.mark.parametrize("dark", [False, True], ids=["day", "dark"])
def test_the_front_can_be_seen(browser: Browser, page: Path, dark: bool) -> None:
    """Filled marks and their line in one colour, the others hollow."""
    browser.open(page, dark=dark)
    front, behind, join, paper = browser.run("""const style = (kind, key) =>
            getComputedStyle(document.querySelector(kind))[key];
        return [style('.mark.front', 'fill'), style('.mark.behind', 'fill'), style('.join.mean', 'stroke'),
                style('body', 'backgroundColor')]""")
    assert front == join
    assert behind == paper
    assert front != paper


def test_headings_are_in_order_and_tables_and_plots_are_named(browser: Browser, page: Path) -> None:
    browser.open(page)
    levels = browser.run("return [...document.querySelectorAll('h1, h2, h3, h4')].map(h => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert browser.run("return [...document.querySelectorAll('th')].every(th => th.scope)")
    assert browser.run("""return [...document.querySelectorAll('svg')].every(svg =>
        svg.querySelector(':scope > title').textContent && svg.querySelector(':scope > desc').textContent)""")
