"""Reports (docs/json.md) of the real model's size: made up, but in shape and size what a run gives.

`with_stage`, `with_steps` and `with_gates` give a check other numbers, and the gates and verdict that follow from them.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import PurePath
from typing import Any

from mimo_convert.model.provenance import Provenance
from mimo_convert.plan.mix import ChosenTypes
from mimo_families.mimo_audio.stages import FIRST_LOGITS, LAST_HIDDEN, PROMPT, ROLE, STAGES
from mimo_families.mimo_tokenizer.stages import CODES
from mimo_families.mimo_tokenizer.stages import ROLE as TOKENIZER_ROLE
from runtime_check.audio.jfk import JFK_TEXT
from runtime_check.gate import (
    LINT,
    TEXT,
    TRANSCRIPT,
    VOCABULARY,
    Gate,
    Subject,
    at_least,
    must_hold,
    no_findings,
    within_factor,
)
from runtime_check.report.records import AllWords, Conversion, Publication, PublishedFile, Report
from runtime_check.run.compare.fidelity import HeldOut, fidelity_of
from runtime_check.run.compare.steps import step_gates
from runtime_check.run.compare.thresholds import StepThreshold
from runtime_check.run.records import (
    Check,
    ClipFacts,
    FileFacts,
    ReferenceFacts,
    StageResult,
    StepResult,
    Steps,
    TaskFacts,
)
from runtime_check.run.stages import stage_named
from runtime_check.static.records import LintResult, RuleResult
from runtime_check.tensors.records import TensorCheck, TensorResult, tensor_gates
from runtime_check.text.loops import Loop
from runtime_check.text.words import count_words

TOKENIZER_STAGES = ("tok_mel", "tok_conv1", "tok_conv2", "tok_xfmr", "tok_pool")
PREFILL_STAGES = ("prefill_audio_features", "prefill_text_embeds", "prefill_inputs_embeds")
LAST_STAGES = (LAST_HIDDEN, FIRST_LOGITS)
N_LAYERS = 36
PIECES = (
    " And", " so", ",", " my", " fellow", " Americans", ",", " ask", " not", " what", " your", " country", " can",
    " do", " for", " you", ".", " Ask", " what", " you", " can", " do", " for", " your", " country", ".", "<|im_end|>",
)  # fmt: skip
STEP_THRESHOLD = StepThreshold(0.85, 0.2, 0.003)
VOCABULARY_SUBJECT = Subject(ROLE, VOCABULARY, VOCABULARY)


def wave(i: float) -> float:
    """From 0 to 1, never the same twice."""
    return (math.sin(i * 12.9898) * 43758.5453) % 1


def number(value: float | None) -> float:
    return math.nan if value is None else value


def subject_of(stage: str) -> Subject:
    """The subject of a stage of the real model."""
    found = stage_named(STAGES, stage)
    assert found is not None, stage
    return found.subject(stage)


# ── stages and steps ─────────────────────────────────────────────────────────────────────────────────────────────


def stage(name: str, noise: float) -> StageResult:
    subject = subject_of(name)
    numbers = 1 - noise, 1 - 4 * noise, math.sqrt(2 * noise), 1 + noise
    return StageResult(name, subject.role, subject.kind, (94, 4096), 94, *numbers)


def stage_gates(result: StageResult, mean: float, least: float) -> list[Gate]:
    """The gates of a stage with these bounds."""
    subject = Subject(result.role, result.name, result.kind)
    return [
        at_least(subject, "cos_mean", number(result.cos_mean), mean),
        at_least(subject, "cos_min", number(result.cos_min), least),
        within_factor(subject, "norm_ratio", number(result.norm_ratio), 1.05 / mean**2),
    ]


def top1_gate(found: int, expected: int = 3036) -> Gate:
    return must_hold(subject_of(FIRST_LOGITS), "top1", found == expected, f"top-1 token {found}, expected {expected}")


def vocabulary_gate(equal: bool) -> Gate:
    text = "tokens and merges are the reference's" if equal else "tokens or merges differ, expected the reference's"
    return must_hold(VOCABULARY_SUBJECT, "equal", equal, text)


def step(i: int, text: str) -> StepResult:
    return StepResult(1000 + i, text, 1000 + i, 1000 + i, 10 ** (-7 + 5 * wave(i + 0.5)), 1, 0.98, 0.985, 1e-9)


def steps() -> Steps:
    every = [step(i, text) for i, text in enumerate(PIECES)]
    every[6] = replace(every[6], top1=7, rank=2, probability=0.31, kl=0.41)
    kls = [number(one.kl) for one in every]
    return Steps(len(every), 26 / 27, sum(kls) / len(kls), max(kls), 1e-6, 1e-9, tuple(every))


# ── a check ──────────────────────────────────────────────────────────────────────────────────────────────────────


def file(name: str, size: int) -> FileFacts:
    is_lm = "asr" in name
    repo = "XiaomiMiMo/MiMo-V2.5-ASR" if is_lm else "XiaomiMiMo/MiMo-Audio-Tokenizer"
    shards = [f"model-0000{i}-of-00004.safetensors" for i in range(1, 5)] if is_lm else ["model.safetensors"]
    about: dict[str, Any] = {"license": "mit", "languages": None, "tags": ["audio", "audio-tokenizer"]}
    if is_lm:
        about |= {"languages": ["en", "zh"], "tags": ["automatic-speech-recognition", "audio"]}
    return FileFacts(
        role=ROLE if is_lm else TOKENIZER_ROLE, file=f"/models/{name}",
        sha256=("0123456789abcdef" if is_lm else "76543210fedcba98") * 4, bytes=size,
        architecture="mimo_asr" if is_lm else "mimo_tokenizer", type="q4_k", outtype="q4_k",
        layout="fused" if is_lm else "separate", bits_per_weight=4.51,
        tensor_types={"q4_k": 401, "f32": 243, "q6_k": 2}, quantizer="simd",
        provenance=Provenance(
            repo.split("/")[1], repo, "0123456789" * 4, dict.fromkeys(shards, "fedcba9876543210" * 4), "0.5.0"
        ),
        about=about,
    )  # fmt: skip


def check(clip: str = "/clips/jfk.wav", n_layers: int = N_LAYERS) -> Check:
    """A check that passed: all its gates in the order of the run."""
    found = [(stage(name, 1e-7 * (1 + i)), 0.999) for i, name in enumerate(TOKENIZER_STAGES[:3])]
    found += [(stage(name, 0.0015), 0.982) for name in TOKENIZER_STAGES[3:]]
    found += [(stage(name, 0.001 + 0.001 * wave(i)), 0.98) for i, name in enumerate(PREFILL_STAGES)]
    found += [(stage(f"layer_{i:02}", 0.001 * 1.06**i * (1 + wave(i))), 0.929) for i in range(n_layers)]
    found += [(stage(name, 0.009), 0.95) for name in LAST_STAGES]
    gates = [gate for result, bound in found for gate in stage_gates(result, bound, bound - 0.1)]
    n, measured = 3 * len(TOKENIZER_STAGES), steps()
    codes = StageResult(CODES, TOKENIZER_ROLE, "codes", (276, 8), 2208, agreement=0.8123)
    return Check(
        passed=True,
        files=(file("mimo-asr-q4_k.gguf", 4_523_915_264), file("mimo-tokenizer-q4_k.gguf", 402_653_184)),
        clip=ClipFacts(clip, "ab" * 32, 11.0, 16000, JFK_TEXT),
        task=TaskFacts("transcribe", "english"),
        reference=ReferenceFacts(
            ("XiaomiMiMo/MiMo-V2.5-ASR", "XiaomiMiMo/MiMo-Audio-Tokenizer"), "2.13.0", "f32", JFK_TEXT
        ),
        stages=(*(result for result, _ in found[:5]), codes, *(result for result, _ in found[5:])),
        gates=(
            *gates[:n],
            at_least(subject_of(CODES), "agreement", 0.8123, 0.425, "{:.2%}", " of equal codes"),
            vocabulary_gate(True),
            must_hold(subject_of(PROMPT), "equal", True, "every id is the reference's"),
            *gates[n:],
            top1_gate(3036),
            *step_gates(measured, STEP_THRESHOLD, ROLE),
            must_hold(Subject(ROLE, TRANSCRIPT, TEXT), "equal", True, "the reference's response spells the same"),
        ),
        steps=measured,
        transcript=JFK_TEXT,
        token_ids=(1, 2),
        words=count_words(JFK_TEXT, JFK_TEXT),
        timings={
            "load_s": 2.1, "repack_s": 3.4, "tokenize_s": 4.2, "prefill_s": 12.5, "ms_per_token": 310.0,
            "proof_s": 18.25,
        },
        memory={"mapped": 4_926_568_448, "repacked": 0, "working": 612_000_000},
    )  # fmt: skip


def with_gates(check: Check, *changed: Gate) -> Check:
    """The check with these gates in place of those of the same subject and metric, and the verdict of all."""
    by_key = {(one.subject, one.metric): one for one in changed}
    gates = tuple(by_key.get((one.subject, one.metric), one) for one in check.gates)
    assert set(changed) <= set(gates)
    return replace(check, gates=gates, passed=all(one.passed for one in gates))


def with_stage(check: Check, name: str, **numbers: Any) -> Check:
    """The check with other numbers of one stage, and its gates made of them by the same bounds."""
    result = replace(stage_of(check, name), **numbers)
    bounds = {one.metric: one.bound for one in check.gates if one.stage == name}
    changed = (
        [at_least(subject_of(name), "agreement", number(result.agreement), number(bounds["agreement"]), "{:.2%}")]
        if name == CODES
        else stage_gates(result, number(bounds["cos_mean"]), number(bounds["cos_min"]))
    )
    found = replace(check, stages=tuple(result if one.name == name else one for one in check.stages))
    return with_gates(found, *changed)


def with_steps(check: Check, changed: Steps) -> Check:
    """The check with other steps, and their gates."""
    return with_gates(replace(check, steps=changed), *step_gates(changed, STEP_THRESHOLD, ROLE))


def stage_of(check: Check, name: str) -> StageResult:
    return next(one for one in check.stages if one.name == name)


def without_stages(check: Check, names: Iterable[str]) -> Check:
    """The check without what these stages measured, and their gates."""
    names = set(names)
    stages = tuple(one for one in check.stages if one.name not in names)
    return replace(check, stages=stages, gates=tuple(one for one in check.gates if one.stage not in names))


def without_reference(check: Check) -> Check:
    """The check of a run that was compared with nothing."""
    return replace(check, passed=None, reference=None, stages=(), gates=(), steps=None)


def tokenizer_alone(check: Check) -> Check:
    """The check of the audio tokenizer's file without the other."""
    return replace(
        check,
        files=check.files[1:],
        clip=replace(check.clip, text=None),
        stages=tuple(one for one in check.stages if one.role == TOKENIZER_ROLE),
        gates=tuple(one for one in check.gates if one.role == TOKENIZER_ROLE),
        steps=None,
        transcript=None,
        token_ids=(),
        words=None,
    )


# ── tensors, lint, conversions ───────────────────────────────────────────────────────────────────────────────────

EXPECTED = {"q4_k": 0.0712, "q6_k": 0.0166, "q8_0": 0.0055, "f16": 1.7e-4, "f32": 0.0}


def tensor(i: int) -> TensorResult:
    kinds = "attn.qkv", "attn.o", "ffn.gate", "ffn.up", "ffn.down", "attn_norm", "ffn_norm"
    kind = kinds[i % len(kinds)]
    ggml_type = "f32" if "norm" in kind else "q6_k" if kind == "ffn.down" and i % 4 == 0 else "q4_k"
    expected = EXPECTED[ggml_type] * (0.95 + 0.1 * wave(i))
    return TensorResult(
        f"model.layers.{i // len(kinds)}.{kind}.weight", ggml_type, 4096, expected, expected, 1 - expected**2 / 2, 4096,
        17 * i % 4096, expected * 1.3, expected * 1.3,
    )  # fmt: skip


def tensor_check(tensors: Iterable[TensorResult], findings: tuple[str, ...] = ()) -> TensorCheck:
    every = tuple(tensors)
    gates = tensor_gates(ROLE, findings, every)
    return TensorCheck(
        file="/models/mimo-asr-q4_k.gguf", source="XiaomiMiMo/MiMo-V2.5-ASR", lossless=True, judged_by="bytes",
        judged_why="a changed byte of any weight fails", passed=all(one.passed for one in gates), seconds=61.5,
        bytes_read=20_573_000_000, findings=findings, tensors=every, gates=gates,
    )  # fmt: skip


def tensors(n: int = 600) -> TensorCheck:
    return tensor_check(map(tensor, range(n)))


RULES = ("structure", "architecture", "metadata", "tensors", "shapes", "tokens", "merges", "types", "numbers", "scales")


def lint(findings: tuple[str, ...] = (), rule: str = "merges", file: str = "/models/mimo-asr-q4_k.gguf") -> LintResult:
    """The lint of a file, with findings of one rule."""
    rules = tuple(RuleResult(name, 37 * (i + 1) ** 3, findings if name == rule else ()) for i, name in enumerate(RULES))
    return lint_of(rules, file)


def lint_of(rules: tuple[RuleResult, ...], file: str) -> LintResult:
    gates = tuple(no_findings(Subject(ROLE, one.name, LINT), one.findings) for one in rules)
    return LintResult(file, 4_523_915_264, 9.8, all(one.passed for one in gates), rules, gates)


def conversion() -> Conversion:
    return Conversion(
        file="mimo-asr-q4_k.gguf", type="q4_k", layout="fused", bytes=4_523_915_264, weights=8_019_000_000,
        bits_per_weight=4.51, tensor_types={"q4_k": 401, "f32": 243}, quantizer="simd",
        fallbacks={"llm.blk.0.attn.q.weight": "rows of 32 are not a multiple of 256: q4_0"},
        promoted_to_f32=("model.layers.35.ffn.down.weight",), skipped={"encoder.rope.inv_freq": "is computed"},
    )  # fmt: skip


# ── reports ──────────────────────────────────────────────────────────────────────────────────────────────────────


def report() -> Report:
    """A report of everything, all of which passed."""
    return Report(
        command="mimo-convert", passed=True,
        versions={"python": "3.11.7", "mimo-convert": "0.5.0", "numpy": "2.4.6", "torch": "2.13.0"},
        conversions=(conversion(),), lint=(lint(),), tensors=(tensors(),), checks=(check(),),
        memory={"peak_rss": 6_123_000_000},
    )  # fmt: skip


def publication_of(checks: Iterable[Check], **more: Any) -> Publication:
    """Of every file that was run."""
    files = {PurePath(one.file).name: one for check in checks for one in check.files}
    listed = tuple(PublishedFile(name, one.sha256, one.bytes) for name, one in files.items())
    return Publication("someone/MiMo-V2.5-ASR-GGUF", listed, **more)


def published_report() -> Report:
    """One of two pairs, and where they are to be published."""
    first = check()
    lm = replace(
        first.main, file="/models/mimo-asr-q8_0.gguf", bytes=8_530_000_000, type="q8_0", outtype="q8_0",
        bits_per_weight=8.5, sha256="89abcdef01234567" * 4,
    )  # fmt: skip
    memory = {"mapped": 8_932_653_184, "repacked": 0, "working": 612_000_000}
    checks = (first, replace(first, files=(lm, first.files[1]), memory=memory))
    return replace(report(), command="mimo-publish", checks=checks, publication=publication_of(checks))


def failed_check() -> Check:
    """On a clip that was heard wrongly: two layers, the last hidden state, the vocabulary and the steps failed."""
    found = check("/clips/talk.flac")
    for name in ("layer_20", "layer_21", LAST_HIDDEN):
        found = with_stage(found, name, cos_mean=0.61, cos_min=-0.2, rel_rmse=0.93)
    found = with_gates(found, vocabulary_gate(False), top1_gate(11))
    assert found.steps is not None
    every = list(found.steps.steps)
    every[3] = replace(every[3], kl=8.0, top1=5, rank=411, probability=1e-5)
    found = with_steps(found, replace(found.steps, kl_mean=0.5, kl_max=8.0, steps=tuple(every)))
    heard = "And so my fellow American ask not what you're country can do for you for you. Ask what can do"
    return replace(found, transcript=heard, words=count_words(JFK_TEXT, heard))


def failed_report() -> Report:
    """One in which something of every kind failed: two clips, of which the second was heard wrongly."""
    compared = list(tensors().tensors)
    for i in (30, 31, 32):
        findings = tuple(f"row {row} has a relative RMSE of 0.31, 0.07 is expected" for row in range(9))
        compared[i] = replace(compared[i], rel_rmse=0.31, cosine=0.95, equal_rows=4000, findings=findings)
    checks = check(), failed_check()
    [first, second] = [one.words for one in checks]
    assert first is not None
    assert second is not None
    return replace(
        report(), command="mimo-check", passed=False, conversions=(),
        lint=(lint(("the merge '# #' is missing", "… and 95 more")),),
        tensors=(tensor_check(compared, ("tensor model.norm.weight of the source is missing",)),),
        checks=checks, words=AllWords(2, first + second),
    )  # fmt: skip


NOT_TEXTS = {"kind", "metric", "schema"}  # that decide how something is shown


def spoiled(value: Any, hostile: str) -> Any:
    """The same record with `hostile` behind every text in it, but for keys and what decides how something is shown."""
    if isinstance(value, str):
        return value + hostile
    if is_dataclass(value) and not isinstance(value, type):
        names = {one.name for one in fields(value) if one.init} - NOT_TEXTS
        return replace(value, **{name: spoiled(getattr(value, name), hostile) for name in names})
    if isinstance(value, Mapping):
        return {key: spoiled(entry, hostile) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(spoiled(entry, hostile) for entry in value)
    return value


# ── files side by side ───────────────────────────────────────────────────────────────────────────────────────────


def side_by_side() -> Report:
    """Two files on two clips that a calibration holds out; the second predicted its KL divergence, and loops once."""
    whole, names = check(), ("mimo-asr-q4_k.gguf", "mimo-asr-q4_k-mix.gguf")
    checks = []
    for name, factor in zip(names, (1.0, 0.5), strict=True):
        for i, clip in enumerate(("one", "two")):
            assert whole.steps is not None
            kls = [(i + 1) * factor * number(one.kl) for one in whole.steps.steps]
            every = tuple(replace(one, kl=kl) for one, kl in zip(whole.steps.steps, kls, strict=True))
            facts = replace(file(name, 4_523_915_264), sha256=f"{len(name):064}")
            predicted = replace(facts, chosen=ChosenTypes("4.5bpw", 0.00321) if factor < 1 else None)
            found = with_steps(whole, replace(whole.steps, kl_mean=sum(kls) / len(kls), kl_max=max(kls), steps=every))
            loop = Loop("and so", 12, 36) if factor < 1 and i else None
            clip_facts = replace(whole.clip, file=f"/clips/{clip}.wav", sha256=clip)
            checks.append(replace(found, files=(predicted, *whole.files[1:]), clip=clip_facts, loop=loop))
    held_out = HeldOut("calibration.gguf", "ab" * 32, True, True)
    return replace(report(), checks=tuple(checks), fidelity=fidelity_of(checks, held_out))
