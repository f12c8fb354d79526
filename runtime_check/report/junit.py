"""Reports as JUnit XML, for GitLab, Jenkins and others: a suite per check, a case per gate subject."""

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable, Sequence

from .records import Report
from .safe_text import safe
from .suites import Case, Suite, suites_of


def as_junit(report: Report) -> bytes:
    """The report as JUnit XML, deterministic.

    The time of a check is that of its first case.
    """
    told: Report = safe(report)
    return suites_as_junit(told.command, suites_of(told))


def suites_as_junit(name: str, suites: Sequence[Suite]) -> bytes:
    """Suites of safe texts (safe_text.py) as JUnit XML. What could not be checked is an error, not a failure."""
    root = ET.Element("testsuites", {"name": name, **_counts(suites)})
    for suite, unique in zip(suites, _unique(f"{suite.kind}: {suite.name}" for suite in suites), strict=True):
        _add_suite(root, suite, unique)
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def _unique(names: Iterable[str]) -> list[str]:
    """Number repeated names: readers identify suites and cases by name."""
    seen: Counter[str] = Counter()
    unique = []
    for name in names:
        seen[name] += 1
        unique.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return unique


def _counts(suites: Sequence[Suite]) -> dict[str, str]:
    failed = [case for suite in suites for case in suite.failed]
    return {
        "tests": str(sum(len(suite.cases) for suite in suites)),
        "failures": str(sum(case.checked for case in failed)),
        "errors": str(sum(not case.checked for case in failed)),
        "skipped": "0",
        "time": f"{sum(suite.seconds for suite in suites):.3f}",
    }


def _add_suite(root: ET.Element, suite: Suite, name: str) -> None:
    element = ET.SubElement(root, "testsuite", {"name": name, **_counts([suite])})
    classname = name.replace(".", "_").replace(": ", ".", 1)  # readers take what is before the last dot for a package
    for number, (case, unique) in enumerate(zip(suite.cases, _unique(case.name for case in suite.cases), strict=True)):
        seconds = suite.seconds if number == 0 else 0.0
        _add_case(element, case, name=unique, classname=classname, time=f"{seconds:.3f}")


def _add_case(suite: ET.Element, case: Case, **attributes: str) -> None:
    element = ET.SubElement(suite, "testcase", attributes)
    if case.problems:
        tag, kind = ("failure", "gate") if case.checked else ("error", "unchecked")
        failure = ET.SubElement(element, tag, type=kind, message=case.summary)
        failure.text = "\n".join(case.problems)
    if case.note:
        ET.SubElement(element, "system-out").text = case.note
