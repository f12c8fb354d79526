"""Agreement of a model card: the files that are published, over all conditions, and their Pareto plots. No audio."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import NamedTuple

from mimo_agreement.records import Agreement
from mimo_agreement.report.page.plots import ParetoPlot, plots_of
from mimo_agreement.report.views import Column, FileView, about, columns_of, files_of, rate_name
from quantize.errors import InputError
from runtime_check.report.page.plots import as_file
from runtime_check.report.records import file_name

from ..upload.changes import LocalFile
from .plots import STYLE, Plot

NAMES = ("agreement-rate.svg", "agreement-kl.svg")  # of its plots
OPTION = "--agreement"
AGAIN = f"leave out {OPTION}, or make it again with mimo-check agreement"


class AgreementView(NamedTuple):
    """The agreement as the card shows it."""

    data: Agreement
    about: str
    rate_name: str
    files: Sequence[FileView]
    columns: Sequence[Column]
    plots: Sequence[Plot]


def view_of(agreement: Agreement) -> AgreementView:
    """The view of an agreement that is about published files."""
    files = files_of(agreement)
    plots = [card_plot(plot) for plot in plots_of(agreement, files)]
    return AgreementView(agreement, about(agreement), rate_name(agreement), files, columns_of(agreement), plots)


def card_plot(plot: ParetoPlot) -> Plot:
    """A plot as a picture beside the card."""
    svg = as_file(plot.svg, plot.title, STYLE, plot.height)
    return Plot(plot.key, f"agreement-{plot.key}.svg", f"{plot.title}: {'; '.join(plot.notes)}", svg)


def check_agreement(agreement: Agreement, where: object, files: Sequence[LocalFile]) -> None:
    """Raise InputError unless the agreement, of the file `where`, is about each of the files that are published, by
    their hashes, with the companions that are published with them."""
    companions = {one.companion_sha256 for one in agreement.files if one.companion_sha256}
    mains = {one.sha256 for one in agreement.files}
    names = {file_name(name) for one in agreement.files for name in (one.file, one.companion)}
    published = {file.sha256 for file in files}
    for file in files:
        if file.sha256 not in mains | companions:
            what = f"is not the file that {where} is about" if file.name in names else f"was not run for {where}"
            raise InputError(file.path, what, todo=AGAIN)
    for one in agreement.files:
        if one.sha256 in published and one.companion_sha256 and one.companion_sha256 not in published:
            what = f"was run for {where} with another {file_name(one.companion)} than is published"
            raise InputError(file_name(one.file), what, todo=AGAIN)
    if not mains & published:
        raise InputError(where, "is about none of the files that are published", todo=f"leave out {OPTION}")


def only_published(agreement: Agreement, hashes: Collection[str]) -> Agreement:
    """What an agreement says of the files of these hashes, and of the baseline. A verdict or note that names another
    file is left out."""
    kept = {file.sha256 for file in agreement.files} & {*hashes, agreement.baseline}
    others = [file_name(file.file) for file in agreement.files if file.sha256 not in kept]
    names_other = agreement.smallest is not None and agreement.smallest not in kept
    return replace(
        agreement,
        files=tuple(file for file in agreement.files if file.sha256 in kept),
        rows=tuple(row for row in agreement.rows if row.file in kept),
        worst=tuple(one for one in agreement.worst if one.file in kept),
        quarantined=tuple(one for one in agreement.quarantined if one.file in kept),
        front_wer=tuple(sha256 for sha256 in agreement.front_wer if sha256 in kept),
        front_kl=tuple(sha256 for sha256 in agreement.front_kl if sha256 in kept),
        smallest=None if names_other else agreement.smallest,
        verdict="" if names_other else agreement.verdict,
        notes=tuple(note for note in agreement.notes if not any(name in note for name in others)),
    )
