"""Teacher forcing: both models are given the same response, and their logits are compared at each of its tokens.

Every step is conditioned on the same tokens, so that an early difference does not hide later ones.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from runtime_check.gate import CACHED, LOGITS, STEPS, Gate, Subject, at_least, at_most

from ..activations import INCREMENTAL_LOGITS, RESPONSE, RESPONSE_LOGITS, Stages
from ..records import StepResult, Steps
from .measures import kl_divergence, log_softmax, relative_rmse
from .thresholds import StepThreshold

Logits = npt.NDArray[np.float32]  # (vocab_size,)


def compare_steps(ours: Stages, theirs: Stages, tokens: Sequence[str]) -> Steps:
    """Compare the logits of two models step by step over one RESPONSE, whose `tokens` are given as text.

    RESPONSE_LOGITS of both sides, and INCREMENTAL_LOGITS of ours, are (tokens, vocab_size) float32.
    """
    columns = ours[RESPONSE].tolist(), tokens, ours[RESPONSE_LOGITS], theirs[RESPONSE_LOGITS], ours[INCREMENTAL_LOGITS]
    with np.errstate(all="ignore"):  # what is not finite fails by its threshold
        steps = tuple(compare_step(*row) for row in zip(*columns, strict=True))
        return Steps(
            tokens=len(steps),
            top1_agreement=float(np.mean([step.top1 == step.reference_top1 for step in steps])),
            kl_mean=float(np.mean([step.kl for step in steps])),
            kl_max=float(np.max([step.kl for step in steps])),
            cached_rel_rmse=relative_rmse(ours[INCREMENTAL_LOGITS], ours[RESPONSE_LOGITS]),
            cached_kl_max=float(np.max([step.cached_kl for step in steps])),
            steps=steps,
        )


def compare_step(token_id: int, text: str, ours: Logits, theirs: Logits, cached: Logits) -> StepResult:
    """Compare the logits of one step, (vocab_size,): ours, the reference's, and ours of incremental decoding."""
    p, q = log_softmax(ours), log_softmax(theirs)
    expected = int(theirs.argmax())
    return StepResult(
        id=token_id,
        text=text,
        top1=int(ours.argmax()),
        reference_top1=expected,
        kl=kl_divergence(q, p),
        rank=1 + int((ours > ours[expected]).sum()),
        probability=float(np.exp(p[expected])),
        reference_probability=float(np.exp(q[expected])),
        cached_kl=kl_divergence(p, log_softmax(cached)),
    )


def step_gates(steps: Steps, threshold: StepThreshold, role: str) -> Iterator[Gate]:
    """The gates over all steps."""
    worst = max(range(steps.tokens), key=lambda i: steps.steps[i].kl or 0.0)
    subject = Subject(role, STEPS, LOGITS)
    note = f", over {steps.tokens} steps"
    yield at_least(subject, "top1_agreement", number(steps.top1_agreement), threshold.top1, "{:.1%}", note)
    note = f" nats a step; the largest is {number(steps.kl_max):.6f}, at step {worst}"
    yield at_most(subject, "kl_mean", number(steps.kl_mean), threshold.kl_mean, "{:.6g}", note)
    note = ", incremental to full decoding"
    subject = Subject(role, CACHED, LOGITS)
    yield at_most(subject, "rel_rmse", number(steps.cached_rel_rmse), threshold.incremental_rmse, "{:.6g}", note)


def number(value: float | None) -> float:
    """A measured value; NaN, which fails every gate, if there is none."""
    return float("nan") if value is None else value
