"""Plots of a model card, an SVG file each: the cosine of each layer of text models, and types chosen for a size."""

from collections.abc import Sequence
from pathlib import PurePath
from typing import NamedTuple

from mimo_convert.numbers_text import cosine, gate
from runtime_check.gate import LAYER
from runtime_check.report.page.chosen import ChosenView, chosen_view
from runtime_check.report.page.page import PALETTE
from runtime_check.report.page.parts import HIGHER, cosine_series
from runtime_check.report.page.plots import COSINE, WIDTH, as_file, fitted, over_positions, text_width
from runtime_check.report.page.type_plot import height_of
from runtime_check.report.records import file_name
from runtime_check.run.records import Check, StageResult

from ..card_parts import File

# For a picture that nothing else gives a style: it has a ground of its own, since a site may be dark where the reader's
# system is not.
STYLE = (
    PALETTE.read_text(encoding="utf-8")
    + """
.ground { fill: var(--paper); }
text { font: 10.5px system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif;
  fill: var(--quiet); font-variant-numeric: tabular-nums; }
.name, .legend { fill: var(--ink); } .name { paint-order: stroke; stroke: var(--paper); stroke-width: 3px; }
.end { text-anchor: end; } .middle { text-anchor: middle; }
path { fill: none; } .cell { fill: var(--mean); } .grid { stroke: var(--hair); stroke-width: .8; }
.join { stroke-width: 1.3; stroke-linejoin: round; }
.join.mean, .gate.mean { stroke: var(--mean); } .join.worst, .gate.worst { stroke: var(--worst); }
.gate { stroke-width: 1.4; stroke-dasharray: 4 2.5; } .gate.worst { stroke-dasharray: 1.6 1.8; }
.mean:is(.mark, .key) { fill: var(--mean); } .worst:is(.mark, .key) { fill: var(--worst); }
.failed { stroke: var(--fail); stroke-width: 1.7; } .span { stroke: var(--quiet); stroke-width: 1; }
.front:is(.mark, .key) { fill: var(--mean); } .leader { stroke: var(--quiet); stroke-width: .6; }
.behind:is(.mark, .key) { fill: var(--paper); stroke: var(--quiet); stroke-width: 1.3; }
"""
)

TITLE, OF_TYPES = ": cosine of each layer", ": types of each layer"  # after the file's name


class Plot(NamedTuple):
    """`name` is the file that it is about, `file` its own beside the card, `alt` its alternative text."""

    name: str
    file: str
    alt: str
    svg: str


def layer_plots(files: Sequence[File]) -> list[Plot]:
    """A plot per text model whose layers were compared."""
    plots = []
    for file in files:
        check = file.shown if file.responds else None
        layers = [stage for stage in check.stages if stage.kind == LAYER] if check else []
        if check and any(layer.cos_mean is not None for layer in layers):
            stem = PurePath(file_name(file.name)).stem
            title = f"{fitted(stem, WIDTH - text_width(TITLE))}{TITLE}"
            svg = over_positions(title, HIGHER, "layer", COSINE, cosine_series(check, layers))
            plots.append(
                Plot(file.name, f"layers-{stem}.svg", _alt(file.name, check, layers), as_file(svg, title, STYLE))
            )
    return plots


class ChosenFile(NamedTuple):
    """A file of a given size, `view`, and its plot; None without layers."""

    view: ChosenView
    plot: Plot | None


def chosen_files(files: Sequence[File]) -> list[ChosenFile]:
    """The files whose types were chosen for a given size."""
    found = []
    for file in files:
        if file.facts and file.facts.chosen:
            chosen = file.facts.chosen
            view = chosen_view(file.name, chosen, file.checks)
            stem = PurePath(file_name(file.name)).stem
            title = f"{fitted(stem, WIDTH - text_width(OF_TYPES))}{OF_TYPES}"
            svg = as_file(view.plot.svg, title, STYLE, height_of(chosen.uses)) if view.plot else ""
            alt = f"Types of each layer of {file.name}: " + "; ".join(f"{row.name} {row.types}" for row in view.rows)
            found.append(ChosenFile(view, Plot(file.name, f"types-{stem}.svg", alt, svg) if svg else None))
    return found


def _alt(name: str, check: Check, layers: Sequence[StageResult]) -> str:
    """Alternative text: the lowest mean cosine with its threshold, and the number of failed layers."""
    lowest, worst = min((layer.cos_mean, layer.name) for layer in layers if layer.cos_mean is not None)
    gates = [one for one in check.gates if one.kind == LAYER]
    bound = next((one.bound for one in gates if (one.stage, one.metric) == (worst, "cos_mean")), None)
    n_failed = len({one.stage for one in gates if not one.passed})
    return (
        f"Cosine of each of the {len(layers)} layers of {name} to the reference: the lowest mean is "
        f"{cosine(lowest)}, in {worst}, where {gate(bound)} must be reached; "
        f"{n_failed or 'none'} failed"
    )
