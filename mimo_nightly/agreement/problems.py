"""What is wrong with the agreement of a target, in sentences with the numbers."""

from collections.abc import Iterator

from mimo_agreement.records import ALL_CONDITIONS, Agreement, Row
from mimo_agreement.report.junit import exceeded
from mimo_agreement.report.views import FileView, files_of, rate_name
from mimo_convert.numbers_text import percent

from .records import AgreementSet

SHORT_HASH = 12  # characters


def beyond_tolerance(agreement: Agreement, wanted: AgreementSet) -> Iterator[str]:
    """Yield a sentence for each condition, and for all of several, in which the file is beyond the tolerance."""
    [baseline] = [view for view in files_of(agreement) if view.is_baseline]
    for row in _rows(agreement):
        if row.difference.high is not None and (why := exceeded(row, wanted.tolerance)):
            yield f"agreement, {row.condition}: {why}; {_rates(agreement, row, baseline)}"


def not_measured(agreement: Agreement, wanted: AgreementSet) -> Iterator[str]:
    """Yield a sentence for each clip without an answer, and for each condition whose clips are too few for an interval:
    they say nothing of the file."""
    names = {view.data.sha256: view.name for view in files_of(agreement)}
    for one in agreement.quarantined:
        yield f"agreement, {one.condition}: {names[one.file]} has no answer to {one.clip}: {one.reason}"
    for row in _rows(agreement):
        if row.difference.high is None:
            yield f"agreement, {row.condition}: {exceeded(row, wanted.tolerance)}; clips: {row.clips}"


def _rows(agreement: Agreement) -> Iterator[Row]:
    """The rows of files that are not the baseline, in each condition, and over all of several."""
    several = [ALL_CONDITIONS] if len(agreement.conditions) > 1 else []
    for view in files_of(agreement):
        yield from (view.rows[one] for one in (*agreement.conditions, *several) if not view.is_baseline)


def _rates(agreement: Agreement, row: Row, baseline: FileView) -> str:
    """The error rate of a row beside the baseline's."""
    name = f"{baseline.name} (sha256 {baseline.data.sha256[:SHORT_HASH]}…)"
    if not agreement.has_texts:
        return f"{rate_name(agreement)} {percent(row.disagreement.value)} to {name} on {row.clips} clips"
    of_baseline = percent(baseline.rows[row.condition].wer.value)
    return f"{rate_name(agreement)} {percent(row.wer.value)} on {row.clips} clips, of {name} {of_baseline}"
