"""Plots as inline SVG. Colours and fonts come from the page's CSS classes (page.html.j2).

All scales are logarithmic in the error; a cosine's is its distance from 1, which is on top (or at the right). Plots are
340 units wide, about a phone's width. Failures are marked by shape as well as colour; each mark has a tooltip.
"""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from markupsafe import Markup

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 340, 46, 6, 30, 34  # units; what is left and right, above and below the marks
HEIGHT = 216  # of plots over positions
FILE_SCALE = 1.2  # pixels of a file of its own by its units
ROW = 34  # of plots in rows: a name, and its marks closer to it than to the next
DECADES = 9  # a scale shows no more; what is smaller lies on its end
FONT_SIZE, LINE, GAP = 10.5, 12, 6  # units: of all texts, from one to the next below it, and beside it
MOST_LABEL = 100  # units of a tick's label
STEPS = (1, 2, 5)

# Widths of characters by the size of the font: those of DejaVu Sans, which is the widest that a plot may be shown in.
NARROW, WIDE = frozenset(" !'(),-./:;I[]fijlrt|"), frozenset("%@MWmw")
NARROW_WIDTH, USUAL_WIDTH, CAPITAL_WIDTH, WIDE_WIDTH = 0.41, 0.64, 0.79, 1.0

SHAPES = {
    "mean": "m-2.7 0a2.7 2.7 0 1 0 5.4 0a2.7 2.7 0 1 0-5.4 0z",
    "worst": "m0-3.5l3.5 3.5l-3.5 3.5l-3.5-3.5z",
    "dot": "m-1.5 0a1.5 1.5 0 1 0 3 0a1.5 1.5 0 1 0-3 0z",
    "expected": "m-3.2 0h6.4",
    "failed": "m-5.5 0a5.5 5.5 0 1 0 11 0a5.5 5.5 0 1 0-11 0z",
}  # by the class of what is drawn


class Measure(NamedTuple):
    """The quantity of a scale: `distance` maps a value to the error that is plotted, `label` formats an error.

    Errors below `least` are none, which is labelled `none`. If it is `rising`, a greater value is nearer to the
    reference, and no error at all is at the top (or right) of every scale.
    """

    distance: Callable[[float], float]
    label: Callable[[float], str]
    least: float
    none: str
    rising: bool = False


@dataclass(frozen=True)
class Series:
    """A series of marks: a value per position (None: missing) with a note each.

    `style` is a class of SHAPES; `gates` are thresholds per position; `failed` positions are ringed.
    """

    name: str
    style: str
    values: Sequence[float | None]
    notes: Sequence[str] = ()
    gates: Sequence[float | None] = ()
    failed: Collection[int] = ()
    gate_name: str = "gate"


class Point(NamedTuple):
    """A point in units of the plot."""

    x: float
    y: float


def over_positions(
    title: str, description: str, across: str, measure: Measure, series: Sequence[Series], *, joined: bool = True
) -> Markup:
    """Plot errors over positions: layers, steps or tensors. `across` labels the axis; `joined` draws lines."""
    scale = Scale(measure, series)
    count = len(series[0].values)
    bottom = HEIGHT - BOTTOM
    left = max(LEFT, GAP + max(text_width(scale.label(tick)) for tick in scale.ticks))

    def at(position: float, value: float) -> Point:
        x = left + (position + 0.5) / count * (WIDTH - left - RIGHT)
        return Point(x, bottom - scale.share(value) * (bottom - TOP))

    parts = [_legend(series)]
    heights = {tick: bottom - scale.place(tick) * (bottom - TOP) for tick in scale.ticks}
    labelled = apart([(tick, y - LINE / 2, y + LINE / 2) for tick, y in heights.items()])
    for tick, y in heights.items():
        parts.append(line("grid", Point(left, y), Point(WIDTH - RIGHT, y)))
        if tick in labelled:
            parts.append(label("tick end", Point(left - 5, y + 3.5), scale.label(tick)))
    for position in _whole_ticks(count):
        parts.append(label("tick middle", Point(at(position, 0).x, bottom + 14), str(position)))
    parts.append(label("axis middle", Point((left + WIDTH - RIGHT) / 2, HEIGHT - 4), across))

    for one in series:
        gates = [(i, gate) for i, gate in enumerate(one.gates) if gate is not None]
        parts.append(path(f"gate {one.style}", "".join(
            f"M{at(i - 0.5, gate).x:.1f} {at(i, gate).y:.1f}H{at(i + 0.5, gate).x:.1f}" for i, gate in gates
        )))  # fmt: skip
        if joined:
            parts.append(path(f"join {one.style}", _joined(
                [None if value is None else at(i, value) for i, value in enumerate(one.values)]
            )))  # fmt: skip
    parts += _marks(series, at)
    return drawing(HEIGHT, title, description, parts)


def in_rows(title: str, description: str, names: Sequence[str], measure: Measure, series: Sequence[Series]) -> Markup:
    """Plot errors in a row per name: stages. Thresholds are strokes across the row."""
    scale = Scale(measure, series)
    bottom = TOP + ROW * len(names)
    left, right = 8, WIDTH - 18

    def at(position: float, value: float) -> Point:
        return Point(left + scale.share(value) * (right - left), TOP + ROW * position + 20)

    parts = [_legend(series)]
    labels = {tick: _Label(scale.label(tick), left + scale.place(tick) * (right - left)) for tick in scale.ticks}
    labelled = apart([(tick, of_tick.begin - GAP / 2, of_tick.end + GAP / 2) for tick, of_tick in labels.items()])
    for tick, of_tick in labels.items():
        parts.append(line("grid", Point(of_tick.x, TOP), Point(of_tick.x, bottom)))
        if tick in labelled:
            parts.append(label(f"tick {of_tick.anchor}", Point(of_tick.x, bottom + 13), of_tick.text))
    for position, name in enumerate(names):
        parts.append(label("name", Point(left, TOP + ROW * position + 10), name))
        reached = [at(position, one.values[position] or 0.0) for one in series if one.values[position] is not None]
        if reached:
            parts.append(line("span", min(reached), max(reached)))
    for one in series:
        gates = [at(i, gate) for i, gate in enumerate(one.gates) if gate is not None]
        parts.append(path(f"gate {one.style}", "".join(f"M{x:.1f} {y - 6:.1f}v12" for x, y in gates)))
    parts += _marks(series, at)
    return drawing(bottom + 20, title, description, parts)


def as_file(svg: Markup, title: str, style: str, height: float = HEIGHT) -> str:
    """A plot of that height as an SVG file with a `title`; `style` is its CSS."""
    _, _, inside = svg.partition(">")
    box = (-6, -24, WIDTH + 12, round(height) + 32)  # x, y, width, height, with room for the title
    return Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{}" height="{}" viewBox="{} {} {} {}">\n'
        '<style>{}</style>\n<rect class="ground" x="{}" y="{}" width="{}" height="{}" rx="6"/>\n{}\n{}\n'
    ).format(
        *(round(length * FILE_SCALE) for length in box[2:]), *box, Markup(style), *box,
        label("name", Point(4, -8), title), Markup(inside),
    )  # fmt: skip


# ── texts ────────────────────────────────────────────────────────────────────────────────────────────────────────


def text_width(text: str) -> float:
    """The width of a text in units, in the widest of the fonts; no less for characters that it lacks."""
    return FONT_SIZE * sum(map(_width, text))


def _width(character: str) -> float:
    if character in NARROW:
        return NARROW_WIDTH
    if character in WIDE or not character.isascii():
        return WIDE_WIDTH
    return CAPITAL_WIDTH if character.isupper() else USUAL_WIDTH


def fitted(text: str, width: float) -> str:
    """The text, or as much of its beginning as fits into `width` units, and an ellipsis."""
    if text_width(text) <= width:
        return text
    fits = [end for end in range(len(text)) if text_width(f"{text[:end]}…") <= width]
    return f"{text[: max(fits, default=0)]}…"


class _Label(NamedTuple):
    """A tick's label at `x`: around it, or from it on where there is no room at its left."""

    text: str
    x: float

    @property
    def anchor(self) -> str:
        return "start" if self.x - text_width(self.text) / 2 < 0 else "middle"

    @property
    def begin(self) -> float:
        return self.x - (text_width(self.text) / 2 if self.anchor == "middle" else 0)

    @property
    def end(self) -> float:
        return self.begin + text_width(self.text)


def apart(ticks: Sequence[tuple[float, float, float]]) -> set[float]:
    """Of ticks, (error, begin, end) of its label: those whose labels do not lie on others; no error at all first."""
    kept: list[tuple[float, float, float]] = []
    for tick in [*ticks[:1], *reversed(ticks[1:])]:
        if all(tick[1] >= other[2] or tick[2] <= other[1] for other in kept):
            kept.append(tick)
    return {error for error, _, _ in kept}


# ── scales ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Scale:
    """A logarithmic scale with ticks at 1, 2, 5, or other steps of a decade; a zero error lies at its end."""

    def __init__(self, measure: Measure, series: Sequence[Series], steps: Sequence[float] = STEPS) -> None:
        values = [value for one in series for value in (*one.values, *one.gates) if value is not None]
        errors = [measure.distance(value) for value in values]
        there = [error for error in errors if 0 < error < math.inf] or [1.0]
        low, high = _step_below(min(there), steps), _step_above(max(there), steps)
        low = max(low, measure.least, _step_below(high * 10.0**-DECADES))
        if low >= high:
            low, high = _step_below(low / 2), _step_above(high * 2)
        self.has_end = measure.rising or any(error < low for error in errors)
        if self.has_end:  # below all that is drawn to scale
            low = _step_below(low / 2)
        self.measure, self.low, self.high, self.steps = measure, low, high, steps
        self.ticks = self._ticks()

    def _ticks(self) -> list[float]:
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        steps = self.steps if self.high / self.low <= 200 else STEPS[:1]
        ticks = [step * 10.0**decade for decade in decades for step in steps]
        inside = [tick for tick in ticks if self.low * 0.999 <= tick <= self.high * 1.001]
        return [self.low, *inside] if self.has_end and not math.isclose(inside[0], self.low) else inside

    def place(self, error: float) -> float:
        """The position of an error, 0 to 1; of none at 1 if the measure is rising."""
        error = self.high if math.isnan(error) else min(max(error, self.low), self.high)
        share = math.log(error / self.low) / math.log(self.high / self.low)
        return 1 - share if self.measure.rising else share

    def share(self, value: float) -> float:
        """The position of a value, 0 to 1."""
        return self.place(self.measure.distance(value))

    def label(self, error: float) -> str:
        """The label of an error."""
        is_none = self.has_end and math.isclose(error, self.low)
        return self.measure.none if is_none else fitted(self.measure.label(error), MOST_LABEL)


def _step_below(error: float, steps: Sequence[float] = STEPS) -> float:
    decade = 10.0 ** math.floor(math.log10(error))
    return max(step * decade for step in steps if step * decade <= error * 1.000001)


def _step_above(error: float, steps: Sequence[float] = STEPS) -> float:
    decade = 10.0 ** math.floor(math.log10(error))
    return min(step * decade for step in (*steps, 10) if step * decade >= error * 0.999999)


def _whole_ticks(count: int) -> range:
    """At most eight round positions."""
    step = next(size * 10**power for power in range(9) for size in STEPS if count <= 8 * size * 10**power)
    return range(0, count, step)


def error_label(error: float) -> str:
    """Format an error: 0.001, or 10⁻⁵ if that is shorter."""
    exponent = math.floor(math.log10(error) + 1e-9)
    if -3 <= exponent <= 3:
        return f"{error:.{max(0, -exponent)}f}"
    digit = round(error / 10.0**exponent)
    power = f"10{str(exponent).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"
    return power if digit == 1 else f"{digit}·{power}"


def cosine_label(error: float) -> str:
    """Format the cosine at a distance from 1."""
    return f"{1 - error:.{max(0, -math.floor(math.log10(error) + 1e-9))}f}"


ERROR = Measure(lambda error: error, error_label, 0.0, "0")
COSINE = Measure(lambda cosine: 1 - cosine, cosine_label, 1e-7, "1", rising=True)


# ── markup; Markup.format escapes what it is given ───────────────────────────────────────────────────────────────


def drawing(height: float, title: str, description: str, parts: Sequence[Markup]) -> Markup:
    """An SVG of that height, in units."""
    return Markup('<svg role="img" viewBox="0 0 {} {}"><title>{}</title><desc>{}</desc>\n{}</svg>').format(
        WIDTH, f"{height:.0f}", title, description, Markup("\n").join(part for part in parts if part)
    )


def line(style: str, start: Point, end: Point) -> Markup:
    return path(style, f"M{start.x:.1f} {start.y:.1f}L{end.x:.1f} {end.y:.1f}")


def path(style: str, data: str) -> Markup:
    return Markup('<path class="{}" d="{}"/>').format(style, data) if data else Markup()


def label(style: str, at: Point, text: str) -> Markup:
    """A text that begins, ends or has its middle at a point."""
    return Markup('<text class="{}" x="{}" y="{}">{}</text>').format(style, f"{at.x:.1f}", f"{at.y:.1f}", text)


def cell(at: Point, width: float, height: float, opacity: float, note: str) -> Markup:
    """A rectangle with its upper left corner at a point, and a tooltip."""
    shape = '<rect class="cell" x="{}" y="{}" width="{}" height="{}" fill-opacity="{}"><title>{}</title></rect>'
    return Markup(shape).format(f"{at.x:.1f}", f"{at.y:.1f}", f"{width:.1f}", f"{height:.1f}", f"{opacity:.2f}", note)


def _joined(points: Sequence[Point | None]) -> str:
    """Lines between neighbours, with gaps at missing points."""
    data, pen = "", "M"
    for point in points:
        if point is None:
            pen = "M"
        else:
            data += f"{pen}{point.x:.1f} {point.y:.1f}"
            pen = "L"
    return data


def _marks(series: Sequence[Series], at: Callable[[float, float], Point]) -> list[Markup]:
    """Marks, above the rings of failures so that tooltips work."""
    rings, marks = [], []
    for one in series:
        for position, value in enumerate(one.values):
            if value is None:
                continue
            x, y = at(position, value)
            if position in one.failed:
                rings.append(path("mark failed", f"M{x:.1f} {y:.1f}{SHAPES['failed']}"))
            note = one.notes[position] if one.notes else ""
            marks.append(Markup('<path class="{}" d="{}">{}</path>').format(
                f"mark {one.style}", f"M{x:.1f} {y:.1f}{SHAPES[one.style]}",
                Markup("<title>{}</title>").format(note) if note else "",
            ))  # fmt: skip
    return [*rings, *marks]


def _legend(series: Sequence[Series]) -> Markup:
    """The legend: each mark, thresholds, and the failure ring."""
    parts: list[Markup] = []
    x = 10.0

    def entry(name: str, *paths: Markup) -> None:
        nonlocal x
        parts.extend([*paths, label("legend", Point(x + 11, 15.5), name)])
        x += 28 + text_width(name)

    for one in series:
        entry(one.name, path(f"key {one.style}", f"M{x:.1f} 12{SHAPES[one.style]}"))
    gated = [one for one in series if one.gates]
    if gated:
        first = 12 - 2.5 * (len(gated) - 1)
        strokes = [path(f"gate {one.style}", f"M{x - 6:.1f} {first + 5 * i:.1f}h12") for i, one in enumerate(gated)]
        entry(gated[0].gate_name, *strokes)
    if any(one.failed for one in series):
        entry("failed", path("key failed", f"M{x:.1f} 12{SHAPES['failed']}"))
    return Markup("\n").join(parts)
