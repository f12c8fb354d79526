"""What a command found: printed as it comes, and in the end as data (one JSON schema for both commands, docs/json.md),
which the other reports are made of."""

import json
import math
import platform
import resource
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mimo_convert.files import check_can_write, write_whole
from mimo_convert.plan import KEPT_F32, Plan
from mimo_convert.provenance import Provenance
from mimo_convert.terminal import show, tell
from quantize.errors import InputError

from .activations import GREEDY
from .check import Check, FileFacts
from .differences import Words
from .junit import as_junit
from .page import as_html
from .static_check import StaticCheck
from .steps import Steps
from .table import as_text, static_as_text, tensors_as_text
from .tensor_check import TensorCheck
from .verdicts import Report

SCHEMA = "mimo-check report 1"
PACKAGES = ("mimo-convert", "ggml-python", "gguf", "numpy", "tokenizers", "torch")
Part = StaticCheck | TensorCheck | Check


@dataclass(frozen=True)
class Outputs:
    """Files that the report is wanted in."""

    json: Path | None
    junit: Path | None
    html: Path | None

    def check(self) -> None:
        """Whether they can be written, asked before long work. Raises InputError."""
        for path in (self.json, self.junit, self.html):
            check_can_write(path)

    def write(self, report: Report) -> None:
        """Write the report, each file under its name only when complete."""
        if self.json:
            write_whole(self.json, json_text(report).encode())
        if self.junit:
            write_whole(self.junit, as_junit(report))
        if self.html:
            write_whole(self.html, as_html(report).encode())


def json_text(report: Report) -> str:
    """The report as a JSON file; what is not UTF-8 in a file's name is written as JSON's escapes."""
    text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode(errors="backslashreplace").decode()


@dataclass
class Results:
    """What a command found, part by part; each is shown as soon as it is there."""

    command: str
    plans: Sequence[Plan] = ()
    parts: list[Part] = field(default_factory=list)

    def add(self, part: Part) -> None:
        """Keep a part, and print it."""
        show(self._text(part))
        self.parts.append(part)

    def _text(self, part: Part) -> str:
        match part:
            case StaticCheck():
                return static_as_text(part, brief=bool(self.plans))
            case TensorCheck():
                return tensors_as_text(part)
            case Check():
                before = [check.speech_lm or check.audio_tokenizer for check in self.of(Check)]
                return as_text(part, with_files=(part.speech_lm or part.audio_tokenizer) not in before)

    @contextmanager
    def as_far_as_possible(self) -> Iterator[None]:
        """An InputError in the block ends it, but not the report, if what was found before says what is wrong."""
        try:
            yield
        except InputError as error:
            if self.passed is not False:
                raise
            tell(f"nothing more was examined: {error}")

    def of(self, kind: type[Any]) -> list[Any]:
        """The parts of a kind, in order."""
        return [part for part in self.parts if isinstance(part, kind)]

    @property
    def passed(self) -> bool | None:
        """False if a part failed, None if nothing, or not everything, was compared."""
        found = [part.passed for part in self.parts]
        if False in found:
            return False
        return None if not found or None in found else True

    @property
    def n_clips(self) -> int:
        """Clips of which it is known what is said."""
        return len({check.clip.path for check in self.of(Check) if check.words})

    @property
    def words(self) -> Words | None:
        """Over all those clips; None where there is but one."""
        words = [check.words for check in self.of(Check) if check.words]
        return Words(sum(w.errors for w in words), sum(w.words for w in words)) if self.n_clips > 1 else None

    def as_report(self) -> Report:
        """The report as data, complete."""
        return finite(as_json(self))

    def write(self, outputs: Outputs) -> None:
        """Print the totals, and write the report wherever it is wanted."""
        if self.words:
            show(
                f"{self.n_clips} clips of which it is known what is said, {self.words.words} words, "
                f"{self.words.errors} errors: word error rate {self.words.error_rate:.1%}"
            )
        outputs.write(self.as_report())


def finite(value: Any) -> Any:
    """The same data with null for what is infinite or no number: JSON has no word for it."""
    if isinstance(value, dict):
        return {key: finite(element) for key, element in value.items()}
    if isinstance(value, list):
        return [finite(element) for element in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_json(results: Results) -> dict[str, Any]:
    """The whole report, as docs/json.md describes it."""
    return {
        "schema": SCHEMA,
        "command": results.command,
        "passed": results.passed,
        "versions": versions(),
        "conversions": [_conversion(plan) for plan in results.plans],
        "static": [_static(part) for part in results.of(StaticCheck)],
        "tensors": [_tensors(part) for part in results.of(TensorCheck)],
        "checks": [_check(part) for part in results.of(Check)],
        "words": _words(results),
        "memory": {"peak_rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024},
        "publication": None,
    }


def versions() -> dict[str, str]:
    """Versions of what the result depends on; torch only where it is installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _conversion(plan: Plan) -> dict[str, Any]:
    return {
        "file": plan.file_name,
        "type": plan.outtype.name if plan.outtype else None,
        "layout": "fused" if plan.fuse_qkv else "separate",
        "bytes": plan.size,
        "weights": plan.n_weights,
        "bits_per_weight": plan.bits_per_weight,
        "tensor_types": dict(Counter(tensor.type.name for tensor in plan.tensors).most_common()),
        "quantizer": plan.quantizer or None,
        "fallbacks": {t.name: t.note for t in plan.tensors if t.note and t.note != KEPT_F32},
        "kept_f32": [t.name for t in plan.tensors if t.note == KEPT_F32],
        "left_out": plan.left_out,
    }


def _static(part: StaticCheck) -> dict[str, Any]:
    return {
        "file": str(part.path), "bytes": part.size, "seconds": part.seconds, "passed": part.passed,
        "rules": [{"name": r.name, "checked": r.checked, "problems": list(r.problems)} for r in part.rules],
    }  # fmt: skip


def _tensors(part: TensorCheck) -> dict[str, Any]:
    return {
        "file": str(part.file), "source": part.source, "lossless": part.lossless, "passed": part.passed,
        "judged_by": part.judged_by, "judged_why": part.why,
        "seconds": part.seconds, "bytes_read": part.bytes_read, "problems": list(part.problems),
        "tensors": [asdict(tensor) | {"problems": list(tensor.problems)} for tensor in part.tensors],
    }  # fmt: skip


def _words(results: Results) -> dict[str, Any] | None:
    words = results.words
    return words and {
        "clips": results.n_clips, "words": words.words, "errors": words.errors, "word_error_rate": words.error_rate,
    }  # fmt: skip


def _check(check: Check) -> dict[str, Any]:
    comparison, run, reference = check.comparison, check.run, check.reference
    result: dict[str, Any] = {
        "passed": check.passed,
        "reasons": comparison.reasons if comparison else [],
        "speech_lm": _file(check.speech_lm) if check.speech_lm else None,
        "audio_tokenizer": _file(check.audio_tokenizer),
        "audio": {
            "file": str(check.clip.path), "sha256": check.clip.sha256, "seconds": check.clip.seconds,
            "rate": check.clip.rate, "language": run.origin.language,
        },
        "reference": None,
        "stages": [],
        "codes": None,
        "vocabulary_equal": None,
        "prompt_equal": None,
        "first_token": None,
        "steps": None,
        "transcript": run.transcript,
        "greedy_ids": run.stages[GREEDY].tolist() if GREEDY in run.stages else [],
        "expected_text": check.clip.text,
        "word_error_rate": check.words.error_rate if check.words else None,
        "timings": run.timings,
        "memory": run.memory,
    }  # fmt: skip
    if comparison and reference:
        result["reference"] = {
            "checkpoints": reference.origin.checkpoints, "torch": reference.origin.torch,
            "dtype": reference.origin.dtype, "transcript": reference.transcript,
        }  # fmt: skip
        result["stages"] = [
            {
                "name": stage.name, "shape": list(stage.shape), "compared": stage.compared,
                "cos_mean": stage.cos_mean, "cos_min": stage.cos_min, "rel_rmse": stage.rel_rmse,
                "scale": stage.scale,
                "gate_mean": stage.gate.cos_mean, "gate_min": stage.gate.cos_min, "passed": not stage.problem,
            }
            for stage in comparison.stages
        ]  # fmt: skip
        result["codes"] = {
            "agreement": comparison.code_agreement, "gate": comparison.code_gate,
            "passed": comparison.code_agreement >= comparison.code_gate,
        }  # fmt: skip
        result["vocabulary_equal"] = comparison.vocabulary_equal
        result["prompt_equal"] = comparison.prompt_equal
        if comparison.first_token:
            result["first_token"] = dict(zip(("ours", "reference"), comparison.first_token, strict=True))
        if comparison.steps:
            result["steps"] = _steps(comparison.steps, check.pieces)
    return result


def _steps(steps: Steps, pieces: Sequence[str]) -> dict[str, Any]:
    return {
        "tokens": len(steps.steps),
        "top1_agreement": steps.top1_agreement, "gate_top1": steps.gate.top1,
        "kl_mean": steps.kl_mean, "kl_max": steps.kl_max, "gate_kl_mean": steps.gate.kl_mean,
        "passed": steps.top1_passed and steps.kl_passed,
        "cached": {
            "rel_rmse": steps.cached_rmse, "gate_rel_rmse": steps.gate.cached_rmse, "kl_max": steps.cached_kl_max,
            "passed": steps.cached_passed,
        },
        "steps": [asdict(step) | {"text": piece} for step, piece in zip(steps.steps, pieces, strict=True)],
    }  # fmt: skip


def _file(facts: FileFacts) -> dict[str, Any]:
    return {
        "file": str(facts.path), "sha256": facts.sha256, "bytes": facts.size, "architecture": facts.architecture,
        "type": facts.type, "outtype": facts.outtype or None, "recipe": list(facts.rules),
        "layout": facts.layout, "asr_only": facts.asr_only, "bits_per_weight": facts.bits_per_weight,
        "tensor_types": facts.tensor_types, "quantizer": facts.quantizer or None,
        "provenance": _provenance(facts.provenance),
        "about": facts.about,
    }  # fmt: skip


def _provenance(told: Provenance) -> dict[str, Any]:
    found = asdict(told) | {"quantized_from": told.quantized_from}
    return {name: value or None for name, value in found.items()}
