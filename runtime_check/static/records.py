"""The result of a lint, as plain data."""

from dataclasses import dataclass

from runtime_check.gate import LINT, Gate, Subject, no_findings


@dataclass(frozen=True)
class RuleResult:
    """A lint rule: the number of things it checked, and a line per finding."""

    name: str
    checked: int
    findings: tuple[str, ...] = ()


@dataclass(frozen=True)
class LintResult:
    """Every rule that was applied to a file, with a gate each."""

    file: str
    bytes: int
    seconds: float
    passed: bool
    rules: tuple[RuleResult, ...]
    gates: tuple[Gate, ...]


def lint_result(file: str, nbytes: int, seconds: float, role: str, rules: tuple[RuleResult, ...]) -> LintResult:
    """The rules of a file with their gates; `role` is the file's, empty if its family is unknown."""
    gates = tuple(no_findings(Subject(role, rule.name, LINT), rule.findings) for rule in rules)
    return LintResult(file, nbytes, seconds, all(gate.passed for gate in gates), rules, gates)
