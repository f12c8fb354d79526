"""What was found as a table for a person, part by part."""

from collections.abc import Sequence

from mimo_convert.stored import shape_text
from mimo_convert.terminal import wrapped
from quantize.quoting import quoted

from .activations import CODES, PROMPT, is_of_tokenizer
from .check import Check, FileFacts
from .compare import Comparison
from .static_check import StaticCheck
from .steps import Steps
from .tensor_check import TensorCheck

LONGEST_PIECE, LONGEST_REASON = 60, 1000  # characters of a token, and of why something failed
MOST_LINES = 10  # of tensors, or steps; the other reports have all
ROW = "{:<26} {:>9}  {:>9} {:>9} {:>9}  {:>13}  {}".format


def as_text(check: Check, *, with_files: bool = True) -> str:
    """One check as a table, ending in PASS, FAIL with every reason, or NOT COMPARED."""
    lines = []
    if with_files:
        lines += [_file_line(check.speech_lm, f", {check.speech_lm.layout} QKV")] if check.speech_lm else []
        lines.append(_file_line(check.audio_tokenizer, ""))
    lines.append(f"{quoted(check.clip.path.name)}  {check.clip.seconds:.1f} s, language {check.run.origin.language}")
    if check.comparison:
        lines += ["", *_stage_lines(check.comparison), ""]
        if check.comparison.steps:
            lines += [*_step_lines(check.comparison.steps, check.pieces), ""]
    elif with_files:
        lines.append("")
    if check.speech_lm:
        lines.append(wrapped("transcript  ", check.run.transcript))
        if check.words is not None:
            lines.append(wrapped("expected    ", check.clip.text or ""))
            lines.append(f"word error rate {check.words.error_rate:.1%}")
    lines += [_timing_line(check.run.timings), ""]
    return "\n".join([*lines, *_verdict(check)])


def static_as_text(part: StaticCheck, *, brief: bool = False) -> str:
    """What was found in a file that was not run, a line a rule; `brief`: one line where all is well."""
    if brief and part.passed:
        return f"{quoted(part.path.name)}: {len(part.rules)} rules of a well-formed file hold"
    lines = [f"{quoted(part.path.name)}  {part.size:,} bytes, examined in {part.seconds:.1f} s", ""]
    row = "{:<26} {:>12}  {}".format
    lines += [row(rule.name, f"{rule.checked:,}", _ok(not rule.problems)) for rule in part.rules]
    return "\n".join([*lines, "", *_pass_or_fail(part.passed, part.reasons, "rules")])


def tensors_as_text(part: TensorCheck) -> str:
    """How a file's tensors compare with what they were made from: those with most error beyond what is expected."""
    lines = [
        f"{quoted(part.file.name)} against {quoted(part.source)}  {len(part.tensors)} tensors, "
        f"{part.bytes_read:,} bytes read in {part.seconds:.1f} s",
        f"blocks are judged by their {part.judged_by}: {part.why}",
        "",
    ]
    row = "{:<46} {:<7} {:>9} {:>9} {:>9}  {}".format
    lines.append(row("tensor", "type", "rel RMSE", "expected", "cosine", "equal rows"))
    by_error = sorted(part.tensors, key=lambda t: (not t.problems, -t.rel_rmse))
    for t in by_error[:MOST_LINES]:
        verdict = "FAIL" if t.problems else ""
        rows = f"{t.equal_rows:,} of {t.rows:,}"
        errors = f"{t.rel_rmse:.6f}", f"{t.expected_rel_rmse:.6f}", f"{t.cosine:.6f}"
        lines.append(row(quoted(t.name), t.type, *errors, f"{rows}  {verdict}").rstrip())
    if len(part.tensors) > MOST_LINES:
        lines.append(f"… and {len(part.tensors) - MOST_LINES} more with less error")
    return "\n".join([*lines, "", *_pass_or_fail(part.passed, part.reasons, "tensors and keys")])


def _file_line(facts: FileFacts, layout: str) -> str:
    quantizer = f", quantized by {facts.quantizer}" if facts.quantizer else ""
    return (
        f"{quoted(facts.path.name)}  {facts.type}{layout}, {facts.size:,} bytes, "
        f"{facts.bits_per_weight:.2f} bits per weight{quantizer}, sha256 {facts.sha256[:16]}…"
    )


def _stage_lines(comparison: Comparison) -> list[str]:
    """A row for each stage, in the order of the run: audio tokenizer, codes, prompt, speech LM, first token."""
    tokenizer: list[str] = []
    lm: list[str] = []
    for stage in comparison.stages:
        shape = shape_text(stage.shape)
        gates = f"{stage.gate.cos_mean:.3f} / {stage.gate.cos_min:.3f}"
        cells = f"{stage.cos_mean:.6f}", f"{stage.cos_min:.6f}", f"{stage.rel_rmse:.6f}"
        (tokenizer if is_of_tokenizer(stage.name) else lm).append(
            ROW(stage.name, shape, *cells, gates, _ok(not stage.problem))
        )
    equal, gate = comparison.code_agreement, comparison.code_gate
    tokenizer.append(ROW(CODES, "equal", f"{equal:.2%}", "", "", f"{gate:.1%}", _ok(equal >= gate)))
    for name, is_equal in ((PROMPT, comparison.prompt_equal), ("vocabulary", comparison.vocabulary_equal)):
        if is_equal is not None:
            found = "equal" if is_equal else "differs"
            lm.insert(0, ROW(name, found, "", "", "", "equal", _ok(is_equal)))
    if comparison.first_token:
        ours, theirs = comparison.first_token
        lm.append(ROW("first token", ours, "", "", "", theirs, "ok" if ours == theirs else "differs"))
    return [ROW("stage", "shape", "cos mean", "cos min", "rel RMSE", "gates", "").rstrip(), *tokenizer, *lm]


def _step_lines(steps: Steps, pieces: Sequence[str]) -> list[str]:
    """The steps of the answer together, and those where ours is farthest from the reference."""
    agreement, gate = f"{steps.top1_agreement:.1%}", f"{steps.gate.top1:.0%}"
    kl, rmse = (f"{steps.kl_mean:.6f}", f"{steps.kl_max:.6f}"), f"{steps.cached_rmse:.6f}"
    lines = [
        ROW("step", "", "all", "worst", "rel RMSE", "gate", "").rstrip(),
        ROW("likeliest token", "equal", agreement, "", "", gate, _ok(steps.top1_passed)),
        ROW("KL divergence", "nats", *kl, "", f"{steps.gate.kl_mean:g}", _ok(steps.kl_passed)),
        ROW("cached = full pass", "", "", "", rmse, f"{steps.gate.cached_rmse:g}", _ok(steps.cached_passed)),
    ]
    differing = [i for i, step in enumerate(steps.steps) if step.top1 != step.reference_top1]
    for i in differing[:MOST_LINES]:
        step = steps.steps[i]
        piece = quoted(repr(pieces[i]), LONGEST_PIECE)
        lines.append(
            f"  step {i} ({piece}): the reference's token {step.reference_top1} has rank {step.rank}, and "
            f"probability {step.probability:.4f} where the reference gives it {step.reference_probability:.4f}"
        )
    return lines


def _timing_line(timings: dict[str, float]) -> str:
    names = {"load_s": "load {:.3f} s", "repack_s": "repack {:.2f} s", "tokenize_s": "tokenize {:.2f} s",
             "prefill_s": "prefill {:.3f} s", "ms_per_token": "{:.2f} ms per token", "proof_s": "proof {:.2f} s",
             "reference_s": "reference {:.1f} s"}  # fmt: skip
    return "  ·  ".join(text.format(timings[name]) for name, text in names.items() if name in timings)


def _ok(passed: bool) -> str:
    return "ok" if passed else "FAIL"


def _verdict(check: Check) -> list[str]:
    if check.comparison is None:
        return ["NOT COMPARED: no reference was given"]
    return _pass_or_fail(check.comparison.passed, check.comparison.reasons, "gates")


def _pass_or_fail(passed: bool, reasons: Sequence[str], what: str) -> list[str]:
    return (
        ["PASS"]
        if passed
        else [f"FAIL: {len(reasons)} of the {what}", *(f"  {quoted(why, LONGEST_REASON)}" for why in reasons)]
    )
