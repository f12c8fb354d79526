"""Gates: a value compared with its threshold. A gate is made once; every report, page and table only shows it."""

import math
from dataclasses import dataclass
from typing import NamedTuple

# Kinds of stages: what a stage holds decides how it is compared.
FEATURES, HIDDEN, LAYER, LOGITS, CODES, IDS, WAVE = "features", "hidden", "layer", "logits", "codes", "ids", "wave"
CHOSEN, CHOICES = "chosen", "choices"  # ids that a model chose freely; the logits of many choices, a row each
LOG_MEL = "log-mel"  # of a wave that was computed
STAGE_KINDS = (FEATURES, HIDDEN, LAYER, LOGITS, CODES, IDS, WAVE, LOG_MEL, CHOSEN, CHOICES)
# Kinds of what else a gate is about: a vocabulary, a decoded text, a lint rule, a tensor.
VOCABULARY, TEXT, LINT, TENSOR = "vocabulary", "text", "lint", "tensor"
# Stages that every system has: teacher forcing step by step, and incremental against full decoding.
STEPS, CACHED = "steps", "cached"
TRANSCRIPT = "transcript"  # what a response spells
OF_THEIR_OWN = ("top1", "cos_median")  # metrics of a stage of floats that have a row of their own in a table
FILE = "file"  # in the place of a stage: the file as a whole


class Subject(NamedTuple):
    """What a gate is about: the role of a file, a stage of it (or a lint rule, or a tensor), and its kind."""

    role: str
    stage: str
    kind: str


@dataclass(frozen=True)
class Gate:
    """A metric of a subject: its value, the bound it was compared with, and whether it passed.

    `value` and `bound` are None if they are not numbers; `text` says what was found and what was expected, a line per
    finding.
    """

    role: str
    stage: str
    kind: str
    metric: str
    value: float | None
    bound: float | None
    passed: bool
    text: str

    @property
    def subject(self) -> Subject:
        """What the gate is about."""
        return Subject(self.role, self.stage, self.kind)

    @property
    def problems(self) -> list[str]:
        """The failures, a line per finding; empty if the gate passed."""
        return [] if self.passed else self.text.splitlines() or ["failed"]

    @property
    def failures(self) -> list[str]:
        """The failures, each with the stage, rule or tensor that it is about."""
        about = f"tensor {self.stage}: " if self.kind == TENSOR else f"{self.stage}: "
        return [("" if self.stage == FILE else about) + line for line in self.problems]


def at_least(subject: Subject, metric: str, value: float, bound: float, form: str = "{:.6f}", note: str = "") -> Gate:
    """A gate that passes if value ≥ `bound` (NaN fails); `form` formats both numbers, `note` follows them."""
    text = f"{metric} {form.format(value)}, expected at least {form.format(bound)}{note}"
    return Gate(*subject, metric, value, bound, value >= bound, text)


def at_most(subject: Subject, metric: str, value: float, bound: float, form: str = "{:.6f}", note: str = "") -> Gate:
    """A gate that passes if value ≤ `bound` (NaN fails)."""
    text = f"{metric} {form.format(value)}, expected at most {form.format(bound)}{note}"
    return Gate(*subject, metric, value, bound, value <= bound, text)


def within_factor(subject: Subject, metric: str, value: float, factor: float) -> Gate:
    """A gate that passes if 1 / `factor` ≤ value ≤ `factor`."""
    text = f"{metric} {value:.4f}, expected {1 / factor:.4f} to {factor:.4f}"
    return Gate(*subject, metric, value, factor, 1 / factor <= value <= factor, text)


def must_hold(subject: Subject, metric: str, holds: bool, text: str) -> Gate:
    """A gate on a condition; `text` says what was found and expected."""
    return Gate(*subject, metric, float(holds), 1.0, holds, text)


def may_differ(subject: Subject, metric: str, holds: bool, text: str) -> Gate:
    """A comparison that is reported and cannot fail."""
    return Gate(*subject, metric, float(holds), None, True, text)


def reported(subject: Subject, metric: str, value: float, text: str) -> Gate:
    """A value that is reported and cannot fail."""
    return Gate(*subject, metric, value, None, True, text)


def no_findings(subject: Subject, findings: tuple[str, ...]) -> Gate:
    """A gate that passes if there are no findings."""
    return Gate(*subject, "findings", float(len(findings)), 0.0, not findings, "\n".join(findings) or "no findings")


VERDICT = Subject("", "verdict", "")  # of no stage in particular


def unexplained(subject: Subject = VERDICT) -> Gate:
    """A failed gate, for a report that says something failed but not what."""
    return Gate(*subject, "verdict", None, None, False, "failed, for a reason that the report does not name")


def is_finite(value: float | None) -> bool:
    """Whether a value is present and finite."""
    return value is not None and math.isfinite(value)
