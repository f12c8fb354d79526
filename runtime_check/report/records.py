"""Reports as typed records: made by results.py, read from JSON by json_report.py (docs/json.md)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from mimo_convert.plan.mix import ChosenTypes
from quantize.recipes import type_label
from runtime_check.run.compare.fidelity import Fidelity
from runtime_check.run.records import Check, FileFacts
from runtime_check.static.records import LintResult
from runtime_check.tensors.records import TensorCheck
from runtime_check.text.words import WordErrors

SCHEMA = "mimo-check report 2"


@dataclass(frozen=True)
class Conversion:
    """A file written, or planned.

    `fallbacks` are tensors of another type than requested, with the reason; `mixed` counts those of other types that
    rules chose, `recipe_name` is the named recipe's; `promoted_to_f32` are those with a weight beyond F16's range;
    `skipped` checkpoint tensors that are not in it, with the reason; `chosen` are the types of a file of a given size.
    """

    file: str
    type: str
    layout: str
    bytes: int
    weights: int
    bits_per_weight: float
    tensor_types: Mapping[str, int]
    quantizer: str = ""
    fallbacks: Mapping[str, str] = field(default_factory=dict)
    promoted_to_f32: tuple[str, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    mixed: Mapping[str, int] = field(default_factory=dict)
    recipe_name: str = ""
    chosen: ChosenTypes | None = None

    @property
    def label(self) -> str:
        """The type with its mix, such as `q4_k + 2 q6_k`."""
        return type_label(self.type, self.mixed, self.recipe_name)


@dataclass(frozen=True)
class AllWords:
    """The word errors over all clips with a reference text, if there are several."""

    clips: int
    words: WordErrors


@dataclass(frozen=True)
class PublishedFile:
    """A file to publish, by name."""

    file: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Publication:
    """Where the files are published; `base_model` is for files that do not record theirs."""

    repo: str
    files: tuple[PublishedFile, ...]
    even_if_failed: bool = False
    base_model: str | None = None


@dataclass(frozen=True)
class Report:
    """The results of a command. `passed` is False if a gate failed, None if not everything was compared; `memory` has
    the process's peak RSS in bytes, `fidelity` files side by side over several clips."""

    command: str
    passed: bool | None
    versions: Mapping[str, str]
    conversions: tuple[Conversion, ...] = ()
    lint: tuple[LintResult, ...] = ()
    tensors: tuple[TensorCheck, ...] = ()
    checks: tuple[Check, ...] = ()
    words: AllWords | None = None
    memory: Mapping[str, int] = field(default_factory=dict)
    publication: Publication | None = None
    fidelity: Fidelity | None = None
    schema: str = SCHEMA


def file_name(path: str) -> str:
    """The last component of a path."""
    return PurePath(path).name


def check_name(check: Check) -> str:
    """A check by its main file and clip."""
    return f"{file_name(check.main.file)} on {file_name(check.clip.file)}"


def files_run(checks: Sequence[Check]) -> list[FileFacts]:
    """Every file that was run, once, in the order of the checks."""
    found = {(file_name(file.file), file.sha256): file for check in checks for file in check.files}
    return list(found.values())
