"""Upgrade reports of schema 1, which versions before 0.7 wrote, to schema 2.

Gates are recomputed from the report's numbers. Where the report says that something failed and no number does, a failed
gate without numbers stands for it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

from mimo_families.mimo_tokenizer.stages import CODES
from mimo_families.mimo_tokenizer.stages import ROLE as TOKENIZER
from quantize.types import TYPES
from runtime_check.gate import (
    CACHED,
    FILE,
    LINT,
    LOGITS,
    STEPS,
    TENSOR,
    TEXT,
    VERDICT,
    VOCABULARY,
    Gate,
    Subject,
    at_least,
    at_most,
    may_differ,
    must_hold,
    no_findings,
    unexplained,
)
from runtime_check.run.activations import INCREMENTAL_LOGITS, RESPONSE_LOGITS
from runtime_check.run.compare.steps import number
from runtime_check.run.compare.thresholds import THRESHOLDS
from runtime_check.run.stages import stage_named
from runtime_check.text.words import count_words

from .layout import FAMILY
from .stages import FIRST_LOGITS, PROMPT, ROLE, STAGES

Data = dict[str, Any]
SCHEMA_1 = "mimo-check report 1"
KINDS = {STEPS: LOGITS, CACHED: LOGITS, VOCABULARY: VOCABULARY}  # of what is compared beside the stages
STEP_STAGES = {RESPONSE_LOGITS: STEPS, INCREMENTAL_LOGITS: CACHED}  # by whose names the sentences tell of these


def as_schema_2(report: Data) -> Data:
    """A report of schema 1 as one of schema 2."""
    return {
        "command": report["command"],
        "passed": report["passed"],
        "versions": report.get("versions") or {},
        "conversions": [_conversion(one) for one in report.get("conversions") or []],
        "lint": [_lint(one) for one in report.get("static") or []],
        "tensors": [_tensors(one) for one in report.get("tensors") or []],
        "checks": [_check(one) for one in report.get("checks") or []],
        "words": _all_words(report.get("words") or {}),
        "memory": report.get("memory") or {},
        "publication": report.get("publication") or None,
    }


def subject_of(stage: str) -> Subject:
    """The subject of a stage by its earlier name; of the speech LM if it is not a stage."""
    found = stage_named(STAGES, stage)
    if found:
        return found.subject(stage)
    return Subject(ROLE, stage, KINDS.get(stage, TEXT))


def _all_words(words: Data) -> Data | None:
    return (
        {"clips": words["clips"], "words": {"words": words["words"], "substitutions": words["errors"]}}
        if words
        else None
    )


def _conversion(one: Data) -> Data:
    kept = {key: one[key] for key in ("file", "layout", "bytes", "weights", "bits_per_weight", "tensor_types")}
    return kept | {
        "type": one.get("type") or "",
        "quantizer": one.get("quantizer") or "",
        "fallbacks": one.get("fallbacks") or {},
        "promoted_to_f32": one.get("kept_f32") or [],
        "skipped": one.get("left_out") or {},
    }


def _lint(one: Data) -> Data:
    rules = [
        {"name": rule["name"], "checked": rule["checked"], "findings": rule.get("problems") or []}
        for rule in one["rules"]
    ]
    gates = [no_findings(Subject("", rule["name"], LINT), tuple(rule["findings"])) for rule in rules]
    return {
        "file": one["file"], "bytes": one["bytes"], "seconds": one["seconds"], "passed": one["passed"], "rules": rules,
        "gates": _data(gates),
    }  # fmt: skip


def _tensors(one: Data) -> Data:
    tensors = [
        {key: value for key, value in tensor.items() if key != "problems"} | {"findings": tensor.get("problems") or []}
        for tensor in one["tensors"]
    ]
    findings = one.get("problems") or []
    gates = [no_findings(Subject("", FILE, TENSOR), tuple(findings))]
    gates += [no_findings(Subject("", tensor["name"], TENSOR), tuple(tensor["findings"])) for tensor in tensors]
    kept = ("file", "source", "lossless", "judged_by", "judged_why", "passed", "seconds", "bytes_read")
    return {key: one[key] for key in kept} | {
        "findings": findings,
        "tensors": tensors,
        "gates": _data(gates),
    }


def _check(check: Data) -> Data:
    audio, reference, expected = check["audio"], check.get("reference"), check.get("expected_text")
    files = [_file(role, check[role]) for role in (ROLE, TOKENIZER) if check.get(role)]
    is_whole = check.get(ROLE) is not None
    words = None
    if expected and check.get("word_error_rate") is not None:
        words = asdict(count_words(expected, check.get("transcript") or ""))
    return {
        "passed": check["passed"],
        "files": files,
        "clip": {key: audio[key] for key in ("file", "sha256", "seconds", "rate")} | {"text": expected},
        "task": {"name": "transcribe", "language": audio.get("language") or "auto"},
        "reference": {key: value or "" for key, value in reference.items()} if reference else None,
        "stages": list(_stages(check)),
        "gates": _data(_in_order(_gates(check, files))),
        "steps": _steps(check.get("steps")),
        "transcript": check.get("transcript") if is_whole else None,
        "token_ids": check.get("greedy_ids") or [],
        "words": words,
        "timings": check.get("timings") or {},
        "memory": check.get("memory") or {},
    }


def _file(role: str, file: Data) -> Data:
    kept = ("file", "sha256", "bytes", "type", "bits_per_weight", "tensor_types")
    provenance = {key: value for key, value in (file.get("provenance") or {}).items() if value}
    between = provenance.pop("quantized_from", None) or []
    provenance.setdefault("intermediates", [{"type": name} for name in between])
    without = sorted(FAMILY.parts) if role == ROLE and file.get("asr_only") else []
    return {key: file.get(key) for key in kept} | {
        "role": role,
        "architecture": file.get("architecture") or "",
        "outtype": file.get("outtype") or "",
        "recipe": file.get("recipe") or [],
        "layout": file.get("layout") or "",
        "without": without,
        "quantizer": file.get("quantizer") or "",
        "provenance": provenance,
        "about": file.get("about") or {},
    }


def _stages(check: Data) -> Iterator[Data]:
    for stage in check.get("stages") or []:
        subject = subject_of(stage["name"])
        yield {
            "name": stage["name"], "role": subject.role, "kind": subject.kind, "shape": stage["shape"],
            "compared": stage["compared"], "cos_mean": stage["cos_mean"], "cos_min": stage["cos_min"],
            "rel_rmse": stage.get("rel_rmse"), "norm_ratio": stage.get("scale"),
        }  # fmt: skip
    if codes := check.get("codes"):
        subject = subject_of(CODES)
        yield {"name": CODES, "role": TOKENIZER, "kind": subject.kind, "shape": [], "agreement": codes["agreement"]}


def _gates(check: Data, files: Iterable[Data]) -> list[Gate]:
    """Every gate, recomputed from numbers; and failures that no number shows."""
    gates = list(_measured(check, files))
    failed = {gate.subject for gate in gates if not gate.passed}
    told: dict[Subject, list[str]] = {}
    for subject, why in _failures(check):
        told.setdefault(subject, []).extend(filter(None, [why]))
    made = {subject: replace(unexplained(subject), text="\n".join(texts)) for subject, texts in told.items() if texts}
    return gates + [made.get(subject, unexplained(subject)) for subject in told if subject not in failed]


def _in_order(gates: Sequence[Gate]) -> list[Gate]:
    """Gates in the order of a run, grouped by subject."""
    subjects = list(dict.fromkeys(gate.subject for gate in gates))

    def place(gate: Gate) -> tuple[float, int]:
        stage = stage_named(STAGES, PROMPT if gate.stage == VOCABULARY else gate.stage)
        before = 0.5 if gate.stage == VOCABULARY else 0
        return (STAGES.index(stage) - before if stage else len(STAGES)), subjects.index(gate.subject)

    return sorted(gates, key=place)


def _measured(check: Data, files: Iterable[Data]) -> Iterator[Gate]:
    for stage in check.get("stages") or []:
        subject = subject_of(stage["name"])
        for metric, bound in (("cos_mean", stage.get("gate_mean")), ("cos_min", stage.get("gate_min"))):
            if bound is not None:
                yield at_least(subject, metric, number(stage[metric]), bound)
    if codes := check.get("codes"):
        yield at_least(subject_of(CODES), "agreement", codes["agreement"], codes["gate"], "{:.2%}", " of equal codes")
    for name, key in ((VOCABULARY, "vocabulary_equal"), (PROMPT, "prompt_equal")):
        if check.get(key) is not None:
            text = "equals the reference's" if check[key] else "differs, expected the reference's"
            yield must_hold(subject_of(name), "equal", check[key], text)
    if token := check.get("first_token"):
        lm = next((file["type"] for file in files if file["role"] == ROLE), "")
        strict = lm in TYPES and THRESHOLDS[lm].first_token
        text = f"top-1 token {token['ours']}, expected {token['reference']}"
        make = must_hold if strict else may_differ
        yield make(subject_of(FIRST_LOGITS), "top1", token["ours"] == token["reference"], text)
    if steps := check.get("steps"):
        yield from _measured_steps(steps, steps.get("cached"))


def _measured_steps(steps: Data, cached: Data | None) -> Iterator[Gate]:
    subject = subject_of(STEPS)
    if steps.get("gate_top1") is not None:
        yield at_least(subject, "top1_agreement", number(steps["top1_agreement"]), steps["gate_top1"], "{:.1%}")
    if steps.get("gate_kl_mean") is not None:
        yield at_most(subject, "kl_mean", number(steps["kl_mean"]), steps["gate_kl_mean"], "{:.6g}")
    if cached:
        value, bound = number(cached["rel_rmse"]), cached["gate_rel_rmse"]
        yield at_most(subject_of(CACHED), "rel_rmse", value, bound, "{:.6g}")


def _failures(check: Data) -> Iterator[tuple[Subject, str]]:
    """The failures that a report states, by its sentences, `stage: reason`, and its verdicts."""
    for reason in check.get("reasons") or []:
        about, colon, why = reason.partition(": ")
        yield (subject_of(STEP_STAGES.get(about, about)), why) if colon else (VERDICT, reason)
    steps = check.get("steps") or {}
    verdicts = [(stage["name"], stage) for stage in check.get("stages") or []]
    verdicts += [(CODES, check.get("codes")), (STEPS, steps), (CACHED, steps.get("cached"))]
    yield from ((subject_of(name), "") for name, part in verdicts if part and part.get("passed") is False)


def _steps(steps: Data | None) -> Data | None:
    if not steps:
        return None
    cached = steps.get("cached") or {}
    return {
        "tokens": steps["tokens"], "top1_agreement": steps["top1_agreement"], "kl_mean": steps["kl_mean"],
        "kl_max": steps["kl_max"], "cached_rel_rmse": cached.get("rel_rmse"), "cached_kl_max": cached.get("kl_max"),
        "steps": steps.get("steps") or [],
    }  # fmt: skip


def _data(gates: Iterable[Gate]) -> list[Data]:
    return [asdict(gate) for gate in gates]
