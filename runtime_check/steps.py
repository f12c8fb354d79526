"""Decoding, step by step: two models follow the same answer, and at each token their logits are compared.

Whatever was said before, both are asked what comes next; so one early slip does not hide what comes after it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .activations import ANSWER, ANSWER_LOGITS, CACHED_LOGITS, Stages
from .gates import StepGate
from .measures import kl_divergence, log_softmax, relative_rmse

Logits = npt.NDArray[np.float32]  # (vocab_size,)


@dataclass(frozen=True)
class StepResult:
    """One token of the answer, `id`: the likeliest token by ours and by the reference, the KL divergence (nats) of ours
    from the reference, the rank (1 is first) and probability that ours gives the reference's likeliest token, which the
    reference gives `reference_probability`; and the KL divergence of decoding with a cache from one pass over all."""

    id: int
    top1: int
    reference_top1: int
    kl: float
    rank: int
    probability: float
    reference_probability: float
    cached_kl: float


@dataclass(frozen=True)
class Steps:
    """Every step; how far decoding with a cache is from one pass, as a relative RMSE of all logits; and what both were
    judged by."""

    steps: list[StepResult]
    cached_rmse: float
    gate: StepGate

    @property
    def top1_agreement(self) -> float:
        return float(np.mean([step.top1 == step.reference_top1 for step in self.steps]))

    @property
    def kl_mean(self) -> float:
        return float(np.mean([step.kl for step in self.steps]))

    @property
    def kl_max(self) -> float:
        return float(np.max([step.kl for step in self.steps]))

    @property
    def cached_kl_max(self) -> float:
        return float(np.max([step.cached_kl for step in self.steps]))

    @property
    def top1_passed(self) -> bool:
        return self.top1_agreement >= self.gate.top1

    @property
    def kl_passed(self) -> bool:
        return self.kl_mean <= self.gate.kl_mean  # which NaN is not

    @property
    def cached_passed(self) -> bool:
        return self.cached_rmse <= self.gate.cached_rmse

    @property
    def problems(self) -> list[str]:
        """Every gate that was missed, in words."""
        found = []
        worst = max(range(len(self.steps)), key=lambda i: self.steps[i].kl)
        if not self.top1_passed:
            found.append(
                f"{ANSWER_LOGITS}: the likeliest token is the reference's at {self.top1_agreement:.1%} of "
                f"{len(self.steps)} steps, at least {self.gate.top1:.1%} must be"
            )
        if not self.kl_passed:
            found.append(
                f"{ANSWER_LOGITS}: KL divergence {self.kl_mean:.6f} nats a step is above {self.gate.kl_mean:g}; "
                f"the worst is {self.kl_max:.6f} at step {worst}"
            )
        if not self.cached_passed:
            found.append(
                f"{CACHED_LOGITS}: decoding with the KV cache differs from one pass over prompt and answer by a "
                f"relative RMSE of {self.cached_rmse:.6f}, at most {self.gate.cached_rmse:g} may be"
            )
        return found


def compare_steps(ours: Stages, theirs: Stages, gate: StepGate) -> Steps:
    """ANSWER_LOGITS of both, (tokens, vocab_size), which follow the same ANSWER; and CACHED_LOGITS of ours."""
    rows = zip(ours[ANSWER].tolist(), ours[ANSWER_LOGITS], theirs[ANSWER_LOGITS], ours[CACHED_LOGITS], strict=True)
    with np.errstate(all="ignore"):  # what is not finite fails by its gate
        steps = [compare_step(*row) for row in rows]
        return Steps(steps, relative_rmse(ours[CACHED_LOGITS], ours[ANSWER_LOGITS]), gate)


def compare_step(id: int, ours: Logits, theirs: Logits, cached: Logits) -> StepResult:
    """Logits of one step, ours and the reference's, and ours from a KV cache."""
    p, q = log_softmax(ours), log_softmax(theirs)
    expected = int(theirs.argmax())
    return StepResult(
        id=id,
        top1=int(ours.argmax()),
        reference_top1=expected,
        kl=kl_divergence(q, p),
        rank=1 + int((ours > ours[expected]).sum()),
        probability=float(np.exp(p[expected])),
        reference_probability=float(np.exp(q[expected])),
        cached_kl=kl_divergence(p, log_softmax(cached)),
    )
