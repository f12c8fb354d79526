"""The report as one HTML page: no script, no request, nothing but what the JSON report holds (docs/json.md).

The page is page.html.j2, in the frame of all pages, base.html.j2. Here is what stands at its top; page_parts.py draws
checks and tensors, page_numbers.py writes numbers.
"""

import math
from functools import cache
from pathlib import Path
from typing import NamedTuple

import jinja2

from .page_numbers import FILTERS, cosine, count, rate, size, small
from .page_parts import CheckView, TensorsView, verdict_word
from .safe_text import safe
from .verdicts import Report, Suite, file_name, verdicts

PALETTE = Path(__file__).with_name("palette.css")  # the colours of pages and plots
KINDS = {"static": "Rules of", "tensors": "Tensors of", "check": "", "report": ""}  # what a suite is, before its name
REASONS = 20  # of one suite, that are shown at once
NOTES = {"fallbacks": "of another type", "kept_f32": "kept in F32", "left_out": "left out"}  # tensors of a conversion


class Figure(NamedTuple):
    """A number that says most of how a file is."""

    label: str
    value: str
    note: str = ""


class Section(NamedTuple):
    anchor: str
    title: str


class Reason(NamedTuple):
    gate: str
    problem: str


def as_html(report: Report) -> str:
    """The report (docs/json.md) as a whole page; the same text for the same report."""
    report = safe(report)
    suites = verdicts(report)
    files = files_of(report)
    checks = [CheckView(number, check) for number, check in enumerate(report.get("checks") or [], 1)]
    return template().render(
        report=report,
        title=title_of(files),
        verdict=verdict_word(report.get("passed")),
        gates=sum(len(suite.cases) for suite in suites),
        failed=[suite for suite in suites if suite.failed],
        n_failed=sum(len(suite.failed) for suite in suites),
        figures=figures_of(report, suites, files),
        sections=sections_of(report, checks),
        files=files,
        checks=checks,
        tensors=[TensorsView(entry) for entry in report.get("tensors") or []],
        KINDS=KINDS,
        REASONS=REASONS,
    )


@cache
def template() -> jinja2.Template:
    found = environment()
    found.filters |= {"file_name": file_name, "verdict": verdict_word, "reasons": reasons_of, "notes": notes_of}
    return found.get_template("page.html.j2")


def environment(*folders: Path) -> jinja2.Environment:
    """For templates in these folders, which may build upon base.html.j2 and macros.html.j2 here."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, Path(__file__).parent]), autoescape=True,
        undefined=jinja2.ChainableUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    made.filters |= FILTERS
    return made


def files_of(report: Report) -> list[Report]:
    """Every GGUF file once: those that were run as the checks know them, others by what was converted or examined."""
    run = [check.get(role) for check in report.get("checks") or [] for role in ("speech_lm", "audio_tokenizer")]
    others = [entry for part in ("conversions", "static", "tensors") for entry in report.get(part) or []]
    files: dict[tuple[str, str], Report] = {(file_name(f["file"]), f["sha256"]): f for f in run if f}
    known = {name for name, _ in files}
    for file in others:
        name = file_name(file["file"])
        if name not in known:
            files[name, ""] = files.get((name, ""), {}) | file
    return list(files.values())


def title_of(files: list[Report]) -> str:
    names = [file_name(file["file"]) for file in files]
    if len(names) <= 2:
        return " and ".join(names) or "no files"
    return f"{names[0]} and {len(names) - 1} other files"


def figures_of(report: Report, suites: list[Suite], files: list[Report]) -> list[Figure]:
    """What a reader wants to know first, as far as it was measured; of several checks the worst."""
    checks = report.get("checks") or []
    gates = [case for suite in suites for case in suite.cases]
    reached = sum(not case.problems for case in gates)
    figures = [Figure("gates reached", f"{count(reached)} of {count(len(gates))}")] if gates else []
    rates = [check["word_error_rate"] for check in checks if check.get("word_error_rate") is not None]
    if rates:
        words = report.get("words") or {}
        note = f"of {count(words['words'])} words" if words else ""
        figures.append(Figure("word error rate", rate(words.get("word_error_rate", max(rates))), note))
    stages = [stage for check in checks for stage in check.get("stages") or []]
    if stages:
        worst = min(stages, key=lambda stage: stage["cos_min"])
        figures.append(Figure("lowest cosine", cosine(worst["cos_min"]), worst["name"]))
    divergences = [check["steps"]["kl_mean"] for check in checks if check.get("steps")]
    if divergences:
        worst_of_all = max(divergences, key=lambda kl: math.inf if kl is None else kl)  # None is no number
        figures.append(Figure("KL divergence", small(worst_of_all), "nats a step"))
    n_bytes = sum(file.get("bytes") or 0 for file in files)
    if n_bytes:
        figures.append(Figure("size", size(n_bytes), f"{len(files)} files" if len(files) > 1 else ""))
    return figures


def sections_of(report: Report, checks: list[CheckView]) -> list[Section]:
    """What the page has, for the links at its top; many checks are reached from their table."""
    several = [Section("checks", "Checks")] if len(checks) > 1 else []
    parts = ("tensors", "Tensors"), ("static", "Rules"), ("conversions", "Conversion")
    return [
        Section("files", "Files"),
        *(several or [Section(check.anchor, check.name) for check in checks]),
        *(Section(part, title) for part, title in parts if report.get(part)),
        Section("made", "How this was made"),
    ]


def reasons_of(suite: Suite) -> list[Reason]:
    return [Reason(case.name, case.summary) for case in suite.failed]


def notes_of(conversion: Report) -> list[tuple[str, dict[str, str]]]:
    """Title → tensor → why, of what a conversion did otherwise than it was asked."""
    notes = []
    for part, what in NOTES.items():
        found = conversion.get(part) or {}
        by_tensor = found if isinstance(found, dict) else dict.fromkeys(found, "a weight is beyond F16's range")
        if by_tensor:
            notes.append((f"{len(by_tensor)} tensor{'s' * (len(by_tensor) > 1)} {what}", by_tensor))
    return notes
