"""The result of a command as data (one JSON schema for both commands, docs/json.md) and as a table for a person."""

import json
import platform
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mimo_convert.plan import KEPT_F32, Plan
from mimo_convert.stored import shape_text

from .activations import CODES, PROMPT
from .check import Check, FileFacts
from .compare import Comparison
from .files import write_whole

SCHEMA = "mimo-check report 1"
PACKAGES = ("mimo-convert", "ggml-python", "gguf", "numpy", "tokenizers", "torch")


def as_json(command: str, checks: Sequence[Check], plans: Sequence[Plan] = ()) -> dict[str, Any]:
    """The whole report, as docs/json.md describes it."""
    passed = [check.passed for check in checks]
    return {
        "schema": SCHEMA,
        "command": command,
        "passed": None if not passed or None in passed else all(passed),
        "versions": versions(),
        "conversions": [_conversion(plan) for plan in plans],
        "checks": [_check(check) for check in checks],
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
        "transcript": run.transcript,
        "greedy_ids": run.stages["greedy_ids"].tolist() if "greedy_ids" in run.stages else [],
        "expected_text": check.expected_text,
        "word_error_rate": check.word_error_rate,
        "timings": run.timings,
    }  # fmt: skip
    if comparison and reference:
        result["reference"] = {
            "checkpoints": reference.origin.checkpoints, "torch": reference.origin.torch,
            "transcript": reference.transcript,
        }  # fmt: skip
        result["stages"] = [
            {
                "name": stage.name, "shape": list(stage.shape), "compared": stage.compared,
                "cos_mean": stage.cos_mean, "cos_min": stage.cos_min,
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
    return result


def _file(facts: FileFacts) -> dict[str, Any]:
    return {
        "file": str(facts.path), "sha256": facts.sha256, "bytes": facts.size, "type": facts.type,
        "layout": facts.layout, "bits_per_weight": facts.bits_per_weight, "tensor_types": facts.tensor_types,
        "quantizer": facts.quantizer or None,
    }  # fmt: skip


def write_json(path: Path, report: dict[str, Any]) -> None:
    """Write the report, under its name only when complete. Raises InputError if it cannot be."""
    write_whole(path, (json.dumps(report, indent=2, ensure_ascii=False) + "\n").encode())


# ── for a person ─────────────────────────────────────────────────────────────────────────────────────────────────


def as_text(check: Check) -> str:
    """One check as a table, ending in PASS, FAIL with every reason, or NOT COMPARED."""
    lines = [_file_line(check.speech_lm, f", {check.speech_lm.layout} QKV")] if check.speech_lm else []
    lines.append(_file_line(check.audio_tokenizer, ""))
    lines.append(f"{check.clip.path.name}  {check.clip.seconds:.1f} s, language {check.run.origin.language}")
    if check.comparison:
        lines += ["", *_stage_lines(check.comparison), ""]
    else:
        lines.append("")
    if check.speech_lm:
        lines.append(f"transcript  {check.run.transcript}")
        if check.word_error_rate is not None:
            lines.append(f"expected    {check.expected_text}")
            lines.append(f"word error rate {check.word_error_rate:.1%}")
    lines += [_timing_line(check.run.timings), ""]
    return "\n".join([*lines, *_verdict(check)])


def _file_line(facts: FileFacts, layout: str) -> str:
    quantizer = f", quantized by {facts.quantizer}" if facts.quantizer else ""
    return (
        f"{facts.path.name}  {facts.type}{layout}, {facts.size:,} bytes, {facts.bits_per_weight:.2f} bits per weight"
        f"{quantizer}, sha256 {facts.sha256[:16]}…"
    )


def _stage_lines(comparison: Comparison) -> list[str]:
    """A row for each stage, in the order of the run: audio tokenizer, codes, prompt, speech LM, first token."""
    row = "{:<26} {:>9}  {:>9} {:>9}  {:>13}  {}".format
    tokenizer: list[str] = []
    lm: list[str] = []
    for stage in comparison.stages:
        shape = shape_text(stage.shape)
        gates = f"{stage.gate.cos_mean:.3f} / {stage.gate.cos_min:.3f}"
        verdict = "FAIL" if stage.problem else "ok"
        cells = stage.name, shape, f"{stage.cos_mean:.6f}", f"{stage.cos_min:.6f}", gates, verdict
        (tokenizer if stage.name.startswith("tok_") else lm).append(row(*cells))
    equal, gate = comparison.code_agreement, comparison.code_gate
    tokenizer.append(row(CODES, "equal", f"{equal:.2%}", "", f"{gate:.1%}", "ok" if equal >= gate else "FAIL"))
    for name, is_equal in ((PROMPT, comparison.prompt_equal), ("vocabulary", comparison.vocabulary_equal)):
        if is_equal is not None:
            found, verdict = ("equal", "ok") if is_equal else ("differs", "FAIL")
            lm.insert(0, row(name, found, "", "", "equal", verdict))
    if comparison.first_token:
        ours, theirs = comparison.first_token
        lm.append(row("first token", ours, "", "", theirs, "ok" if ours == theirs else "differs"))
    return [row("stage", "shape", "cos mean", "cos min", "gates", "").rstrip(), *tokenizer, *lm]


def _timing_line(timings: dict[str, float]) -> str:
    names = {"load_s": "load {:.3f} s", "tokenize_s": "tokenize {:.2f} s", "prefill_s": "prefill {:.3f} s",
             "ms_per_token": "{:.2f} ms per token"}  # fmt: skip
    return "  ·  ".join(text.format(timings[name]) for name, text in names.items() if name in timings)


def _verdict(check: Check) -> list[str]:
    if check.comparison is None:
        return ["NOT COMPARED: no reference was given"]
    if check.comparison.passed:
        return ["PASS"]
    return [f"FAIL: {len(check.comparison.reasons)} of the gates", *(f"  {why}" for why in check.comparison.reasons)]
