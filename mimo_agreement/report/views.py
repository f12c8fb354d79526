"""Files and columns as table, page and card show them."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mimo_convert.numbers_text import NOTHING, brief, count, percent, size, times
from runtime_check.report.records import file_name
from runtime_check.run.compare.fidelity import Estimate
from runtime_check.text.words import WordErrors

from ..records import ALL_CONDITIONS, CHARACTERS, Agreement, ModelFiles, Row

SHORT_HASH = 8  # characters of a SHA-256 behind names that are equal
MINUS = "−"


@dataclass(frozen=True)
class FileView:
    """A file with its rows by condition. `name` is unique; `fronts` names what it is on the front of."""

    data: ModelFiles
    name: str
    is_baseline: bool
    fronts: tuple[str, ...]
    rows: Mapping[str, Row]

    @property
    def overall(self) -> Row:
        """Its row over all conditions."""
        return self.rows[ALL_CONDITIONS]

    @property
    def title(self) -> str:
        """Its name, and whether it is the baseline."""
        return f"{self.name} (baseline)" if self.is_baseline else self.name


class Column(NamedTuple):
    """A column of numbers: its heading, the text of a cell, and that of its interval, empty without one."""

    name: str
    value: Callable[[Row], str]
    interval: Callable[[Row], str] = lambda row: ""


def files_of(agreement: Agreement) -> list[FileView]:
    """Every file, the smallest first."""
    names = names_of(agreement.files)
    fronts = {rate_name(agreement): agreement.front_wer, "KL": agreement.front_kl}
    rows: dict[str, dict[str, Row]] = {file.sha256: {} for file in agreement.files}
    for row in agreement.rows:
        rows[row.file][row.condition] = row
    found = [
        FileView(
            file, names[file.sha256], file.sha256 == agreement.baseline,
            tuple(name for name, front in fronts.items() if file.sha256 in front), rows[file.sha256],
        )
        for file in agreement.files
    ]  # fmt: skip
    return sorted(found, key=lambda file: (file.data.all_bytes, file.name))


def names_of(files: Sequence[ModelFiles]) -> dict[str, str]:
    """The name of each file by its SHA-256, without folders; with a part of the hash where two are called the same."""
    often = Counter(file_name(file.file) for file in files)
    return {
        file.sha256: name if often[name := file_name(file.file)] == 1 else f"{name} {file.sha256[:SHORT_HASH]}…"
        for file in files
    }


def short_names(files: Sequence[FileView]) -> list[str]:
    """Names for plots: types with their mix; names without their ending where types are not unique."""
    often = Counter(file.data.label for file in files)
    return [
        file.data.label if file.data.label and often[file.data.label] == 1 else file.name.removesuffix(".gguf")
        for file in files
    ]


def companions_text(agreement: Agreement) -> str:
    """What sizes are of."""
    return "size with companion" if any(file.companion for file in agreement.files) else "size"


def conditions_of(agreement: Agreement) -> tuple[str, ...]:
    """The conditions that a report shows beside all: none if there is only one."""
    return agreement.conditions if len(agreement.conditions) > 1 else ()


# ── columns ──────────────────────────────────────────────────────────────────────────────────────────────────────


def columns_of(agreement: Agreement) -> list[Column]:
    """The columns that there are numbers for. Without texts, errors are those beside the baseline's transcripts."""
    name = rate_name(agreement)
    beside = Column(f"{name} to baseline", lambda row: percent(row.disagreement.value), _shares("disagreement"))
    errors = Column("sub / del / ins", lambda row: errors_text(errors_of(agreement, row)))
    columns = [beside, errors]
    if agreement.has_texts:
        columns = [
            Column(name, lambda row: percent(row.wer.value), _shares("wer")),
            errors,
            Column(
                "difference, points",
                lambda row: _difference(agreement, row),
                lambda row: _difference_interval(agreement, row),
            ),
            beside,
        ]
    if any(row.kl for row in agreement.rows):
        columns.append(Column("KL", lambda row: brief(row.kl.value if row.kl else None), _kl_interval))
    columns.append(Column("loops / empty / cut", lambda row: f"{row.loops} / {row.empty} / {row.over_long}"))
    return columns


def machine_columns_of(agreement: Agreement) -> list[Column]:
    """The columns of what runs took, which depends on the machine."""
    columns = []
    if any(row.real_time is not None for row in agreement.rows):
        columns.append(Column("real time", lambda row: times(row.real_time)))
    if any(row.peak_memory for row in agreement.rows):
        columns.append(Column("memory", lambda row: size(row.peak_memory or None)))
    return columns


def rate_name(agreement: Agreement) -> str:
    """What the error rate is called: WER or CER."""
    return "CER" if agreement.unit == CHARACTERS else "WER"


def rate_of(agreement: Agreement, row: Row) -> Estimate:
    """The error rate that is shown first: beside the texts, or the baseline's transcripts if there are none."""
    return row.wer if agreement.has_texts else row.disagreement


def errors_of(agreement: Agreement, row: Row) -> WordErrors:
    """The errors of `rate_of`."""
    return row.errors if agreement.has_texts else row.beside_baseline


def errors_text(errors: WordErrors) -> str:
    """Substitutions, deletions and insertions as text."""
    return " / ".join(map(count, (errors.substitutions, errors.deletions, errors.insertions)))


def points(value: float | None) -> str:
    """A difference of two shares in points, with its sign."""
    return NOTHING if value is None else f"{100 * value:+.2f}".replace("-", MINUS)


def between(interval: Estimate, write: Callable[[float | None], str]) -> str:
    """An interval as text, empty if it is not known."""
    if interval.low is None or interval.high is None:
        return ""
    return f"{write(interval.low)} … {write(interval.high)}"


def between_shares(interval: Estimate) -> str:
    """An interval of a share as text, empty if it is not known: `4.20 … 6.01%`."""
    return between(interval, percent).replace("%", "", 1)


def verdict_on(row: Row) -> str:
    """What is known of a difference: `worse` or `better`, empty if nothing is."""
    return "worse" if row.is_worse else "better" if row.is_better else ""


def _shares(name: str) -> Callable[[Row], str]:
    return lambda row: between_shares(getattr(row, name))


def _difference(agreement: Agreement, row: Row) -> str:
    if row.file == agreement.baseline:
        return "baseline"
    return " ".join(filter(None, (points(row.difference.value), verdict_on(row))))


def _difference_interval(agreement: Agreement, row: Row) -> str:
    return "" if row.file == agreement.baseline else between(row.difference, points)


def _kl_interval(row: Row) -> str:
    return between(row.kl, brief) if row.kl else ""


# ── what it is about ─────────────────────────────────────────────────────────────────────────────────────────────


def about(agreement: Agreement) -> str:
    """What was compared on what: files, clips and minutes, sources, conditions, words."""
    overall = next(row for row in agreement.rows if row.condition == ALL_CONDITIONS)
    clips, minutes = len(agreement.clips), sum(clip.seconds for clip in agreement.clips) / 60
    sources = len({clip.source or clip.sha256 for clip in agreement.clips})
    of_sources = f" of {_many(sources, 'recording or speaker', 'recordings or speakers')}" if sources < clips else ""
    words = errors_of(agreement, overall).words
    texts = "" if agreement.has_texts else " of the baseline’s transcripts, as the texts are not known"
    return (
        f"{_many(len(agreement.files), 'file')} on {_many(clips, 'clip')}{of_sources}, {minutes:,.1f} minutes, "
        f"in {_many(len(agreement.conditions), 'condition')}: {words:,} {agreement.unit}{texts}"
    )


def _many(n: int, one: str, several: str = "") -> str:
    return f"{n:,} {one if n == 1 else several or f'{one}s'}"
