"""Types over layers: a cell for each layer, darker the more bits, and nothing leaves the picture."""

import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from mimo_convert.model.uses import UseTypes
from quantize.types import TYPES
from runtime_check.report.page.plots import WIDTH
from runtime_check.report.page.type_plot import height_of, over_layers

USES = st.lists(
    st.builds(
        UseTypes,
        st.sampled_from(["attention_q", "mlp_down"]),
        st.sampled_from(["model.layers", "llm.blk"]),
        st.lists(st.sampled_from([*TYPES, "q9_z"]), min_size=1, max_size=50).map(tuple),
    ),
    min_size=1,
    max_size=20,
)


def cells(svg: str) -> list[tuple[float, float, float, float, float, str]]:
    """Place, size, opacity and tooltip of every cell."""
    return [
        (*(float(one.attrib[key]) for key in ("x", "y", "width", "height", "fill-opacity")), one[0].text or "")
        for one in ET.fromstring(svg).iter("rect")
    ]  # type: ignore[misc]


def test_a_layer_of_more_bits_is_darker() -> None:
    use = UseTypes("mlp_down", "model.layers", ("q8_0", "q3_k", "q4_k", "q4_k"))
    svg = over_layers("title", "description", [use, UseTypes("head", "", ("f16",))])
    of_layers = {note: opacity for *_, opacity, note in cells(svg) if note.startswith("layer")}
    assert list(of_layers) == ["layer 0: q8_0", "layer 1: q3_k", "layer 2: q4_k", "layer 3: q4_k"]
    eight, three, four, again = of_layers.values()
    assert eight > four == again > three > 0
    legend = [note for *_, note in cells(svg) if not note.startswith("layer")]
    assert legend == ["q3_k", "q4_k", "q8_0"], "a head has no layers"
    assert "model.layers mlp down" in svg


@given(USES)
def test_nothing_leaves_the_picture(uses: list[UseTypes]) -> None:
    svg = over_layers("title", "description", uses)
    height = float(ET.fromstring(svg).attrib["viewBox"].split()[3])
    assert abs(height - height_of(uses)) < 1
    for x, y, width, tall, opacity, _ in cells(svg):
        assert x >= 0
        assert y >= 0
        assert x + width <= WIDTH + 0.1
        assert y + tall <= height
        assert width > 0
        assert 0 < opacity <= 1
    of_layers = [note for *_, note in cells(svg) if note.startswith("layer")]
    assert len(of_layers) == sum(len(use.types) for use in uses)
