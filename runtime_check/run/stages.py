"""Stages of a system: name, role of the file that computes it, kind, dimensions."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from runtime_check.gate import Subject


class Stage(NamedTuple):
    """A stage; if `numbered`, one per layer, or head: `name` followed by `digits` to three digits.

    `dimensions` names the axes, slowest first; axes of one name have the same size in all stages of a run. `least` is
    the smallest id of a stage of ids; `threshold` the column of the threshold table (compare/thresholds.py), whose row
    is the type of the file, or, of a file whose parts are of several types, the lowest type of the tensors of the roles
    `weights`; `by_median`: of a file that is no F32, F16 or BF16, the median over positions of cosines and of ratios of
    norms is judged, instead of mean, worst and whole.
    """

    name: str
    role: str
    kind: str
    dimensions: tuple[str, ...]
    threshold: str = ""
    least: int = 0
    numbered: bool = False
    weights: tuple[str, ...] = ()
    digits: int = 2
    by_median: bool = False

    def matches(self, name: str) -> bool:
        """Whether `name` is this stage in a run."""
        if self.numbered:
            return re.fullmatch(rf"{re.escape(self.name)}\d{{{self.digits},3}}", name) is not None
        return name == self.name

    def subject(self, name: str) -> Subject:
        """The gate subject of the stage `name`."""
        return Subject(self.role, name, self.kind)


def stage_named(stages: Iterable[Stage], name: str) -> Stage | None:
    """The stage that matches a name; None if there is none."""
    return next((stage for stage in stages if stage.matches(name)), None)


def in_order(stages: Sequence[Stage], names: Iterable[str]) -> list[tuple[str, Stage]]:
    """The names that are stages, in the order of `stages`."""
    known = [(name, stage) for name in names if (stage := stage_named(stages, name)) is not None]
    return sorted(known, key=lambda item: stages.index(item[1]))
