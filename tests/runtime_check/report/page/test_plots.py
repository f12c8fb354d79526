"""Plots: marks are where the numbers are, and nothing leaves the picture."""

import math
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime_check.report.page.plots import (
    COSINE,
    ERROR,
    FONT_SIZE,
    TOP,
    WIDTH,
    Measure,
    Series,
    cosine_label,
    error_label,
    fitted,
    in_rows,
    over_positions,
    text_width,
)

STROKE = 6  # units; a ring may stand out of the picture


def marks(svg: str, style: str) -> list[tuple[float, float]]:
    """Where the marks of a style are."""
    found = ET.fromstring(svg).iter("path")
    data = [path.attrib["d"] for path in found if path.attrib["class"] == f"mark {style}"]
    return [(float(x), float(y)) for x, y in (re.match(r"M(\S+) (\S+?)m", d).groups() for d in data)]  # type: ignore[union-attr]


def texts(svg: str, style: str) -> list[str]:
    found = ET.fromstring(svg).iter("text")
    return [text.text or "" for text in found if style in text.attrib["class"].split()]


def lines(values: list[float | None], measure: Measure = ERROR, gates: tuple[float, ...] = ()) -> str:
    return over_positions("title", "description", "layer", measure, [Series("found", "mean", values, (), gates)])


def test_a_tenfold_error_is_the_same_way_up_everywhere() -> None:
    [a, b, c] = (y for _, y in marks(lines([0.001, 0.01, 0.1]), "mean"))
    assert a - b == pytest.approx(b - c, abs=0.2)
    assert a > b > c


def test_a_cosine_lies_where_what_it_lacks_lies() -> None:
    [low, high, between] = (y for _, y in marks(lines([0.9, 0.999, 0.99], COSINE), "mean"))
    assert low - between == pytest.approx(between - high, abs=0.2), "a tenth of what it lacks is the same way up"
    assert low > between > high
    assert texts(lines([0.9, 0.99, 0.9999], COSINE), "end") == ["1", "0.9999", "0.999", "0.99", "0.9"]


def test_a_cosine_of_one_is_on_top_and_at_the_right() -> None:
    values = [0.9, 0.9999, 1.0]
    down = [y for _, y in marks(lines([*values], COSINE), "mean")]
    assert down == sorted(down, reverse=True)
    assert down[-1] == TOP
    names = ["a", "b", "c"]
    across = [x for x, _ in marks(in_rows("t", "d", names, COSINE, [Series("found", "mean", values)]), "mean")]
    assert across == sorted(across)


@pytest.mark.parametrize("least", [0.5, 0.99, 0.9999, 1 - 1e-6, 1 - 2e-7, 1.0])
@pytest.mark.parametrize("rows", [True, False])
def test_labels_are_whole_and_do_not_lie_on_each_other(least: float, rows: bool) -> None:
    values = [least, 0.5, 0.999, 1 - 3e-7]
    series = [
        Series("mean", "mean", values),
        Series("worst position", "worst", values, (), [0.9] * 4, {1}, "thresholds"),
    ]
    svg = (in_rows("t", "d", ["a", "b", "c", "d"], COSINE, series) if rows
           else over_positions("t", "d", "layer", COSINE, series))  # fmt: skip
    boxes = []
    for text in ET.fromstring(svg).iter("text"):
        x, y, width = float(text.attrib["x"]), float(text.attrib["y"]), text_width(text.text or "")
        style = text.attrib["class"].split()
        begin = x - (width if "end" in style else width / 2 if "middle" in style else 0)
        assert -1 <= begin <= begin + width <= WIDTH + 1, text.text
        boxes.append((begin, y - FONT_SIZE, begin + width, y, text.text))
    for i, (left, top, right, bottom, name) in enumerate(boxes):
        for other in boxes[:i]:
            assert right <= other[0] or other[2] <= left or bottom <= other[1] + 1 or other[3] <= top + 1, (name, other)
    assert "1" in texts(svg, "tick")


def test_a_text_is_cut_where_there_is_no_room() -> None:
    assert fitted("mimo-asr-q4_k", 200) == "mimo-asr-q4_k"
    for width in (5, 50, 100):
        cut = fitted("mimo-asr-" * 30, width)
        assert cut.endswith("…")
        assert text_width(cut) <= max(width, text_width("…"))


def test_no_error_at_all_lies_below_every_other() -> None:
    svg = lines([0.0, 0.02, 0.05, 0.0])
    [none, least, most, again] = (y for _, y in marks(svg, "mean"))
    assert none == again > least > most
    assert texts(svg, "end")[0] == "0"


def test_what_is_missing_leaves_a_gap() -> None:
    svg = lines([0.1, None, 0.2, 0.3])
    assert len(marks(svg, "mean")) == 3
    [joined] = [path.attrib["d"] for path in ET.fromstring(svg).iter("path") if path.attrib["class"] == "join mean"]
    assert re.findall("[ML]", joined) == ["M", "M", "L"]


def test_what_is_not_finite_lies_at_the_worst_end() -> None:
    found = [y for _, y in marks(lines([0.1, math.inf, math.nan, 0.5]), "mean")]
    assert found[1] == found[2] == min(found)


def test_what_failed_has_a_ring_and_gates_a_dash() -> None:
    series = [Series("mean", "mean", [0.99, 0.5, 0.98], ("a", "b", "c"), (0.9, 0.9, 0.9), {1})]
    for svg in (
        over_positions("t", "d", "layer", COSINE, series),
        in_rows("t", "d", ["one", "two", "three"], COSINE, series),
    ):
        assert marks(svg, "failed") == [marks(svg, "mean")[1]]
        gates = [p.attrib["d"] for p in ET.fromstring(svg).iter("path") if p.attrib["class"] == "gate mean"]
        assert gates[-1].count("M") == 3
        assert {"mean", "gate", "failed"} <= set(texts(svg, "legend"))
        assert [title.text for title in ET.fromstring(svg).iter("title")] == ["t", "a", "b", "c"]


def test_rows_go_down_in_order_and_errors_to_the_right() -> None:
    names = ["tok_mel", "layer_00", "logits"]
    svg = in_rows("t", "d", names, ERROR, [Series("found", "mean", [0.001, 0.1, 0.01])])
    found = marks(svg, "mean")
    assert texts(svg, "name") == names
    assert [y for _, y in found] == sorted(y for _, y in found)
    assert found[0][0] < found[2][0] < found[1][0]


@pytest.mark.parametrize(
    ("error", "label", "cosine"),
    [(1.0, "1", "0"), (2.0, "2", "-1"), (0.5, "0.5", "0.5"), (0.02, "0.02", "0.98"), (0.001, "0.001", "0.999"),
     (1e-5, "10⁻⁵", "0.99999"), (5e-7, "5·10⁻⁷", "0.9999995"), (20.0, "20", "-19"), (5e9, "5·10⁹", "-4999999999")],
)  # fmt: skip
def test_labels_are_as_long_as_they_must_be(error: float, label: str, cosine: str) -> None:
    assert error_label(error) == label
    assert cosine_label(error) == cosine


values = st.one_of(st.none(), st.floats(0, 10), st.floats(0, 1e-300), st.sampled_from([math.inf, math.nan, 1e300]))


@given(st.lists(values, min_size=1, max_size=40), st.booleans())
def test_nothing_leaves_the_picture(found: list[float | None], rows: bool) -> None:
    series = [Series("found", "mean", found, (), [0.5] * len(found))]
    names = [str(i) for i in range(len(found))]
    svg = in_rows("t", "d", names, ERROR, series) if rows else over_positions("t", "d", "x", ERROR, series)
    root = ET.fromstring(svg)
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    assert width == WIDTH
    for x, y in marks(svg, "mean"):
        assert -STROKE <= x <= width + STROKE
        assert -STROKE <= y <= height + STROKE
    assert len(marks(svg, "mean")) == sum(value is not None for value in found)
    assert len(texts(svg, "tick")) >= 2


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters="\ufffe\uffff")))
def test_texts_are_shown_and_no_markup(text: str) -> None:
    svg = over_positions(text, text, text, ERROR, [Series(text, "dot", [1.0], [f"x{text}"])], joined=False)
    root = ET.fromstring(svg)
    assert [element.text for element in root.iter("title")] == [text or None, f"x{text}"]
    assert {element.tag for element in root.iter()} == {"svg", "title", "desc", "path", "text"}
