"""Group the gates of a report into suites (a check, a file's lint, a tensor comparison) and cases (a stage, rule or
tensor), for JUnit XML, page and card."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from runtime_check.gate import Gate, unexplained
from runtime_check.run.records import Check

from .records import Report, check_name, file_name
from .speech import speech_text, words_of

LINT, TENSORS, CHECK, REPORT = "lint", "tensors", "check", "report"  # kinds of suites


@dataclass(frozen=True)
class Case:
    """The gates of one stage, rule or tensor. `note` is shown in any case; `checked`: the problems are failures, not
    reasons why it could not be checked; `has_gates`: it is not only a note."""

    role: str
    name: str
    problems: tuple[str, ...] = ()
    note: str = ""
    checked: bool = True
    has_gates: bool = True

    @property
    def summary(self) -> str:
        """The first problem, and the number of others."""
        more = f" (and {len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
        return self.problems[0] + more if self.problems else ""


@dataclass(frozen=True)
class Suite:
    """The cases of one check, lint or tensor comparison."""

    kind: str
    name: str
    seconds: float
    cases: tuple[Case, ...]

    @property
    def failed(self) -> list[Case]:
        """The cases with problems."""
        return [case for case in self.cases if case.problems]

    @property
    def n_gates(self) -> int:
        """The number of cases with gates."""
        return sum(case.has_gates for case in self.cases)


def suites_of(report: Report) -> list[Suite]:
    """All suites of a report: lint, tensors, checks; with a failed one if the report failed without a failed gate."""
    suites = [
        *(Suite(LINT, file_name(one.file), one.seconds, cases_of(one.gates)) for one in report.lint),
        *(Suite(TENSORS, file_name(one.file), one.seconds, cases_of(one.gates)) for one in report.tensors),
        *map(check_suite, report.checks),
    ]
    if report.passed is False and not any(suite.failed for suite in suites):
        suites.append(Suite(REPORT, REPORT, 0.0, cases_of([unexplained()])))
    return suites


def check_suite(check: Check) -> Suite:
    """The gates of one check, in order; the first case names what was run."""
    seconds = sum(value for name, value in check.timings.items() if name.endswith("_s"))
    done = "encoded" if check.transcript is None else words_of(check).done
    ran = Case("", done, note=_transcript_note(check), has_gates=False)
    return Suite(CHECK, check_name(check), seconds, (ran, *cases_of(check.gates)))


def cases_of(gates: Iterable[Gate]) -> tuple[Case, ...]:
    """A case per subject; comparisons that cannot fail become its note."""
    return tuple(_case(list(group)) for _, group in groupby(gates, key=lambda gate: gate.subject))


def _case(gates: list[Gate]) -> Case:
    problems = tuple(line for gate in gates for line in gate.problems)
    notes = [gate.text for gate in gates if gate.passed and gate.bound is None and not gate.value]
    return Case(gates[0].role, gates[0].stage, problems, "\n".join(notes))


def _transcript_note(check: Check) -> str:
    rate = f"\nword error rate {check.words.rate or 0:.1%}" if check.words else ""
    how = f"\n{speech_text(check.speech)}" if check.speech else ""
    return (check.transcript or "") + rate + how
