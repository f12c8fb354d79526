"""Files of a given size on the card and on the page: their types over layers, predicted beside measured divergence."""

import xml.etree.ElementTree as ET

from mimo_convert.model.uses import UseTypes
from mimo_convert.plan.mix import ChosenTypes
from mimo_publish.card import as_card, as_plots
from runtime_check.report.page.page import as_html
from runtime_check.report.records import Report
from tests.mimo_publish.published import LM, good, with_file

LAYERS = ("q3_k", *["q4_k"] * 34, "q6_k")
CHOSEN = ChosenTypes(
    "4.5bpw", 0.0123, (UseTypes("mlp_down", "model.layers", LAYERS), UseTypes("head", "", ("q5_k", "q5_k")))
)


def sized() -> Report:
    return with_file(good(), LM, chosen=CHOSEN)


def test_the_card_shows_types_and_both_divergences() -> None:
    card, plots = as_card(sized()), as_plots(sized())
    section = card.partition("### Types chosen for 4.5bpw\n")[2].partition("\n### ")[0]
    measured = f"{measured_kl():.2g}"
    assert f"predicted KL divergence 0.012 nats a token, measured {measured}." in section
    assert "| model.layers mlp_down | 36 | q3_k 0; q4_k 1…34; q6_k 35 |" in section
    assert "| head | 2 | q5_k |" in section
    assert "(types-mimo-asr-q4_k.svg)" in section
    svg = ET.fromstring(plots["types-mimo-asr-q4_k.svg"])
    cells = [one for one in svg.iter("{http://www.w3.org/2000/svg}rect") if one.get("class") == "cell"]
    assert len(cells) == 36 + 3, "a cell for each layer, and a legend"
    assert "### Types chosen" not in as_card(good())
    assert not any(name.startswith("types-") for name in as_plots(good()))


def measured_kl() -> float:
    """Over all steps of the clips that the file was run on."""
    steps = [check.steps for check in sized().checks if check.main.file.endswith(LM) and check.steps]
    return sum((one.kl_mean or 0.0) * one.tokens for one in steps) / sum(one.tokens for one in steps)


def test_the_page_shows_them_too() -> None:
    page = as_html(sized())
    assert "Types chosen for 4.5bpw: <code>mimo-asr-q4_k.gguf</code>" in page
    assert f"{'predicted KL divergence'}\n0.012 nats a token, measured {measured_kl():.2g}." in page
    assert page.count('class="cell"') == 36 + 3
    assert "q3_k 0; q4_k 1…34; q6_k 35" in page
    assert 'class="cell"' not in as_html(good())
