"""Results as a table for the terminal, part by part."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from mimo_convert.formats.tensor import shape_text
from mimo_convert.model.imatrix_facts import imatrix_words
from mimo_convert.numbers_text import brief, decimals, rate
from mimo_convert.plan.feedback import feedback_of_text, methods_words
from mimo_convert.terminal import wrapped
from quantize.quoting import quoted
from runtime_check.choices import AUTO, SPEECH
from runtime_check.gate import OF_THEIR_OWN, Gate, Subject
from runtime_check.run.compare.fidelity import Fidelity
from runtime_check.run.records import Check, FileFacts, StageResult, Steps
from runtime_check.static.records import LintResult
from runtime_check.tensors.records import TensorCheck

from .records import file_name
from .speech import speech_text, words_of

LONGEST_PIECE, LONGEST_REASON = 60, 1000  # characters of a token, and of why something failed
MOST_LINES = 10  # of tensors, or steps; the other reports have all
LABEL = "{:<12}".format
ROW = "{:<26} {:>9}  {:>9} {:>9} {:>9}  {:>13}  {}".format
HEAD = ROW("stage", "shape", "cos mean", "cos min", "rel RMSE", "thresholds", "").rstrip()
FIDELITY_ROW = "{:<32} {:>13} {:>5}  {:<27} {:>9} {:>9} {:>7}  {:<18} {:>9} {:>5}".format
FIDELITY_HEAD = FIDELITY_ROW(
    "file", "bytes", "bits", "KL mean (95 % of draws)", "median", "99 %", "top-1", "to the first", "predicted", "loops"
)
# Gates of no stage's cosines, by their metric: the word for it, if not the stage's name, and how numbers are written.
WRITTEN = {
    "agreement": ("", "{:.2%}"),
    "cos_median": ("  median over positions", "{:.6f}"),
    "top1_agreement": ("top-1 token", "{:.1%}"),
    "kl_mean": ("KL divergence", "{:.3g}"),
    "rel_rmse": ("incremental vs. full", "{:.3g}"),
    "head_top1": ("top-1", "{:.1%}"),
    "head_kl": ("KL", "{:.3g}"),
    "snr_db": ("", "{:.1f} dB"),
    "log_mel": ("", "{:.2g}"),
}
TIMINGS = {
    "load_s": "load {:.3f} s", "repack_s": "repack {:.2f} s", "tokenize_s": "tokenize {:.2f} s",
    "encode_s": "encode audio {:.2f} s", "speak_s": "generate {:.2f} s", "decode_s": "decode audio {:.2f} s",
    "prefill_s": "prefill {:.3f} s", "ms_per_token": "{:.2f} ms per token", "proof_s": "teacher forcing {:.2f} s",
    "reference_s": "reference {:.1f} s",
}  # fmt: skip


def check_as_text(check: Check, *, with_files: bool = True) -> str:
    """A check as a table, ending in PASS, FAIL with every failure, or NOT COMPARED."""
    lines = [line for file in check.files for line in _file_lines(file)] if with_files else []
    clip = check.clip
    length = f"{clip.seconds:.1f} s, " if clip.seconds else ""
    lines.append(f"{quoted(file_name(clip.file))}  {length}{_task_text(check)}")
    if check.gates:
        lines += ["", HEAD, *_gate_lines(check), *_step_lines(check.steps), ""]
    elif with_files:
        lines.append("")
    lines += _words(check)
    lines.append(_timing_line(check.timings))
    lines += [*([f"products of {check.multiplied_by}"] if check.products else []), ""]
    if check.passed is None:
        return "\n".join([*lines, "NOT COMPARED: no reference was given"])
    return "\n".join([*lines, *_pass_or_fail(check.passed, check.gates, "gates")])


def fidelity_as_text(found: Fidelity) -> str:
    """Files side by side over all clips, each value with its interval."""
    lines = [f"{quoted(found.about)}: KL divergence from the reference in nats a token", FIDELITY_HEAD]
    for file in found.files:
        kl, ratio = file.kl_mean, file.of_first
        cells = (
            f"{file.bytes:,}",
            decimals(file.bits_per_weight),
            f"{brief(kl.value)} ({brief(kl.low)} … {brief(kl.high)})",
            brief(file.kl_median.value),
            brief(file.kl_p99.value),
            rate(file.top1.value),
            f"{decimals(ratio.value)} ({decimals(ratio.low)} … {decimals(ratio.high)})",
            brief(file.predicted_kl),
            f"{file.loops}" if file.loops else "",
        )
        lines.append(FIDELITY_ROW(quoted(file_name(file.file)), *cells).rstrip())
    return "\n".join(lines)


def _words(check: Check) -> Iterator[str]:
    """The transcript with the text that it is compared with; of speech, also what was written beside it."""
    if check.transcript is None:
        return
    names = words_of(check)
    if check.speech and check.speech.reply == SPEECH and check.speech.text:
        yield wrapped(LABEL("written"), check.speech.text)
    yield wrapped(LABEL(names.transcript), check.transcript)
    if check.words is not None:
        yield wrapped(LABEL(names.reference), check.clip.text or "")
        yield f"word error rate {check.words.rate or 0:.1%}"
    if check.loop:
        loop = check.loop
        yield f"LOOP: {quoted(repr(loop.text), LONGEST_PIECE)} stands {loop.times} times in a row, {loop.tokens} tokens"


def _task_text(check: Check) -> str:
    """What was asked: `language auto: English, context 'Bayreuth', attention full`."""
    task = check.task
    if check.speech:
        return f"{task.name}: {speech_text(check.speech)}"
    found = f": {quoted(check.language)}" if check.language.lower() not in ("", task.language) else ""
    context = [f"context {quoted(repr(task.context), 60)}"] if task.context else []
    attention = [f"attention {task.attention}"] if task.attention != AUTO else []
    runtime = [f"as {quoted(task.runtime)} computes"] if task.runtime else []
    return ", ".join([f"language {task.language}{found}", *context, *attention, *runtime])


def lint_as_text(part: LintResult, *, brief: bool = False) -> str:
    """The lint of a file, a line per rule; `brief`: one line if it passed."""
    name = quoted(file_name(part.file))
    if brief and part.passed:
        return f"{name}: {len(part.rules)} lint rules hold"
    lines = [f"{name}  {part.bytes:,} bytes, read in {part.seconds:.1f} s", ""]
    row = "{:<26} {:>12}  {}".format
    lines += [row(rule.name, f"{rule.checked:,}", _ok(not rule.findings)) for rule in part.rules]
    return "\n".join([*lines, "", *_pass_or_fail(part.passed, part.gates, "rules")])


def tensors_as_text(part: TensorCheck) -> str:
    """The tensor comparison of a file: the tensors with the largest error."""
    lines = [
        f"{quoted(file_name(part.file))} against {quoted(part.source)}  {len(part.tensors)} tensors, "
        f"{part.bytes_read:,} bytes read in {part.seconds:.1f} s",
        f"blocks are compared by {part.judged_by}: {part.judged_why}",
        "",
    ]
    row = "{:<46} {:<7} {:>9} {:>9} {:>9}  {}".format
    lines.append(row("tensor", "type", "rel RMSE", "expected", "cosine", "equal rows"))
    by_error = sorted(part.tensors, key=lambda t: (not t.findings, -(t.rel_rmse or 0.0)))
    for t in by_error[:MOST_LINES]:
        verdict = "FAIL" if t.findings else ""
        rows = f"{t.equal_rows:,} of {t.rows:,}"
        errors = map(_decimals, (t.rel_rmse, t.expected_rel_rmse, t.cosine))
        lines.append(row(quoted(t.name), t.type, *errors, f"{rows}  {verdict}").rstrip())
    if len(part.tensors) > MOST_LINES:
        lines.append(f"… and {len(part.tensors) - MOST_LINES} more with less error")
    return "\n".join([*lines, "", *_pass_or_fail(part.passed, part.gates, "tensors and keys")])


def _file_lines(facts: FileFacts) -> Iterator[str]:
    layout = f", {facts.layout} QKV" if facts.layout == "fused" else ""
    quantizer = f", quantized by {facts.quantizer}" if facts.quantizer else ""
    bits = f"{facts.bits_per_weight or 0:.2f} bits per weight"
    name = quoted(file_name(facts.file))
    yield f"{name}  {facts.label}{layout}, {facts.bytes:,} bytes, {bits}{quantizer}, sha256 {facts.sha256[:16]}…"
    if imatrix := imatrix_words(facts.provenance):
        methods = methods_words(feedback_of_text(facts.provenance.feedback))
        yield f"  importance matrix {quoted(imatrix)}{f'; matrices: {methods}' if methods else ''}"


def _gate_lines(check: Check) -> Iterator[str]:
    """A row per gate subject, in order."""
    results = {(one.role, one.name): one for one in check.stages}
    for subject, group in groupby(check.gates, key=lambda gate: gate.subject):
        gates = {gate.metric: gate for gate in group}
        result = results.get((subject.role, subject.stage))
        if result and result.cos_mean is not None:
            yield _stage_line(result, gates)
            gates = {metric: gate for metric, gate in gates.items() if metric in OF_THEIR_OWN}
        yield from (_line(subject, gate) for gate in gates.values())


def _stage_line(result: StageResult, gates: Mapping[str, Gate]) -> str:
    bounds = [gates[metric].bound for metric in ("cos_mean", "cos_min") if metric in gates]
    thresholds = " / ".join(f"{bound:.3f}" for bound in bounds)
    cells = map(_decimals, (result.cos_mean, result.cos_min, result.rel_rmse))
    passed = all(gate.passed for metric, gate in gates.items() if metric not in OF_THEIR_OWN)
    return ROW(result.name, shape_text(result.shape), *cells, thresholds, _ok(passed))


def _line(subject: Subject, gate: Gate) -> str:
    """A gate that is not about a stage's values."""
    if gate.metric in WRITTEN:
        word, form = WRITTEN[gate.metric]
        value, bound = ("–" if number is None else form.format(number) for number in (gate.value, gate.bound))
        of_head = gate.metric.startswith("head_")
        name = subject.stage if of_head else word or subject.stage
        return ROW(name, word if of_head else "", value, "", "", bound, _ok(gate.passed))
    name = "first top-1 token" if gate.metric == "top1" else subject.stage
    found = "equal" if gate.value else "differs"
    word = _ok(gate.passed) if gate.value or not gate.passed else "differs"
    return ROW(name, found, "", "", "", "equal", word)


def _step_lines(steps: Steps | None) -> Iterator[str]:
    """The steps whose top-1 token differs from the reference's."""
    if steps is None:
        return
    differing = [(i, step) for i, step in enumerate(steps.steps) if step.top1 != step.reference_top1]
    for i, step in differing[:MOST_LINES]:
        piece = quoted(repr(step.text), LONGEST_PIECE)
        yield (
            f"  step {i} ({piece}): the reference's token {step.reference_top1} has rank {step.rank}, and "
            f"probability {step.probability:.4f} where the reference gives it {step.reference_probability:.4f}"
        )


def _timing_line(timings: Mapping[str, float]) -> str:
    return "  ·  ".join(text.format(timings[name]) for name, text in TIMINGS.items() if name in timings)


def _decimals(value: float | None) -> str:
    return "–" if value is None else f"{value:.6f}"


def _ok(passed: bool) -> str:
    return "ok" if passed else "FAIL"


def _pass_or_fail(passed: bool, gates: Sequence[Gate], what: str) -> list[str]:
    if passed:
        return ["PASS"]
    failed = [line for gate in gates for line in gate.failures]
    return [f"FAIL: {len(failed)} of the {what}", *(f"  {quoted(why, LONGEST_REASON)}" for why in failed)]
