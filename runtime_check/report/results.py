"""Results of a command: printed as they come, and collected in a Report."""

import platform
import resource
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mimo_convert import __version__
from mimo_convert.files import check_can_write, write_whole
from mimo_convert.plan.describe import chosen_types
from mimo_convert.plan.plan import PROMOTED_F32, Plan
from mimo_convert.terminal import show, tell
from quantize.errors import InputError
from quantize.quoting import quoted
from runtime_check.audio.wave import Sound
from runtime_check.run.check import Checked
from runtime_check.run.compare.fidelity import Fidelity, HeldOut, fidelity_of
from runtime_check.run.records import Check
from runtime_check.static.records import LintResult
from runtime_check.tensors.records import TensorCheck
from runtime_check.text.words import NO_WORDS

from .finite import finite
from .json_report import json_text
from .records import AllWords, Conversion, Report, file_name, files_run
from .table import check_as_text, fidelity_as_text, lint_as_text, tensors_as_text

PACKAGES = ("ggml-python", "gguf", "numpy", "tokenizers", "torch")
MOST_FAILURES = 3  # that a line has room for
PageSounds = Mapping[int, Sequence[Sound]]  # of checks, by their number from 0
NO_SOUNDS: PageSounds = {}
Part = LintResult | TensorCheck | Check


@dataclass(frozen=True)
class Outputs:
    """Output files of the report, as JSON (docs/json.md), JUnit XML and an HTML page; None: none."""

    json: Path | None = None
    junit: Path | None = None
    html: Path | None = None

    def check(self) -> None:
        """Raise InputError if one cannot be written; called before long work."""
        for path in (self.json, self.junit, self.html):
            check_can_write(path)

    def write(self, report: Report, sounds: PageSounds = NO_SOUNDS) -> None:
        """Write the report, each file atomically; the page has the sounds of each check, too."""
        if self.json:
            write_whole(self.json, json_text(report).encode())
        if self.junit:
            from .junit import as_junit  # late, as the page: most commands write none

            write_whole(self.junit, as_junit(report))
        if self.html:
            from .page.page import as_html

            write_whole(self.html, as_html(report, sounds).encode())


NO_OUTPUTS = Outputs()


@dataclass
class Results:
    """The results of a command, part by part; each is printed at once."""

    command: str
    plans: Sequence[Plan] = ()
    parts: list[Part] = field(default_factory=list)
    sounds: dict[int, Sequence[Sound]] = field(default_factory=dict)  # of checks, by their number
    held_out: HeldOut | None = None

    def add(self, part: Part) -> None:
        """Record and print a part."""
        show(self._text(part), brief(part))
        self.parts.append(part)

    def add_check(self, checked: Checked) -> None:
        """Record and print a check, and keep its sounds for the page."""
        if checked.sounds:
            self.sounds[len(self.of(Check))] = checked.sounds
        self.add(checked.check)

    def _text(self, part: Part) -> str:
        match part:
            case LintResult():
                return lint_as_text(part, brief=bool(self.plans))
            case TensorCheck():
                return tensors_as_text(part)
            case Check():
                shown = [check.main.file for check in self.of(Check)]
                return check_as_text(part, with_files=part.main.file not in shown)

    @contextmanager
    def as_far_as_possible(self) -> Iterator[None]:
        """End the block at an InputError but still write the report, if an earlier part failed."""
        try:
            yield
        except InputError as error:
            if self.passed is not False:
                raise
            tell(f"not checked further: {error}")

    def of(self, kind: type[Any]) -> list[Any]:
        """The parts of a kind, in order."""
        return [part for part in self.parts if isinstance(part, kind)]

    @property
    def passed(self) -> bool | None:
        """False if a part failed, None if not everything was compared."""
        return passed_of(self.parts)

    @property
    def words(self) -> AllWords | None:
        """Word errors over all clips with a reference text; None unless there are several."""
        return words_of(self.of(Check))

    @property
    def fidelity(self) -> Fidelity | None:
        """How far files are from the reference over all clips; None unless there are several."""
        return fidelity_of(self.of(Check), self.held_out)

    def report(self) -> Report:
        """The report of all parts."""
        memory = {"peak_rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
        whole = Report(
            self.command,
            self.passed,
            versions(),
            tuple(map(conversion, self.plans)),
            tuple(self.of(LintResult)),
            tuple(self.of(TensorCheck)),
            tuple(self.of(Check)),
            self.words,
            memory,
            fidelity=self.fidelity,
        )
        found: Report = finite(whole)
        return found

    def write(self, outputs: Outputs) -> Report:
        """Print the totals and write the report; returns it."""
        if total := self.words:
            show(
                f"{total.clips} clips with a reference text, {total.words.words} words, "
                f"{total.words.errors} errors: word error rate {total.words.rate or 0:.1%}"
            )
        if measured := self.fidelity:
            show(f"\n{fidelity_as_text(measured)}")
        failed = [part for part in self.parts if part.passed is False]
        if failed and self.parts[-1].passed is not False:
            show("\n".join(["", *map(brief, failed)]))
        report = self.report()
        outputs.write(report, self.sounds)
        return report


def brief(part: Part) -> str:
    """A line on a part that failed; empty for any other."""
    if part.passed is not False:
        return ""
    file = part.main.file if isinstance(part, Check) else part.file
    failures = [line for gate in part.gates for line in gate.failures]
    return f"FAIL  {quoted(file)}: {len(failures)} of the gates: {'; '.join(failures[:MOST_FAILURES])}"


def passed_of(parts: Sequence[Part]) -> bool | None:
    """False if a part failed, None if not everything was compared."""
    found = [part.passed for part in parts]
    if False in found:
        return False
    return None if not found or None in found else True


def words_of(checks: Sequence[Check]) -> AllWords | None:
    """Word errors over all clips with a reference text; None unless there are several."""
    known = [check for check in checks if check.words]
    clips = len({check.clip.file for check in known})
    return AllWords(clips, sum((check.words for check in known if check.words), NO_WORDS)) if clips > 1 else None


def only_files(report: Report, names: Collection[str]) -> Report:
    """What a report says of the files of these names, and of each check whose files are all among them."""
    parts: list[Conversion | LintResult | TensorCheck] = [*report.conversions, *report.lint, *report.tensors]
    about = {file_name(one.file) for one in parts}
    if about | {file_name(file.file) for file in files_run(report.checks)} <= set(names):
        return report
    checks = tuple(one for one in report.checks if {file_name(file.file) for file in one.files} <= set(names))
    lint = tuple(one for one in report.lint if file_name(one.file) in names)
    tensors = tuple(one for one in report.tensors if file_name(one.file) in names)
    conversions = tuple(one for one in report.conversions if file_name(one.file) in names)
    return replace(
        report, passed=passed_of([*lint, *tensors, *checks]), conversions=conversions, lint=lint, tensors=tensors,
        checks=checks, words=words_of(checks),
        fidelity=fidelity_of(checks, report.fidelity.held_out if report.fidelity else None),
    )  # fmt: skip


def versions() -> dict[str, str]:
    """Versions of the packages that the result depends on; torch if installed."""
    found = {"python": platform.python_version(), "mimo-convert": __version__}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def conversion(plan: Plan) -> Conversion:
    """A plan as a record."""
    return Conversion(
        file=plan.file_name,
        type=plan.outtype.name if plan.outtype else "",
        layout="fused" if plan.fuse_qkv else "separate",
        bytes=plan.size,
        weights=plan.n_weights,
        bits_per_weight=plan.bits_per_weight,
        tensor_types=dict(Counter(tensor.ggml_type.name for tensor in plan.tensors).most_common()),
        quantizer=plan.quantizer,
        fallbacks={t.name: t.note for t in plan.tensors if t.note and t.note != PROMOTED_F32},
        promoted_to_f32=tuple(t.name for t in plan.tensors if t.note == PROMOTED_F32),
        skipped=plan.skipped,
        mixed=plan.mixed,
        recipe_name=plan.recipe_name,
        chosen=plan.mix.chosen(plan.family.uses, chosen_types(plan.tensors)) if plan.mix else None,
    )
