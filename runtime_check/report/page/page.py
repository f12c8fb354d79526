"""The report as one HTML page: no script, no request, only the contents of the JSON report (docs/json.md) and the waves
that were decoded.

The page is page.html.j2 within base.html.j2. This module renders the top; parts.py checks and tensors, plots.py plots;
numbers are formatted by mimo_convert/numbers_text.py.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import jinja2

from mimo_convert.model.imatrix_facts import imatrix_words
from mimo_convert.numbers_text import FILTERS, brief, cosine, count, decimals, rate, size, small
from mimo_convert.plan.feedback import feedback_of_text, methods_words
from runtime_check.audio.wave import Sound
from runtime_check.report.records import Conversion, Report, file_name, files_run
from runtime_check.report.safe_text import safe
from runtime_check.report.suites import LINT, TENSORS, Suite, suites_of
from runtime_check.run.compare.fidelity import DRAWS
from runtime_check.run.records import FileFacts

from .chosen import chosen_of
from .parts import CheckView, TensorsView, verdict_word
from .sounds import MOST_BYTES, SoundView, views

PALETTE = Path(__file__).with_name("palette.css")  # the colours of pages and plots
NO_SOUNDS: Mapping[int, Sequence[Sound]] = {}
KINDS = {LINT: "Lint of", TENSORS: "Tensors of", "check": ""}  # what a suite is, before its name
REASONS = 20  # of one suite, that are shown at once


class Figure(NamedTuple):
    """A key number of a file."""

    label: str
    value: str
    note: str = ""


class Section(NamedTuple):
    """A section of the page."""

    anchor: str
    title: str


class Reason(NamedTuple):
    """A failed gate and its problem."""

    gate: str
    problem: str


def as_html(report: Report, sounds: Mapping[int, Sequence[Sound]] = NO_SOUNDS) -> str:
    """The report as an HTML page, deterministic, with the `sounds` of checks, by their number from 0, as far as there
    is room for them."""
    told: Report = safe(report)
    suites = suites_of(told)
    files = files_of(told)
    heard = sounds_by_check(sounds)
    checks = [CheckView(number, check, heard.get(number - 1, ())) for number, check in enumerate(told.checks, 1)]
    return template().render(
        report=told,
        title=title_of(files),
        verdict=verdict_word(told.passed),
        gates=sum(suite.n_gates for suite in suites),
        failed=[suite for suite in suites if suite.failed],
        n_failed=sum(len(suite.failed) for suite in suites),
        figures=figures_of(told, suites, files),
        sections=sections_of(told, checks),
        files=files,
        chosen=chosen_of(told),
        checks=checks,
        tensors=list(map(TensorsView, told.tensors)),
        KINDS=KINDS,
        REASONS=REASONS,
        DRAWS=DRAWS,
        brief=brief,
        rate=rate,
        decimals=decimals,
    )


def sounds_by_check(sounds: Mapping[int, Sequence[Sound]]) -> dict[int, list[SoundView]]:
    """The views of the sounds of each check; those of the first ones have data."""
    found, room = dict[int, list[SoundView]](), MOST_BYTES
    for number, heard in sounds.items():
        found[number], room = views(heard, room)
    return found


@cache
def template() -> jinja2.Template:
    """The page's template."""
    found = environment()
    found.filters |= {"file_name": file_name, "verdict": verdict_word, "reasons": reasons_of, "notes": notes_of}
    return found.get_template("page.html.j2")


def environment(*folders: Path) -> jinja2.Environment:
    """A Jinja environment for templates in `folders`, which may extend base.html.j2 and macros.html.j2."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, Path(__file__).parent]), autoescape=True,
        undefined=jinja2.ChainableUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    made.filters |= FILTERS
    return made


class FileView(NamedTuple):
    """A GGUF file as far as it is known; None or empty is unknown."""

    file: str
    bytes: int
    label: str = ""
    layout: str = ""
    bits_per_weight: float | None = None
    quantizer: str = ""
    tensor_types: Mapping[str, int] | None = None
    sha256: str = ""
    imatrix: str = ""
    methods: Mapping[str, str] = {}

    @property
    def methods_words(self) -> str:
        """How many matrices each method was kept for."""
        return methods_words(self.methods)


def run_view(facts: FileFacts) -> FileView:
    """A file that was run, with the importance matrix that it was made with, and the method of each matrix."""
    told = facts.provenance
    return FileView(
        facts.file, facts.bytes, facts.label, facts.layout, facts.bits_per_weight, facts.quantizer, facts.tensor_types,
        facts.sha256, imatrix_words(told), feedback_of_text(told.feedback),
    )  # fmt: skip


def files_of(report: Report) -> list[FileView]:
    """Every GGUF file once: files that were run, then files that were converted, linted or compared."""
    files = [run_view(facts) for facts in files_run(report.checks)]
    known = {file_name(file.file) for file in files}
    converted = [
        FileView(one.file, one.bytes, one.label, one.layout, one.bits_per_weight, one.quantizer, one.tensor_types)
        for one in report.conversions
    ]
    linted = [FileView(one.file, one.bytes) for one in report.lint]
    compared = [FileView(one.file, 0) for one in report.tensors]
    others: dict[str, FileView] = {}
    for file in (*converted, *linted, *compared):
        others.setdefault(file_name(file.file), file)
    return [*files, *(file for name, file in others.items() if name not in known)]


def title_of(files: list[FileView]) -> str:
    """The page's title: the files."""
    names = [file_name(file.file) for file in files]
    if len(names) <= 2:
        return " and ".join(names) or "no files"
    return f"{names[0]} and {len(names) - 1} other files"


def figures_of(report: Report, suites: list[Suite], files: list[FileView]) -> list[Figure]:
    """The key numbers, as far as they were measured; the worst over several checks."""
    gates = sum(suite.n_gates for suite in suites)
    passed = gates - sum(len(suite.failed) for suite in suites)
    figures = [Figure("gates passed", f"{count(passed)} of {count(gates)}")] if gates else []
    rates = [check.words.rate or 0.0 for check in report.checks if check.words]
    if report.words:
        words = report.words.words
        figures.append(Figure("word error rate", rate(words.rate), f"of {count(words.words)} words"))
    elif rates:
        figures.append(Figure("word error rate", rate(max(rates))))
    stages = [stage for check in report.checks for stage in check.stages]
    cosines = [(stage.cos_min, stage.name) for stage in stages if stage.cos_min is not None]
    if cosines:
        lowest, name = min(cosines)
        figures.append(Figure("lowest cosine", cosine(lowest), name))
    divergences = [check.steps.kl_mean for check in report.checks if check.steps]
    if divergences:
        worst_of_all = max(divergences, key=lambda kl: math.inf if kl is None else kl)  # None is not a number
        figures.append(Figure("KL divergence", small(worst_of_all), "nats a step"))
    n_bytes = sum(file.bytes for file in files)
    if n_bytes:
        figures.append(Figure("size", size(n_bytes), f"{len(files)} files" if len(files) > 1 else ""))
    return figures


def sections_of(report: Report, checks: list[CheckView]) -> list[Section]:
    """The sections of the page, for its navigation."""
    several = [Section("checks", "Checks")] if len(checks) > 1 else []
    parts = (
        ("tensors", "Tensors", report.tensors),
        ("lint", "Lint", report.lint),
        ("conversions", "Conversion", report.conversions),
    )
    return [
        Section("files", "Files"),
        *([Section("fidelity", "Fidelity")] if report.fidelity else []),
        *(several or [Section(check.anchor, check.name) for check in checks]),
        *(Section(part, title) for part, title, found in parts if found),
        Section("made", "How this was made"),
    ]


def reasons_of(suite: Suite) -> list[Reason]:
    """The failures of a suite."""
    return [Reason(case.name, case.summary) for case in suite.failed]


def notes_of(conversion: Conversion) -> list[tuple[str, Mapping[str, str]]]:
    """Title → tensor → reason, of tensors that were not converted as requested."""
    promoted = dict.fromkeys(conversion.promoted_to_f32, "a weight is beyond F16's range")
    notes = (
        ("of another type", conversion.fallbacks),
        ("promoted to F32", promoted),
        ("skipped", conversion.skipped),
    )
    return [(f"{len(found)} tensor{'s' if len(found) > 1 else ''} {what}", found) for what, found in notes if found]
