"""The types of files that were made for a given size, as page and card show them: plot, table, predicted and measured
KL divergence."""

from collections.abc import Sequence
from typing import NamedTuple

from mimo_convert.plan.describe import types_text, use_name
from mimo_convert.plan.mix import ChosenTypes
from runtime_check.report.records import Conversion, Report, file_name, files_run
from runtime_check.run.records import Check, FileFacts

from .parts import Plot
from .type_plot import over_layers

TITLE, HINT = "Types of each layer", "A cell is a layer; the darker, the more bits per weight."


class UseRow(NamedTuple):
    """A use: its name, its number of tensors, and their types."""

    name: str
    n: int
    types: str


class ChosenView(NamedTuple):
    """A file of a given size: `predicted` and `measured` KL divergence in nats a token (None: not known)."""

    file: str
    target: str
    predicted: float | None
    measured: float | None
    rows: list[UseRow]
    plot: Plot | None


def chosen_of(report: Report) -> list[ChosenView]:
    """Every file of a given size once: those that were run, then those that were converted."""
    found: dict[str, ChosenTypes] = {}
    files: list[FileFacts | Conversion] = [*files_run(report.checks), *report.conversions]
    for one in files:
        if one.chosen:
            found.setdefault(file_name(one.file), one.chosen)
    checks = {name: [check for check in report.checks if file_name(check.main.file) == name] for name in found}
    return [chosen_view(name, chosen, checks[name]) for name, chosen in found.items()]


def chosen_view(name: str, chosen: ChosenTypes, checks: Sequence[Check]) -> ChosenView:
    """A file with the checks that it is the main file of."""
    rows = [UseRow(use_name(use), len(use.types), types_text(use)) for use in chosen.uses]
    layered = any(use.stack for use in chosen.uses)
    svg = over_layers(f"{TITLE}, {name}", HINT, chosen.uses) if layered else None
    plot = Plot(TITLE, HINT, svg) if svg else None
    return ChosenView(name, chosen.target, chosen.predicted_kl, measured_kl(checks), rows, plot)


def measured_kl(checks: Sequence[Check]) -> float | None:
    """The mean KL divergence over all decoding steps of some checks; None if it was not measured in each."""
    steps = [check.steps for check in checks if check.steps]
    if not steps or any(one.kl_mean is None for one in steps):
        return None
    tokens = sum(one.tokens for one in steps)
    return sum((one.kl_mean or 0.0) * one.tokens for one in steps) / tokens if tokens else None
