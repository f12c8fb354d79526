"""Pareto plots: marks are where the numbers are, labels apart, and nothing leaves the picture."""

import math
import re
import xml.etree.ElementTree as ET
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimo_agreement.report.page.pareto import (
    HEIGHT,
    SHARE,
    Box,
    Dot,
    pareto,
    placed,
    share_label,
    size_label,
    stairs_of,
)
from runtime_check.report.page.plots import ERROR, WIDTH, Point, text_width
from runtime_check.run.compare.fidelity import Estimate

from ...made_up import TYPES, around

GB = 10**9


def dot(name: str, n_bytes: int, value: float | None, *, on_front: bool = True, is_baseline: bool = False) -> Dot:
    found = Estimate(None, None, None) if value is None else around(value, 0.2)
    return Dot(name, n_bytes, found, f"note of {name}", on_front, is_baseline)


DOTS = [dot(name, round(GB * bits), rate, on_front=name != "q4_0") for name, (bits, rate, _) in TYPES.items()]


def plot(dots: list[Dot]) -> ET.Element:
    return ET.fromstring(pareto("title", "description", "size", SHARE, dots))


def marks(root: ET.Element, style: str) -> list[tuple[float, float]]:
    data = [path.attrib["d"] for path in root.iter("path") if path.attrib["class"] == f"mark {style}"]
    return [(float(x), float(y)) for x, y in (re.match(r"M(\S+) (\S+?)m", d).groups() for d in data)]  # type: ignore[union-attr]


def texts(root: ET.Element, style: str) -> list[str]:
    return [one.text or "" for one in root.iter("text") if style in one.attrib["class"].split()]


def boxes(root: ET.Element) -> list[tuple[str, Box]]:
    """Where every text is."""
    found = []
    for one in root.iter("text"):
        x, y, width = float(one.attrib["x"]), float(one.attrib["y"]), text_width(one.text or "")
        style = one.attrib["class"].split()
        begin = x - (width if "end" in style else width / 2 if "middle" in style else 0)
        found.append((one.text or "", Box(begin, y - 9, begin + width, y)))
    return found


def test_larger_files_are_further_right_and_worse_ones_further_up() -> None:
    found = marks(plot(DOTS), "front")
    assert [x for x, _ in found] == sorted(x for x, _ in found)
    assert [y for _, y in found] == sorted(y for _, y in found), "y grows downwards"


def test_files_that_are_not_on_the_front_look_otherwise() -> None:
    root = plot(DOTS)
    assert len(marks(root, "behind")) == 1
    assert len(marks(root, "front")) == len(DOTS) - 1
    assert "not on it" in texts(root, "legend")
    assert "not on it" not in texts(plot([dot("a", GB, 0.1), dot("b", 2 * GB, 0.05)]), "legend")


def test_every_file_has_its_label_interval_and_note() -> None:
    root = plot(DOTS)
    assert set(texts(root, "name")) == set(TYPES)
    assert len([path for path in root.iter("path") if path.attrib["class"] == "span"]) == len(TYPES) + 1, "and a key"
    assert {one.text for one in root.iter("title")} == {"title", *(f"note of {name}" for name in TYPES)}


def test_a_file_whose_error_is_not_known_is_left_out() -> None:
    root = plot([*DOTS, dot("unknown", GB, None)])
    assert len(marks(root, "front")) == len(DOTS) - 1
    assert "unknown" not in texts(root, "name")


def test_no_error_at_all_lies_at_the_bottom() -> None:
    root = plot([dot("a", GB, 0.1), dot("b", 2 * GB, 0.0, is_baseline=True)])
    heights = [y for _, y in marks(root, "front")]
    assert heights[1] == max(heights)
    assert "0" in texts(root, "tick")


def test_the_front_goes_across_and_then_down() -> None:
    points = [Point(3, 9), Point(1, 2), Point(2, 5)]
    assert stairs_of(points) == [
        (Point(1, 2), Point(2, 2)), (Point(2, 2), Point(2, 5)), (Point(2, 5), Point(3, 5)), (Point(3, 5), Point(3, 9)),
    ]  # fmt: skip
    assert stairs_of(points[:1]) == []


@pytest.mark.parametrize(("n_bytes", "text"), [(5e9, "5 GB"), (1.5e6, "1.5 MB"), (2e3, "2 kB"), (1, "1 B")])
def test_sizes_are_short(n_bytes: float, text: str) -> None:
    assert size_label(n_bytes) == text


@pytest.mark.parametrize(("share", "text"), [(0.05, "5 %"), (1.5, "150 %"), (0.0002, "0.02 %")])
def test_shares_are_percentages(share: float, text: str) -> None:
    assert share_label(share) == text


def test_labels_of_a_usual_plot_lie_on_nothing() -> None:
    for one, other in combinations(boxes(plot(DOTS)), 2):
        assert not one[1].overlaps(other[1]), (one, other)


names = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=30)
values = st.one_of(
    st.none(), st.floats(0, 2), st.floats(-1, 1e-300), st.sampled_from([0.0, 0.05, 1e300, math.inf, math.nan])
)
dots = st.builds(dot, names, st.integers(0, 10**13), values, on_front=st.booleans(), is_baseline=st.booleans())
alike = st.builds(dot, names, st.just(GB), st.just(0.05))
many = st.lists(st.one_of(dots, alike), max_size=25)


@given(many)
def test_nothing_leaves_the_picture_and_no_label_lies_on_another(found: list[Dot]) -> None:
    root = ET.fromstring(pareto("t", "d", "size", ERROR, found))
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    assert width == WIDTH
    assert height >= HEIGHT
    points = [*marks(root, "front"), *marks(root, "behind")]
    assert len(points) == sum(one.found.value is not None for one in found)
    for x, y in points:
        assert 0 <= x <= width
        assert 0 <= y <= height
    inside = boxes(root)
    for text, box in inside:
        assert box.is_within(Box(-1, -1, width + 1, height + 1)), text
    for one, other in combinations([box for _, box in inside], 2):
        assert not one.overlaps(other)


@given(st.lists(st.tuples(names, st.builds(Point, st.floats(50, 300), st.floats(40, 190))), max_size=20))
def test_labels_cover_no_mark(named: list[tuple[str, Point]]) -> None:
    for one in placed(named, [], Box(46, 30, 334, 206)):
        assert not any(one.box.overlaps(Box(x, y, x + 0.1, y + 0.1)) for _, (x, y) in named)


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters="\ufffe\uffff")))
def test_texts_are_shown_and_no_markup(text: str) -> None:
    root = ET.fromstring(pareto(text, text, text, ERROR, [dot(f"x{text}", GB, 0.1)]))
    assert [one.text for one in root.iter("title")] == [text or None, f"note of x{text}"]
    assert {one.tag for one in root.iter()} <= {"svg", "title", "desc", "path", "text"}
