"""The plots that lie beside a model card: the cosine of each layer, an SVG file for each speech LM."""

from collections.abc import Sequence
from pathlib import PurePath
from typing import NamedTuple

from runtime_check.activations import is_layer
from runtime_check.page import PALETTE
from runtime_check.page_numbers import cosine, gate
from runtime_check.page_parts import NEARER, cosine_series
from runtime_check.plots import COSINE, as_file, over_positions
from runtime_check.verdicts import Report, file_name

from .card_parts import LM, File

# For a picture that nothing else gives a style: it has a ground of its own, since a site may be dark where the reader's
# system is not.
STYLE = (
    PALETTE.read_text(encoding="utf-8")
    + """
.ground { fill: var(--paper); }
text { font: 10.5px system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif;
  fill: var(--quiet); font-variant-numeric: tabular-nums; }
.name, .legend { fill: var(--ink); } .end { text-anchor: end; } .middle { text-anchor: middle; }
path { fill: none; } .grid { stroke: var(--hair); stroke-width: .8; }
.join { stroke-width: 1.3; stroke-linejoin: round; }
.join.mean, .gate.mean { stroke: var(--mean); } .join.worst, .gate.worst { stroke: var(--worst); }
.gate { stroke-width: 1.4; stroke-dasharray: 4 2.5; } .gate.worst { stroke-dasharray: 1.6 1.8; }
.mean:is(.mark, .key) { fill: var(--mean); } .worst:is(.mark, .key) { fill: var(--worst); }
.failed { stroke: var(--fail); stroke-width: 1.7; }
"""
)


LONGEST = 34  # characters of a file's name in a title


class LayerPlot(NamedTuple):
    """`file` is the name that the card has it under, `alt` what it shows in words."""

    file: str
    alt: str
    svg: str


def layer_plots(files: Sequence[File]) -> list[LayerPlot]:
    """A plot for each speech LM whose layers were compared."""
    plots = []
    for file in files:
        stages = file.shown.get("stages") or [] if file.role == LM else []
        layers = [stage for stage in stages if is_layer(stage["name"])]
        if any(layer["cos_mean"] is not None for layer in layers):
            stem = PurePath(file_name(file.name)).stem
            title = f"{stem if len(stem) <= LONGEST else stem[:LONGEST] + '…'}: cosine of each layer"
            svg = over_positions(title, NEARER, "layer", COSINE, cosine_series(layers))
            plots.append(LayerPlot(f"layers-{stem}.svg", _alt(file.name, layers), as_file(svg, title, STYLE)))
    return plots


def _alt(name: str, layers: Sequence[Report]) -> str:
    """The numbers that matter: where the mean is lowest, and the gate there; how many layers failed."""
    worst = min((layer for layer in layers if layer["cos_mean"] is not None), key=lambda layer: layer["cos_mean"])
    n_failed = sum(not layer["passed"] for layer in layers)
    return (
        f"Cosine of each of the {len(layers)} layers of {name} to the reference: the lowest mean is "
        f"{cosine(worst['cos_mean'])}, in {worst['name']}, where {gate(worst['gate_mean'])} must be reached; "
        f"{n_failed or 'none'} failed"
    )
