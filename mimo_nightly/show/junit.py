"""A run over all targets as JUnit XML: a suite per target, with a case for it and one per stage."""

from collections.abc import Sequence
from dataclasses import replace

from mimo_nightly.history import FAILED, HEADER, UNCHECKED, Problem, StageRow, TargetResult
from runtime_check.report.junit import suites_as_junit
from runtime_check.report.safe_text import safe
from runtime_check.report.suites import Case, Suite

from .figures import AGREEMENT, COSINE, ERROR_RATE, KL, LOWEST_COSINE, RMSE

WHOLE_TARGET = "target"  # the case of what is not a stage's, and of all problems together


def as_junit(results: Sequence[TargetResult]) -> bytes:
    """The results of a run as JUnit XML, deterministic.

    A failed target is a failure, one that could not be checked an error. The first case has the target's time.
    """
    return suites_as_junit("mimo-check nightly", [_suite(result) for result in results])


def _suite(result: TargetResult) -> Suite:
    problems = [replace(problem, text=safe(problem.text)) for problem in result.problems]
    if result.state in (FAILED, UNCHECKED) and not problems:
        problems = [Problem("for a reason that was not recorded")]
    note = "only the header was checked" if result.scope == HEADER else ""
    texts = tuple(problem.text for problem in problems)
    whole = Case("", WHOLE_TARGET, texts, note, checked=result.state != UNCHECKED)
    stages = [_stage(row, problems) for row in result.stages]
    return Suite("target", safe(result.target), result.seconds, (whole, *stages))


def _stage(row: StageRow, problems: Sequence[Problem]) -> Case:
    name, figures = safe(f"{row.file} on {row.clip}: {row.stage}"), _figures(row)
    if row.passed:
        return Case(row.role, name, (), figures)
    found = tuple(one.text for one in problems if (one.clip, one.stage) == (row.clip, row.stage))
    return Case(row.role, name, found or (figures or "failed",))


def _figures(row: StageRow) -> str:
    """The measurements of a stage, in one line."""
    measured = (COSINE, LOWEST_COSINE, RMSE, AGREEMENT, KL, ERROR_RATE)
    found = {metric: metric.of(row) for metric in measured}
    return ", ".join(f"{metric.name} {metric.write(value)}" for metric, value in found.items() if value is not None)
