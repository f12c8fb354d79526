"""The files of a model card, from a report (docs/json.md)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from mimo_convert.numbers_text import NOTHING, rate
from runtime_check.report.page.parts import verdict_word
from runtime_check.report.records import Report, file_name, files_run
from runtime_check.report.suites import CHECK, Case, Suite, cases_of, suites_of
from runtime_check.run.records import Check, FileFacts
from runtime_check.text.words import NO_WORDS, WordErrors

GGUF = ".gguf"


@dataclass(frozen=True)
class File:
    """A published file with its checks, the first clip's first.

    `facts` is None if it was not run. `suites` are its lint and tensor comparison.
    """

    name: str
    sha256: str
    size: int
    facts: FileFacts | None = None
    checks: Sequence[Check] = ()
    suites: Sequence[Suite] = ()

    @property
    def role(self) -> str:
        """The role in which it was run; empty if it was not."""
        return self.facts.role if self.facts else ""

    @property
    def responds(self) -> bool:
        """Whether it is a text model's file, which others are companions of."""
        return any(check.main.role == self.role and check.transcript is not None for check in self.checks)

    @cached_property
    def cases(self) -> list[Case]:
        """Every gate about this file: of a system's check, those of its role."""
        return [
            *(case for suite in self.suites for case in suite.cases),
            *(case for check in self.checks for case in self._own(check)),
        ]

    def _own(self, check: Check) -> tuple[Case, ...]:
        return cases_of(gate for gate in check.gates if gate.role in ("", self.role))

    @property
    def failed(self) -> list[Case]:
        return [case for case in self.cases if case.problems]

    @property
    def passed(self) -> bool | None:
        """None if it was not compared."""
        if self.failed:
            return False
        compared = [check.passed is not None for check in self.checks]
        return True if compared and all(compared) else None

    @property
    def verdict(self) -> str:
        return verdict_word(self.passed)

    @property
    def shown(self) -> Check:
        """The check whose stages are shown: the first that this file failed, else the first."""
        return next((check for check in self.checks if any(case.problems for case in self._own(check))), self.checks[0])

    @property
    def beside(self) -> list[str]:
        """The companions that a text model was run with."""
        if not self.responds:
            return []
        return [file_name(file.file) for file in self.checks[0].files if file.role != self.role]

    @property
    def layout(self) -> str | None:
        return self.facts.layout if self.facts and self.responds else None

    @property
    def label(self) -> str:
        """The type with its mix; a dash if it was not run."""
        return self.facts.label if self.facts else NOTHING

    @property
    def bits_per_weight(self) -> float | None:
        return self.facts.bits_per_weight if self.facts else None

    @property
    def needs(self) -> int | None:
        """Peak memory of a run in bytes: mapped files, graphs and KV cache. None for a companion."""
        own = [check.memory for check in self.checks if check.main.role == self.role]
        sums = [memory["mapped"] + memory.get("working", 0) for memory in own if memory.get("mapped")]
        return max(sums, default=None)

    @property
    def words(self) -> WordErrors | None:
        """Word errors over all clips with a reference text, but those that it spoke; None if there are none."""
        counted = [check.words for check in self.checks if self.responds and check.words and not check.speech]
        return sum(counted, NO_WORDS) if counted else None

    @property
    def word_error_rate(self) -> str:
        return rate_text(self.words)


def rate_text(words: WordErrors | None) -> str:
    """A word error rate as text; a dash without one."""
    return rate(words.rate) if words else NOTHING


def published_files(report: Report) -> list[File]:
    """The GGUF files to publish: text models, companions, then files that were not run; of each the smallest first.

    Checks are matched by file name and hash.
    """
    assert report.publication is not None
    facts = {(file_name(file.file), file.sha256): file for file in files_run(report.checks)}
    suites = [suite for suite in suites_of(report) if suite.kind != CHECK]
    files = []
    for entry in report.publication.files:
        name = file_name(entry.file)
        if not name.endswith(GGUF):
            continue
        key = (name, entry.sha256)
        checks = [
            check for check in report.checks if key in {(file_name(file.file), file.sha256) for file in check.files}
        ]
        about = [suite for suite in suites if suite.name == name]
        files.append(File(entry.file, entry.sha256, entry.bytes, facts.get(key), checks, about))
    return sorted(files, key=lambda file: (not file.responds, not file.checks, file.size, file.name))
