"""Pareto plots as inline SVG: size against an error, both logarithmic, with intervals; the front is a line, and its
files are filled marks. Units and styles are those of runtime_check/report/page/plots.py."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from markupsafe import Markup

from mimo_convert.numbers_text import NOTHING
from runtime_check.report.page.plots import (
    BOTTOM,
    GAP,
    LEFT,
    LINE,
    RIGHT,
    SHAPES,
    STEPS,
    TOP,
    WIDTH,
    Measure,
    Point,
    Scale,
    Series,
    apart,
    drawing,
    error_label,
    fitted,
    label,
    line,
    path,
    text_width,
)
from runtime_check.run.compare.fidelity import Estimate

HEIGHT, MORE = 240, 10  # units: of a plot, and for each file beyond ROOMY
ROOMY = 8
MARK = 5  # units around the middle of a mark that no label covers
MOST_NAME = 130  # units of a file's label
FINE, NARROW = (1, 1.5, 2, 3, 4, 5, 6, 8), 8  # steps of a scale whose values differ by no more than that factor
UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B"))
FRONT, BEHIND = "front", "behind"  # styles of marks
LEGEND = {"on the front": (FRONT, "mean"), "not on it": (BEHIND, "mean"), "baseline": (FRONT, "worst")}


@dataclass(frozen=True)
class Dot:
    """A file: its label, bytes, error with its interval, and a note; `on_front`: no other is smaller and better."""

    name: str
    bytes: int
    found: Estimate
    note: str
    on_front: bool
    is_baseline: bool


class Box(NamedTuple):
    """A rectangle in units."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: "Box") -> bool:
        """Whether both cover a place."""
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom

    def is_within(self, other: "Box") -> bool:
        """Whether the other covers all of it."""
        across = other.left <= self.left and self.right <= other.right
        return across and other.top <= self.top and self.bottom <= other.bottom


class Placed(NamedTuple):
    """A label: its text begins at the left of its box; `leader` is the mark that a line leads to, None if it is beside
    it."""

    text: str
    box: Box
    leader: Point | None


def pareto(title: str, description: str, across: str, measure: Measure, dots: Sequence[Dot]) -> Markup:
    """Plot the files whose error is known; `across` labels the axis of sizes."""
    known = [dot for dot in dots if dot.found.value is not None]
    sizes, up = _size_scale(known), _error_scale(measure, known)
    left = max(LEFT, GAP + max(text_width(up.label(tick)) for tick in up.ticks))
    bottom = height_of(dots) - BOTTOM
    frame = Box(left, TOP, WIDTH - RIGHT, bottom)

    def at(dot: Dot, value: float | None) -> Point:
        x = left + sizes.place(max(dot.bytes, 1)) * (WIDTH - RIGHT - left)
        return Point(x, bottom - up.share(value or 0.0) * (bottom - TOP))

    marks = [at(dot, dot.found.value) for dot in known]
    bars = [
        (at(dot, dot.found.high), at(dot, dot.found.low))
        for dot in known
        if dot.found.low is not None and dot.found.high is not None
    ]
    parts = [_legend(known), *_grid(sizes, up, frame, across)]
    stairs = stairs_of([point for dot, point in zip(known, marks, strict=True) if dot.on_front])
    parts += [line("join mean", *one) for one in stairs]
    parts += [line("span", *bar) for bar in bars]
    named = [(fitted(dot.name, MOST_NAME), point) for dot, point in zip(known, marks, strict=True)]
    names = placed(named, [*bars, *stairs], frame)
    parts += [line("leader", one.leader, _nearest(one.box, one.leader)) for one in names if one.leader]
    parts += map(_mark, known, marks)
    parts += [label("name", Point(one.box.left, one.box.bottom - 2.5), one.text) for one in names]
    return drawing(height_of(dots), title, description, parts)


def height_of(dots: Sequence[Dot]) -> float:
    """The height of their plot, in units."""
    return HEIGHT + MORE * max(0, len(dots) - ROOMY)


# ── scales ───────────────────────────────────────────────────────────────────────────────────────────────────────


def share_label(error: float) -> str:
    """Format a share as a percentage: 5 %, or 10⁻⁵ if it is that small."""
    return f"{100 * error:.6g} %" if error >= 1e-6 else error_label(error)


def size_label(n_bytes: float) -> str:
    """Format a tick of sizes, in decimal units: 5 GB."""
    unit, name = next((one for one in UNITS if n_bytes >= one[0] * 0.999), UNITS[-1])
    return f"{n_bytes / unit:g} {name}"


SHARE = Measure(lambda share: share, share_label, 1e-6, "0")
SIZE = Measure(lambda n_bytes: n_bytes, size_label, 0.0, "0")


def _size_scale(dots: Sequence[Dot]) -> Scale:
    return _scale(SIZE, [max(dot.bytes, 1) for dot in dots])


def _error_scale(measure: Measure, dots: Sequence[Dot]) -> Scale:
    values = [value for dot in dots for value in (dot.found.value, dot.found.low, dot.found.high)]
    return _scale(measure, [value for value in values if value is not None and value >= 0])


def _scale(measure: Measure, values: Sequence[float]) -> Scale:
    above = [value for value in values if value > 0]
    steps = FINE if above and max(above) <= NARROW * min(above) else STEPS
    return Scale(measure, [Series("", "", values)], steps)


# ── labels ───────────────────────────────────────────────────────────────────────────────────────────────────────


def placed(names: Sequence[tuple[str, Point]], lines: Sequence[tuple[Point, Point]], frame: Box) -> list[Placed]:
    """Labels beside their marks, as near as there is room: none lies on another or on a mark, and on one of `lines`
    only where there is no other place. A label that has no place at all is left out; the table has the name."""
    marks = [_around(point) for _, point in names]
    strokes = [Box(min(a.x, b.x) - 1, min(a.y, b.y) - 1, max(a.x, b.x) + 1, max(a.y, b.y) + 1) for a, b in lines]
    found: list[Placed] = []
    for text, point in names:
        taken = [*marks, *(one.box for one in found)]
        free = [
            one for one in _places(text, point, frame)
            if one.box.is_within(frame) and not any(one.box.overlaps(box) for box in taken)
        ]  # fmt: skip
        clear = [one for one in free if not any(one.box.overlaps(box) for box in strokes)]
        found += [*clear, *free][:1]
    return found


def _places(text: str, point: Point, frame: Box) -> Iterator[Placed]:
    """Where a label could stand, the nearest place first."""
    width, half = text_width(text), LINE / 2
    right, left, middle = point.x + MARK + 2, point.x - MARK - 2 - width, point.x - width / 2
    for away in range(int((frame.bottom - frame.top) / half)):
        for side in (-1, 1) if away else (1,):
            y = point.y + side * away * half - half
            for x in (right, left, *((middle,) if away > 1 else ())):
                box = Box(x, y, x + width, y + LINE)
                yield Placed(text, box, point if away > 1 else None)


def _around(point: Point) -> Box:
    return Box(point.x - MARK, point.y - MARK, point.x + MARK, point.y + MARK)


def _nearest(box: Box, point: Point) -> Point:
    """The place of a box that is nearest to a point."""
    return Point(min(max(point.x, box.left), box.right), min(max(point.y, box.top), box.bottom))


# ── marks ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _grid(sizes: Scale, up: Scale, frame: Box, across: str) -> Iterator[Markup]:
    """Lines and labels of both scales."""
    heights = {tick: frame.bottom - up.place(tick) * (frame.bottom - frame.top) for tick in up.ticks}
    labelled = apart([(tick, y - LINE / 2, y + LINE / 2) for tick, y in heights.items()])
    for tick, y in heights.items():
        yield line("grid", Point(frame.left, y), Point(frame.right, y))
        if tick in labelled:
            yield label("tick end", Point(frame.left - 5, y + 3.5), up.label(tick))
    places = {tick: frame.left + sizes.place(tick) * (frame.right - frame.left) for tick in sizes.ticks}
    widths = {tick: text_width(sizes.label(tick)) for tick in places}
    ends = {tick: min(max(x, frame.left + widths[tick] / 2) + widths[tick] / 2, WIDTH) for tick, x in places.items()}
    shown = apart([(tick, end - widths[tick] - GAP, end) for tick, end in ends.items()])
    for tick, x in places.items():
        yield line("grid", Point(x, frame.top), Point(x, frame.bottom))
        if tick in shown:
            yield label("tick end", Point(ends[tick], frame.bottom + 14), sizes.label(tick))
    yield label("axis middle", Point((frame.left + frame.right) / 2, frame.bottom + BOTTOM - 4), across)


def stairs_of(points: Sequence[Point]) -> list[tuple[Point, Point]]:
    """The lines below which no file is: from a file of the front to the next larger one, across and then down."""
    found = []
    for one, other in pairwise(sorted(points)):
        corner = Point(other.x, one.y)
        found += [(one, corner), (corner, other)]
    return found


def _mark(dot: Dot, point: Point) -> Markup:
    shape, style = SHAPES["worst" if dot.is_baseline else "mean"], FRONT if dot.on_front else BEHIND
    mark = '<path class="mark {}" d="M{} {}{}"><title>{}</title></path>'
    return Markup(mark).format(style, f"{point.x:.1f}", f"{point.y:.1f}", shape, dot.note or NOTHING)


def _legend(dots: Sequence[Dot]) -> Markup:
    """The kinds of marks, of which there are some."""
    there = {
        "on the front": True, "not on it": not all(dot.on_front for dot in dots),
        "baseline": any(dot.is_baseline for dot in dots),
    }  # fmt: skip
    parts, x = [], 10.0
    for name, (style, shape) in LEGEND.items():
        if there[name]:
            parts += [path(f"key {style}", f"M{x:.1f} 12{SHAPES[shape]}"), label("legend", Point(x + 11, 15.5), name)]
            x += 28 + text_width(name)
    parts += [path("span", f"M{x:.1f} 6v12"), label("legend", Point(x + 8, 15.5), "95 %")]
    return Markup("\n").join(parts)
