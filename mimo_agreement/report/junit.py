"""Agreement as JUnit XML: a suite a file, a case a condition.

A pair without an answer is an error of its case. Nothing fails unless a tolerance is given: an error rate is a
measurement, and how much of one is too much is not for the report to say.
"""

from collections.abc import Iterator

from mimo_convert.numbers_text import brief, percent
from runtime_check.report.junit import suites_as_junit
from runtime_check.report.safe_text import safe
from runtime_check.report.suites import Case, Suite

from ..records import ALL_CONDITIONS, Agreement, Row
from .views import FileView, between, between_shares, errors_of, errors_text, files_of, points, rate_name, rate_of

COMMAND = "mimo-check agreement"
KIND = "agreement"


def as_junit(agreement: Agreement, tolerance: float | None = None) -> bytes:
    """The agreement as JUnit XML, deterministic.

    With a `tolerance`, in points of the error rate, a file fails in each condition, and over all, in which the upper
    end of the interval of its difference from the baseline is more, or not known.
    """
    told: Agreement = safe(agreement)
    return suites_as_junit(COMMAND, [_suite(told, file, tolerance) for file in files_of(told)])


def exceeded(row: Row, tolerance: float) -> str:
    """Why a row is beyond a tolerance in points, empty if it is not."""
    if row.difference.high is not None:
        if 100 * row.difference.high <= tolerance:
            return ""
        return (
            f"{points(row.difference.value)} points from the baseline, at most {points(row.difference.high)} by the "
            f"95 % interval; expected at most {tolerance:+g}"
        )
    return f"the difference from the baseline has no interval; expected at most {tolerance:+g} points"


def _suite(agreement: Agreement, file: FileView, tolerance: float | None) -> Suite:
    seconds = (file.overall.real_time or 0.0) * file.overall.seconds
    return Suite(KIND, file.name, seconds, tuple(_cases(agreement, file, tolerance)))


def _cases(agreement: Agreement, file: FileView, tolerance: float | None) -> Iterator[Case]:
    for condition in (ALL_CONDITIONS, *agreement.conditions):
        row = file.rows[condition]
        unanswered = [
            f"{one.clip}: no answer after {one.tries} tries: {one.reason}"
            for one in agreement.quarantined
            if one.file == file.data.sha256 and one.condition == condition
        ]
        beyond = "" if tolerance is None or file.is_baseline else exceeded(row, tolerance)
        problems = tuple(filter(None, (*unanswered, beyond)))
        yield Case("", condition, problems, note_of(agreement, row), checked=not unanswered)


def note_of(agreement: Agreement, row: Row) -> str:
    """The numbers of a row, in lines."""
    name, rate, errors = rate_name(agreement), rate_of(agreement, row), errors_of(agreement, row)
    lines = [
        f"{row.clips} clips, {errors.words} {agreement.unit}",
        f"{name}{'' if agreement.has_texts else ' to baseline'} {percent(rate.value)}{_within(between_shares(rate))}"
        f", sub / del / ins {errors_text(errors)}",
        f"difference from the baseline {points(row.difference.value)}{_within(between(row.difference, points))} points",
    ]
    if row.kl:
        lines.append(f"KL {brief(row.kl.value)}{_within(between(row.kl, brief))}")
    lines.append(f"loops / empty / cut {row.loops} / {row.empty} / {row.over_long}")
    return "\n".join(lines)


def _within(interval: str) -> str:
    return f" ({interval})" if interval else ""
