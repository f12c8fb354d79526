"""The types of a file over the layers of its stacks, as an inline SVG: a row for each use, a cell for each layer, the
darker the more bits a weight has."""

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from mimo_convert.model.uses import UseTypes
from quantize.types import TYPES

from .plots import WIDTH, Point, cell, drawing, label, text_width

LEFT, RIGHT = 8, 6
ROW, CELL = 30, 12  # units: of a use with its name, and of a cell's height
TOP, LEGEND, KEY = 8, 18, 12
BELOW = 32  # units: of the axis
PALEST = 0.12  # opacity of the smallest type


class Shade(NamedTuple):
    """A type and the opacity of its cells."""

    name: str
    opacity: float


def over_layers(title: str, description: str, uses: Sequence[UseTypes]) -> Markup:
    """Plot the types of uses that have layers."""
    layered = [use for use in uses if use.stack]
    shades = shades_of(layered)
    by_type = {shade.name: shade.opacity for shade in shades}
    parts, top = legend(shades)
    widest = max((len(use.types) for use in layered), default=1)
    width = (WIDTH - LEFT - RIGHT) / widest
    for row, use in enumerate(layered):
        y = top + row * ROW
        parts.append(label("name", Point(LEFT, y + 10), name_of(use)))
        for layer, one in enumerate(use.types):
            at = Point(LEFT + layer * width, y + 14)
            gap = 1 if width > 4 else 0
            parts.append(cell(at, width - gap, CELL, by_type[one], f"layer {layer}: {one}"))
    bottom = top + len(layered) * ROW
    ticks = sorted({0, widest // 2, widest - 1})
    parts += [label("tick middle", Point(LEFT + (i + 0.5) * width, bottom + 12), str(i)) for i in ticks]
    parts.append(label("axis middle", Point((LEFT + WIDTH - RIGHT) / 2, bottom + 26), "layer"))
    return drawing(height_of(uses), title, description, parts)


def height_of(uses: Sequence[UseTypes]) -> float:
    """The height of their plot, in units."""
    layered = [use for use in uses if use.stack]
    return legend(shades_of(layered))[1] + len(layered) * ROW + BELOW


def shades_of(uses: Sequence[UseTypes]) -> list[Shade]:
    """The types of some uses, that with the fewest bits per weight first, each a step darker."""
    names = sorted({one for use in uses for one in use.types}, key=bits)
    step = (1 - PALEST) / max(1, len(names) - 1)
    return [Shade(name, 1 - step * (len(names) - 1 - i)) for i, name in enumerate(names)]


def bits(name: str) -> tuple[float, str]:
    """The bits per weight of a type, 0 of one that is not known here, and its name."""
    return (TYPES[name].bits_per_weight if name in TYPES else 0.0), name


def legend(shades: Sequence[Shade]) -> tuple[list[Markup], float]:
    """The legend, and where it ends: a cell and a name for each type, in as many lines as they need."""
    parts: list[Markup] = []
    x, y = float(LEFT), float(TOP)
    for name, opacity in shades:
        width = KEY + 5 + text_width(name) + 10
        if x + width > WIDTH and x > LEFT:
            x, y = float(LEFT), y + LEGEND
        parts.append(cell(Point(x, y), KEY, KEY, opacity, name))
        parts.append(label("legend", Point(x + KEY + 5, y + 10), name))
        x += width
    return parts, y + LEGEND + 6


def name_of(use: UseTypes) -> str:
    """A use as the plot names it."""
    return f"{use.stack} {use.use.replace('_', ' ')}"
