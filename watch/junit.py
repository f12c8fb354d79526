"""A run over all targets as JUnit XML: a suite a target, a case for it as a whole and one for each stage it has."""

import re
from collections.abc import Sequence

from runtime_check.junit import suites_as_junit
from runtime_check.safe_text import safe
from runtime_check.verdicts import Case, Suite

from .figures import AGREEMENT, COSINE, ERROR_RATE, KL, LOWEST_COSINE, RMSE
from .history import FAILED, HEADER, UNCHECKED, StageRow, TargetResult

WHOLE_TARGET = "target"  # the case of what is not a stage's, and of all problems together


def as_junit(results: Sequence[TargetResult]) -> bytes:
    """What a run found, as a JUnit XML file; the same bytes for the same results.

    A target that failed is a failure, one that could not be checked an error. The first case has the target's time.
    """
    return suites_as_junit("mimo-check nightly", [_suite(result) for result in results])


def _suite(result: TargetResult) -> Suite:
    problems = [safe(problem) for problem in result.problems]
    if result.state in (FAILED, UNCHECKED):
        problems = problems or ["for a reason that was not recorded"]
    note = "only what stands before its weights was examined" if result.scope == HEADER else ""
    whole = Case(WHOLE_TARGET, problems, note, judged=result.state != UNCHECKED)
    stages = [_stage(row, problems) for row in result.stages]
    return Suite("target", safe(result.target), result.seconds, [whole, *stages])


def _stage(row: StageRow, problems: Sequence[str]) -> Case:
    name, figures = safe(f"{row.file} on {row.sound}: {row.stage}"), _figures(row)
    if row.passed:
        return Case(name, [], figures)
    about = re.compile(rf"(?<!\w){re.escape(safe(row.stage))}(?!\w)")
    found = [problem for problem in problems if about.search(problem)]
    of_its_sound = [problem for problem in found if safe(row.sound) in problem]
    return Case(name, of_its_sound or found or [figures or "failed"])


def _figures(row: StageRow) -> str:
    """What was measured, in one line."""
    measured = (COSINE, LOWEST_COSINE, RMSE, AGREEMENT, KL, ERROR_RATE)
    found = {metric: metric.of(row) for metric in measured}
    return ", ".join(f"{metric.name} {metric.write(value)}" for metric, value in found.items() if value is not None)
