"""What a file of each type must reach to pass, in one table.

A row holds for the stages of its file: those of the audio tokenizer are judged by that file's type, those of the
speech LM by its own. F32, F16 and BF16 files must equal an fp32 reference to 0.999 everywhere. For the others a stage
may be twice as noisy as was measured: `make bench` prints their rows, docs/gates.md says how they come about.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple


class Gate(NamedTuple):
    """Least cos_mean and cos_min of a stage over its positions."""

    cos_mean: float
    cos_min: float

    @property
    def scale(self) -> float:
        """How many times the reference's norm a stage may have, or the other way round: a twentieth more, and noise."""
        return 1.05 / self.cos_mean**2


class StepGate(NamedTuple):
    """Of decoding steps: the least share of equal likeliest tokens; the greatest mean KL divergence from the reference,
    in nats; and the greatest relative RMSE of decoding with a KV cache to one pass."""

    top1: float
    kl_mean: float
    cached_rmse: float


@dataclass(frozen=True)
class Gates:
    """The gate of each kind of stage, the least share of equal codes, whether the first token must be equal, and the
    gate of the decoding steps."""

    stages: dict[str, Gate]
    codes: float
    first_token: bool
    steps: StepGate

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
    "q8_0":   (.998, .998,  .998, .998,  .998, .998,  .998, .998,  .998, .998,  .998, .998,  .998, .998,  .913),
    "q6_k":   (.998, .998,  .998, .998,  .998, .985,  .998, .985,  .995, .985,  .995, .995,  .997, .997,  .782),
    "q5_k":   (.995, .993,  .996, .994,  .997, .945,  .997, .945,  .980, .945,  .980, .980,  .990, .990,  .689),
    "q5_1":   (.995, .993,  .996, .994,  .997, .940,  .997, .940,  .978, .940,  .978, .978,  .989, .989,  .690),
    "q5_0":   (.992, .990,  .995, .992,  .997, .926,  .996, .926,  .973, .926,  .973, .973,  .986, .986,  .482),
    "q4_k":   (.982, .976,  .985, .980,  .992, .826,  .990, .826,  .929, .826,  .929, .929,  .963, .963,  .425),
    "q4_1":   (.977, .971,  .983, .975,  .990, .801,  .988, .801,  .917, .708,  .917, .917,  .956, .956,  .247),
    "q4_0":   (.976, .969,  .980, .972,  .988, .773,  .986, .773,  .902, .773,  .902, .902,  .947, .947,  .231),
    "iq4_nl": (.985, .978,  .984, .980,  .990, .809,  .989, .809,  .921, .809,  .921, .921,  .958, .958,  .409),
    "iq4_xs": (.985, .976,  .984, .980,  .990, .807,  .989, .807,  .920, .807,  .920, .920,  .957, .957,  .339),
    "q3_k":   (.931, .906,  .944, .921,  .965, .570,  .962, .570,  .767, .570,  .767, .767,  .861, .861,  .162),
    "q2_k":   (.749, .700,  .806, .752,  .884, .333,  .865, .333,  .519, .333,  .519, .519,  .652, .652,  .055),
}
# fmt: on
FIRST_TOKEN_MAY_DIFFER = {"q3_k", "q2_k"}

# Of decoding steps; a KV cache computes what one pass does in another order, which rounding to 8 bits makes visible.
STEPS = {
    "f32": StepGate(0.95, 0.001, 0.003), "f16": StepGate(0.95, 0.001, 0.003), "bf16": StepGate(0.95, 0.001, 0.03),
    "q8_0": StepGate(0.9, 0.01, 0.2), "q6_k": StepGate(0.9, 0.02, 0.2), "q5_k": StepGate(0.9, 0.05, 0.2),
    "q5_1": StepGate(0.9, 0.05, 0.2), "q5_0": StepGate(0.9, 0.05, 0.2), "q4_k": StepGate(0.8, 0.2, 0.2),
    "q4_1": StepGate(0.8, 0.2, 0.2), "q4_0": StepGate(0.8, 0.2, 0.2), "iq4_nl": StepGate(0.8, 0.2, 0.2),
    "iq4_xs": StepGate(0.8, 0.2, 0.2), "q3_k": StepGate(0.6, 0.6, 0.2), "q2_k": StepGate(0.3, 2.0, 0.2),
}  # fmt: skip


def _gates(name: str, row: tuple[float, ...]) -> Gates:
    pairs = zip(row[0:-1:2], row[1:-1:2], strict=True)
    stages = {NEVER_QUANTIZED: EXACT} | {stage: Gate(*pair) for stage, pair in zip(STAGES, pairs, strict=True)}
    return Gates(stages, row[-1], name not in FIRST_TOKEN_MAY_DIFFER, STEPS[name])


def code_gate(tokenizer_type: str, reference_dtype: str) -> float:
    """The least share of equal codes. A reference computed in bfloat16 flips some itself, as 8-bit weights do."""
    noisiest = (tokenizer_type, "q8_0") if reference_dtype == "bf16" else (tokenizer_type,)
    return min(GATES[type].codes for type in noisiest)


GATES: dict[str, Gates] = {name: _gates(name, row) for name, row in TABLE.items()}
