"""Two runs → the cosine of every stage, judged by the gates."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .activations import (
    ANSWER,
    ANSWER_LOGITS,
    CACHED_LOGITS,
    CODES,
    FIRST_LOGITS,
    GREEDY,
    PROMPT,
    Stages,
    is_of_tokenizer,
)
from .gates import GATES, Gate, code_gate
from .measures import cosines, norm_ratio, relative_rmse
from .steps import Steps, compare_steps

NOT_COSINES = (CODES, PROMPT, GREEDY, ANSWER, ANSWER_LOGITS, CACHED_LOGITS)


@dataclass(frozen=True)
class StageResult:
    """A stage over the positions that were compared: cosines, the root mean square of what differs by that of the
    reference, and its norm by the reference's. `problem` says why it fails, "" if it passes."""

    name: str
    shape: tuple[int, ...]
    compared: int
    cos_mean: float
    cos_min: float
    rel_rmse: float
    scale: float
    gate: Gate
    problem: str


@dataclass(frozen=True)
class Comparison:
    """All that was compared. What was not there to compare (a tokenizer alone has no prompt) is None."""

    stages: list[StageResult]
    code_agreement: float
    code_gate: float
    vocabulary_equal: bool | None
    prompt_equal: bool | None
    first_token: tuple[int, int] | None  # ours, the reference's
    steps: Steps | None
    reasons: list[str]  # every failed gate, in words

    @property
    def passed(self) -> bool:
        return not self.reasons


def compare(
    ours: Stages, theirs: Stages, lm_type: str, tokenizer_type: str, vocabulary_equal: bool | None = None,
    transcripts: tuple[str, str] | None = None, reference_dtype: str = "",
) -> Comparison:  # fmt: skip
    """Compare our stages with the reference's, whose speech LM stages were fed the same codes.

    `lm_type` and `tokenizer_type` choose the rows of the gates' table. `theirs` has every stage that `ours` has.
    `transcripts` is what the reference's answer spells by our vocabulary, and by its own; `reference_dtype` what the
    reference was computed in, if PyTorch did it.
    """
    stages = []
    for name, stage in ours.items():
        if name not in NOT_COSINES:
            gates = GATES[tokenizer_type if is_of_tokenizer(name) else lm_type]
            stages.append(compare_stage(name, stage, theirs[name], gates.of(name)))
    problems = [stage.problem for stage in stages if stage.problem]  # each begins with the stage's name
    reasons = [problem for problem in problems if is_of_tokenizer(problem)]

    least = code_gate(tokenizer_type, reference_dtype)
    agreement = code_agreement(ours[CODES], theirs[CODES])
    if agreement < least:
        reasons.append(f"{CODES}: {agreement:.2%} of the codes are equal, at least {least:.2%} must be")

    if vocabulary_equal is False:
        reasons.append("vocabulary: its tokens or merges are not the reference's")
    if transcripts and transcripts[0] != transcripts[1]:
        reasons.append("transcript: the reference's answer spells {!r}, in the reference {!r}".format(*transcripts))
    prompt_equal = first_token = steps = None
    if PROMPT in ours:
        prompt_equal = bool(np.array_equal(ours[PROMPT], theirs[PROMPT]))
        if not prompt_equal:
            reasons.append(f"{PROMPT}: {describe_difference(ours[PROMPT], theirs[PROMPT])}")
        reasons += [problem for problem in problems if not is_of_tokenizer(problem)]
        first_token = int(ours[FIRST_LOGITS].argmax()), int(theirs[FIRST_LOGITS].argmax())
        if GATES[lm_type].first_token and first_token[0] != first_token[1]:
            reasons.append(f"{FIRST_LOGITS}: the first token is {first_token[0]}, the reference's is {first_token[1]}")
        shapes = ours[ANSWER_LOGITS].shape, theirs[ANSWER_LOGITS].shape
        if shapes[0] == shapes[1]:
            steps = compare_steps(ours, theirs, GATES[lm_type].steps)
            reasons += steps.problems
        else:
            reasons.append(f"{ANSWER_LOGITS}: of shape {shapes[0]}, the reference has {shapes[1]}")
    return Comparison(stages, agreement, least, vocabulary_equal, prompt_equal, first_token, steps, reasons)


def compare_stage(name: str, ours: npt.NDArray[Any], theirs: npt.NDArray[Any], gate: Gate) -> StageResult:
    """One stage. It has a problem if it is below its gate, of another shape, or not finite on either side."""
    if ours.shape != theirs.shape:
        problem = f"{name}: of shape {ours.shape}, the reference has {theirs.shape}"
        return StageResult(name, theirs.shape, 0, 0.0, 0.0, 1.0, 0.0, gate, problem)
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return StageResult(name, theirs.shape, 0, 0.0, 0.0, 1.0, 0.0, gate, f"{name}: holds NaN or infinity")
    cos = cosines(ours, theirs)
    mean, least = (float(cos.mean()), float(cos.min())) if len(cos) else (1.0, 1.0)
    below = [
        f"{label} {value:.6f} is below {wanted} by {wanted - value:.6f}"
        for label, value, wanted in (("cos_mean", mean, gate.cos_mean), ("cos_min", least, gate.cos_min))
        if value < wanted
    ]
    scale = norm_ratio(ours, theirs)
    if not 1 / gate.scale <= scale <= gate.scale:  # which no cosine sees
        below.append(f"its norm is {scale:.4f} times the reference's, at most {gate.scale:.4f} may be, up or down")
    problem = f"{name}: {', '.join(below)}" if below else ""
    return StageResult(name, theirs.shape, len(cos), mean, least, relative_rmse(ours, theirs), scale, gate, problem)


def code_agreement(ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> float:
    """Share of equal codes; codes of another shape share nothing."""
    return float((ours == theirs).mean()) if ours.shape == theirs.shape else 0.0


def describe_difference(ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> str:
    """Where two prompts differ first, in words."""
    if ours.shape != theirs.shape:
        return f"shape {ours.shape}, the reference's is {theirs.shape}"
    row, position = np.argwhere(ours != theirs)[0]
    where = "text" if row == 0 else f"channel {row - 1}"
    return f"{where} at position {position} is {ours[row, position]}, the reference's is {theirs[row, position]}"
