"""Agreement in the card: every file over all conditions, its plots as pictures, and no audio."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mimo_agreement.records import ALL_CONDITIONS, Agreement
from mimo_publish.card import as_card, as_plots
from tests import reports
from tests.mimo_agreement import made_up
from tests.system.browser import DESKTOP, HIDDEN_TEXTS, PHONE, Browser, chromium

from ..published import good
from ..rendered import Element, read, table, tables, write_page


def section(card: str) -> str:
    return card.partition("\n## Agreement\n")[2].partition("\n## ")[0]


def test_there_is_a_row_a_file_and_the_verdict() -> None:
    body = read(section(as_card(good(), agreement=made_up.agreement())))
    assert body.all("strong")[0].text == made_up.agreement().verdict
    head, *rows = table(body, "file")
    assert head == [
        "file", "size", "WER", "sub / del / ins", "difference, points", "WER to baseline", "KL", "loops / empty / cut",
    ]  # fmt: skip
    assert [row[0] for row in rows[:-1]] == [f"mimo-asr-{name}.gguf" for name in list(made_up.TYPES)[:-1]]
    assert rows[-1][0] == "mimo-asr-f16.gguf (baseline)"
    first = [cell.replace("\N{NO-BREAK SPACE}", " ") for cell in rows[0]]
    assert first[1:5] == ["3.71 GB", "9.40% 7.99 … 10.81%", "226 / 3 / 2", "+4.21 worse +3.81 … +4.61"]


def test_conditions_and_notes_are_told() -> None:
    text = read(section(as_card(good(), agreement=made_up.unanswered()))).text
    assert "in 3 conditions: 2,400 words (clean, noise:babble:5dB, reverb:0.6s)" in text
    assert made_up.unanswered().notes[0] in text


def test_without_texts_there_is_only_what_differs_from_the_baseline() -> None:
    head = table(read(section(as_card(good(), agreement=made_up.without_texts()))), "file")[0]
    assert head[2] == "WER to baseline"
    assert "WER" not in head


def test_without_an_agreement_there_is_no_such_part() -> None:
    assert "## Agreement" not in as_card(good())
    assert not any(name.startswith("agreement") for name in as_plots(good()))


def test_plots_are_pictures_with_words_and_there_is_no_audio() -> None:
    card, plots = as_card(good(), agreement=made_up.agreement()), as_plots(good(), made_up.agreement())
    pictures = read(section(card)).all("img")
    assert [image.attributes["src"] for image in pictures] == ["agreement-rate.svg", "agreement-kl.svg"]
    assert "mimo-asr-q2_k.gguf, 3.71 GB: 9.40% (7.99% … 10.81%)" in (pictures[0].attributes["alt"] or "")
    for image in pictures:
        svg = plots[image.attributes["src"] or ""]
        marks = [one for one in ET.fromstring(svg).iter() if (one.get("class") or "").startswith("mark ")]
        assert len(marks) == len(made_up.TYPES)
        assert not re.search(r"href|url\(|<script|@import", svg)
    assert "audio" not in section(card).lower()


def test_the_same_agreement_gives_the_same_bytes() -> None:
    for make in (as_card, as_plots):
        assert make(good(), agreement=made_up.agreement()) == make(good(), agreement=made_up.agreement())


HOSTILE = "a|b`c``d```\n---\n<script>x</script>--><!-- **e** _f_ [h](i) ![j](k) $$l$$ {{7*7}} &amp; \\| \x00\ud800\"'"


def spoiled() -> Agreement:
    found: Agreement = reports.spoiled(made_up.unanswered(), HOSTILE)
    rows = (
        replace(row, condition=ALL_CONDITIONS if row.condition.startswith(ALL_CONDITIONS) else row.condition)
        for row in found.rows
    )
    return replace(found, rows=tuple(rows), unit=made_up.agreement().unit)


def test_hostile_names_and_texts_are_only_shown() -> None:
    body = read(section(as_card(good(), agreement=spoiled())))
    everything: list[Element] = [body]
    for element in everything:
        everything += [child for child in element.children if isinstance(child, Element)]
    allowed = {
        "p", "strong", "code", "table", "thead", "tbody", "tr", "th", "td", "br", "sub", "img", "blockquote"
    }  # fmt: skip
    assert {element.tag for element in everything[1:]} <= allowed
    for rows in tables(body):
        assert {len(row) for row in rows} == {len(rows[0])}
    assert body.text.count("<script>x</script>") > 3
    assert [image.attributes["src"] for image in body.all("img")] == ["agreement-rate.svg", "agreement-kl.svg"]
    for svg in as_plots(good(), spoiled()).values():
        assert "script" not in {one.tag.rpartition("}")[2] for one in ET.fromstring(svg).iter()}


# ── in the browser ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


def test_it_fits_a_desk_and_a_phone_by_day_and_in_the_dark(browser: Browser, tmp_path: Path) -> None:
    plots = as_plots(good(), made_up.agreement())
    page = write_page(tmp_path, as_card(good(), agreement=made_up.agreement()), plots)
    for width in (DESKTOP, PHONE):
        for dark in (False, True):
            browser.open(page, width, dark=dark)
            assert browser.run("return document.documentElement.scrollWidth <= window.innerWidth")
    assert browser.complaints() == []


@pytest.mark.parametrize("name", ["agreement-rate.svg", "agreement-kl.svg"])
def test_no_text_of_a_plot_is_cut_off_or_lies_on_another(browser: Browser, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(as_plots(good(), made_up.agreement())[name], encoding="utf-8")
    colours = []
    for dark in (False, True):
        browser.open(tmp_path / name, dark=dark)
        colours.append(browser.run("""return ['.ground', '.name', '.mark.front'].map(
            mark => getComputedStyle(document.querySelector(mark)).fill)"""))  # fmt: skip
        hidden = browser.run(HIDDEN_TEXTS)
        assert hidden == []
    assert all(by_day != by_night for by_day, by_night in zip(*colours, strict=True))
