"""The plots of an agreement, for page and card: size against the error rate, and against KL divergence."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from mimo_convert.numbers_text import NOTHING, brief, percent, size
from runtime_check.report.page.plots import ERROR
from runtime_check.run.compare.fidelity import Estimate

from ...records import Agreement
from ..views import FileView, between, companions_text, rate_name, rate_of, short_names
from .pareto import SHARE, Dot, height_of, pareto

HINT = "Further left is smaller, further down nearer to {}; both scales are logarithmic."


class ParetoPlot(NamedTuple):
    """A plot with its title and hint; `key` names what it is of, `notes` say in words what each mark shows; `height` is
    in units."""

    key: str
    title: str
    hint: str
    notes: Sequence[str]
    svg: Markup
    height: float


def plots_of(agreement: Agreement, files: Sequence[FileView]) -> list[ParetoPlot]:
    """The plots of what is known of two files or more."""
    name = rate_name(agreement)
    title, beside = (name, "the texts") if agreement.has_texts else (f"{name} to the baseline", "the baseline")
    rates = dots_of(files, [rate_of(agreement, file.overall) for file in files], agreement.front_wer, percent)
    kls = dots_of(files, [file.overall.kl for file in files], agreement.front_kl, brief)
    across = companions_text(agreement)
    found = [("rate", title, beside, SHARE, rates), ("kl", "KL divergence", "the reference", ERROR, kls)]
    return [
        ParetoPlot(
            key, f"Size and {what}", HINT.format(nearer), [dot.note for dot in dots],
            pareto(f"Size and {what}", HINT.format(nearer), across, measure, dots), height_of(dots),
        )
        for key, what, nearer, measure, dots in found
        if len(dots) > 1
    ]  # fmt: skip


def dots_of(
    files: Sequence[FileView], found: Sequence[Estimate | None], front: Sequence[str], write: Callable[[Any], str]
) -> list[Dot]:
    """The files whose error is known, with notes for their marks."""
    return [
        Dot(
            short, file.data.all_bytes, one,
            f"{file.title}, {size(file.data.all_bytes)}: {write(one.value)} ({between(one, write) or NOTHING})",
            file.data.sha256 in front, file.is_baseline,
        )
        for short, file, one in zip(short_names(files), files, found, strict=True)
        if one is not None and one.value is not None
    ]  # fmt: skip
