"""What a file of each type must reach to pass, in one table.

A row holds for the stages of its file: those of the audio tokenizer are judged by that file's type, those of the
speech LM by its own. F32, F16 and BF16 files must equal an fp32 reference to 0.999 everywhere. The others start from
what was measured (docs/gates.md), with a margin.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Gate:
    """Least cos_mean and cos_min of a stage over its positions."""

    cos_mean: float
    cos_min: float


@dataclass(frozen=True)
class Gates:
    """One row: `stages` by pattern, first match; least share of equal codes; whether the first token must be equal."""

    stages: tuple[tuple[str, Gate], ...]
    code_agreement: float
    first_token: bool = True

    def of(self, stage: str) -> Gate:
        return next(gate for pattern, gate in self.stages if re.fullmatch(pattern, stage))


EXACT = Gates(stages=((".*", Gate(0.999, 0.999)),), code_agreement=0.995)


def _quantized(cos_mean: float, cos_min: float, code_agreement: float, first_token: bool = True) -> Gates:
    """The front end and the convolutions are never quantized, so their stages must be exact in every file."""
    exact = ("tok_(mel|conv1|conv2)", Gate(0.999, 0.999))
    return Gates((exact, (".*", Gate(cos_mean, cos_min))), code_agreement, first_token)


GATES: dict[str, Gates] = {
    "f32": EXACT,
    "f16": EXACT,
    "bf16": EXACT,
    "q8_0": _quantized(0.99, 0.98, 0.8),
    "q6_k": _quantized(0.99, 0.98, 0.8),
    "q5_k": _quantized(0.99, 0.98, 0.8),
    "q4_k": _quantized(0.99, 0.98, 0.8),
    "q3_k": _quantized(0.99, 0.98, 0.8),
    "q2_k": _quantized(0.99, 0.98, 0.8),
    "q5_1": _quantized(0.99, 0.98, 0.8),
    "q5_0": _quantized(0.99, 0.98, 0.8),
    "q4_1": _quantized(0.99, 0.98, 0.8),
    "q4_0": _quantized(0.99, 0.98, 0.8),
    "iq4_nl": _quantized(0.99, 0.98, 0.8),
    "iq4_xs": _quantized(0.99, 0.98, 0.8),
}
