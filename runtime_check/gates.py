"""What a file of each type must reach to pass, in one table.

A row holds for the stages of its file: those of the audio tokenizer are judged by that file's type, those of the
speech LM by its own. F32, F16 and BF16 files must equal an fp32 reference to 0.999 everywhere. For the others a stage
may be off by twice what was measured (docs/gates.md): on the tiny checkpoint, on a random one, and, for Q4_K, on the
published file of the full model, whose figures are carried to the other types by the error of their weights.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple


class Gate(NamedTuple):
    """Least cos_mean and cos_min of a stage over its positions."""

    cos_mean: float
    cos_min: float


@dataclass(frozen=True)
class Gates:
    """The gate of each kind of stage, the least share of equal codes, and whether the first token must be equal."""

    stages: dict[str, Gate]
    codes: float
    first_token: bool

    def of(self, stage: str) -> Gate:
        """The gate of a stage, by its name."""
        return next(gate for pattern, gate in self.stages.items() if re.fullmatch(pattern, stage))


EXACT = Gate(0.999, 0.999)
NEVER_QUANTIZED = "tok_(mel|conv1|conv2)"
STAGES = (
    "tok_(xfmr|pool)", "prefill_audio_features", "prefill_text_embeds", "prefill_inputs_embeds", r"layer_\d+",
    "prefill_last_hidden", "prefill_text_logits_step0",
)  # fmt: skip

# fmt: off
# cos_mean, cos_min of:
#  encoder     audio feat.  text emb.    inputs emb.  layers       last hidden  logits       codes
TABLE: dict[str, tuple[float, ...]] = {
    "f32":    (.999, .999,  .999, .999,  .999, .999,  .999, .999,  .999, .999,  .999, .999,  .999, .999,  .995),
    "f16":    (.999, .999,  .999, .999,  .999, .999,  .999, .999,  .999, .999,  .999, .999,  .999, .999,  .995),
    "bf16":   (.999, .999,  .999, .999,  .999, .999,  .999, .999,  .999, .999,  .999, .999,  .999, .999,  .995),
    "q8_0":   (.999, .998,  .999, .998,  .999, .998,  .999, .998,  .998, .990,  .998, .998,  .998, .998,  .900),
    "q6_k":   (.998, .996,  .998, .997,  .999, .985,  .999, .985,  .994, .970,  .994, .994,  .996, .996,  .800),
    "q5_k":   (.994, .988,  .995, .992,  .997, .950,  .997, .950,  .980, .940,  .980, .980,  .988, .988,  .650),
    "q5_1":   (.994, .988,  .995, .992,  .997, .950,  .997, .950,  .980, .940,  .980, .980,  .988, .988,  .650),
    "q5_0":   (.990, .985,  .994, .990,  .996, .930,  .996, .930,  .970, .920,  .970, .970,  .985, .985,  .550),
    "q4_k":   (.980, .970,  .985, .980,  .992, .800,  .990, .800,  .925, .850,  .925, .925,  .960, .960,  .500),
    "q4_1":   (.975, .960,  .980, .970,  .990, .780,  .985, .780,  .900, .650,  .900, .900,  .950, .950,  .350),
    "q4_0":   (.975, .960,  .980, .970,  .990, .780,  .985, .780,  .900, .800,  .900, .900,  .950, .950,  .350),
    "iq4_nl": (.975, .960,  .980, .970,  .990, .780,  .985, .780,  .900, .800,  .900, .900,  .950, .950,  .350),
    "iq4_xs": (.975, .960,  .980, .970,  .990, .780,  .985, .780,  .900, .800,  .900, .900,  .950, .950,  .350),
    "q3_k":   (.920, .880,  .940, .910,  .970, .600,  .960, .600,  .750, .600,  .750, .750,  .850, .850,  .250),
    "q2_k":   (.750, .650,  .800, .700,  .910, .400,  .850, .400,  .500, .250,  .550, .550,  .550, .550,  .100),
}
# fmt: on
FIRST_TOKEN_MAY_DIFFER = {"q3_k", "q2_k"}


def _gates(name: str, row: tuple[float, ...]) -> Gates:
    pairs = zip(row[0:-1:2], row[1:-1:2], strict=True)
    stages = {NEVER_QUANTIZED: EXACT} | {stage: Gate(*pair) for stage, pair in zip(STAGES, pairs, strict=True)}
    return Gates(stages, codes=row[-1], first_token=name not in FIRST_TOKEN_MAY_DIFFER)


GATES: dict[str, Gates] = {name: _gates(name, row) for name, row in TABLE.items()}
