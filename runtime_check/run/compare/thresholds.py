"""Thresholds of each type, in one table.

Each stage is compared by the row of its file's type. F32, F16 and BF16 files must match an fp32 reference to 0.999
everywhere. For the others, twice the measured noise is allowed: `make bench` measures the rows, docs/gates.md explains
them.
"""

from dataclasses import dataclass
from typing import NamedTuple


class CosineThreshold(NamedTuple):
    """Least cos_mean and cos_min of a stage; greatest relative RMSE beside a float32 reference, where it is bounded."""

    cos_mean: float
    cos_min: float
    rel_rmse: float | None = None

    @property
    def norm_ratio(self) -> float:
        """The factor by which a stage's norm may differ from the reference's, up or down: 5 %, and noise."""
        return 1.05 / self.cos_mean**2


class StepThreshold(NamedTuple):
    """Thresholds of decoding steps: least share of equal top-1 tokens, greatest mean KL divergence in nats, greatest
    relative RMSE of incremental to full decoding."""

    top1: float
    kl_mean: float
    incremental_rmse: float


class HeadThreshold(NamedTuple):
    """Thresholds of a head's choices under teacher forcing: least share of equal top-1 ids, greatest mean KL divergence
    in nats."""

    top1: float
    kl_mean: float


class WaveThreshold(NamedTuple):
    """Thresholds of a wave that was decoded: least signal-to-noise ratio in dB, greatest mean difference of the
    log-mel, least share of equal codes when it is encoded again. None: the type has too much noise for it to tell
    anything."""

    snr: float | None
    log_mel: float
    codes: float | None


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of one type: of stages by column, least share of equal codes, whether the first top-1 token must be
    equal, those of the steps, of heads of codes, whether free choices must be equal, and those of a wave that was
    decoded."""

    columns: dict[str, CosineThreshold]
    codes: float
    first_token: bool
    steps: StepThreshold
    heads: HeadThreshold
    chooses_equally: bool
    wave: WaveThreshold


EXACT = "exact"  # the column of what is never quantized
FLOAT32 = "float32"  # of what both sides compute in float32 from the same numbers, if the file is F32
DECODER, VOCODER, SPECTRUM = "decoder", "vocoder", "spectrum"  # of what turns codes into a wave
PATCH = "patch decoder"
OF_WAVE = "wave"  # of codes: those of a wave that was decoded
COLUMNS = ("encoder", "audio features", "text embeds", "inputs embeds", "layers", "last hidden", "logits")

# fmt: off
# cos_mean, cos_min of:
#  encoder     audio feat.  text emb.    inputs emb.  layers       last hidden  logits       codes
TABLE: dict[str, tuple[float, ...]] = {
    "f32":    (.999, .999,  .999, .999,  .999, .999,  .999, .999,  .999, .999,  .999, .999,  .999, .999,  .995),
    "f16":    (.999, .999,  .999, .999,  .999, .999,  .999, .999,  .999, .999,  .999, .999,  .999, .999,  .995),
    "bf16":   (.999, .999,  .999, .999,  .999, .999,  .999, .999,  .999, .999,  .999, .999,  .999, .999,  .995),
    "q8_0":   (.998, .998,  .998, .998,  .998, .998,  .998, .998,  .998, .998,  .998, .998,  .998, .998,  .913),
    "q6_k":   (.998, .998,  .998, .998,  .998, .985,  .998, .985,  .995, .965,  .995, .995,  .997, .997,  .782),
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
SAME_NUMBERS = 1e-4  # relative RMSE: by the order of sums 2e-6; GELU by tanh makes 4e-4 of it (docs/qwen3-asr-run.md)
FIRST_TOKEN_MAY_DIFFER = {"q3_k", "q2_k"}

# Of decoding steps; incremental decoding computes what full decoding does in another order, which rounding to 8 bits
# makes visible.
STEPS = {
    "f32": StepThreshold(0.95, 0.001, 0.003),
    "f16": StepThreshold(0.95, 0.001, 0.003),
    "bf16": StepThreshold(0.95, 0.001, 0.03),
    "q8_0": StepThreshold(0.9, 0.01, 0.2),
    "q6_k": StepThreshold(0.9, 0.02, 0.2),
    "q5_k": StepThreshold(0.9, 0.05, 0.2),
    "q5_1": StepThreshold(0.9, 0.05, 0.2),
    "q5_0": StepThreshold(0.9, 0.05, 0.2),
    "q4_k": StepThreshold(0.8, 0.2, 0.2),
    "q4_1": StepThreshold(0.8, 0.2, 0.2),
    "q4_0": StepThreshold(0.8, 0.2, 0.2),
    "iq4_nl": StepThreshold(0.8, 0.2, 0.2),
    "iq4_xs": StepThreshold(0.8, 0.2, 0.2),
    "q3_k": StepThreshold(0.6, 0.6, 0.2),
    "q2_k": StepThreshold(0.3, 2.0, 0.2),
}

# Of the patch decoder, and of its heads' choices: `python -m benchmarks.gates.generation` measures them.
# fmt: off
#              patch dec.   top-1 KL
GENERATION: dict[str, tuple[float, float, float, float]] = {
    "f32":    (.999, .999,  1.0, 1e-6),
    "f16":    (.999, .999,  1.0, .001),
    "bf16":   (.999, .999,  .95, .001),
    "q8_0":   (.998,  .997,  0.82, 0.01),
    "q6_k":   (.991,  .984,  0.76, 0.084),
    "q5_k":   (.956,  .927,  0.72, 0.27),
    "q5_1":   (.959,  .932,  0.63, 0.19),
    "q5_0":   (.920,  .834,  0.58, 0.29),
    "q4_k":   (.841,  .766,  0.51, 0.71),
    "q4_1":   (.873,  .829,  0.49, 0.99),
    "q4_0":   (.843,  .720,  0.51, 0.78),
    "iq4_nl": (.884,  .825,  0.56, 0.93),
    "iq4_xs": (.873,  .801,  0.45, 0.91),
    "q3_k":   (.431,  .268,  0.15, 4.7),
    "q2_k":   (.404,  .298,  0.13, 6.7),
}
# fmt: on
CHOOSE_EQUALLY = {"f32", "f16"}

# Of decoder and vocoder, and of the wave: `python -m benchmarks.gates.speech` measures them.
# fmt: off
#               decoder      vocoder      spectrum     SNR  log-mel codes
SPEECH: dict[str, tuple[float, float, float, float, float, float, float | None, float, float | None]] = {
    "f32":    (.999, .999,  .999, .999,  .999, .999,  77,   7e-05, .99),
    "f16":    (.999, .999,  .999, .999,  .999, .999,  48,   .0025, .95),
    "bf16":   (.999, .999,  .999, .999,  .999, .999,  37,   .008,  .9),
    "q8_0":   (.998, .998,  .998, .998,  .998, .980,  None, .081,  .65),
    "q6_k":   (.996, .994,  .995, .990,  .996, .773,  None, .17,   .54),
    "q5_k":   (.985, .978,  .967, .936,  .987, -1,    None, .27,   None),
    "q4_k":   (.955, .931,  .917, .848,  .968, -1,    None, .33,   None),
    "q3_k":   (.827, .737,  .773, .579,  .846, -1,    None, .45,   None),
    "q2_k":   (.541, .431,  .512, .323,  .586, -1,    None, .45,   None),
    "q5_1":   (.985, .976,  .981, .957,  .985, .521,  None, .22,   None),
    "q5_0":   (.986, .976,  .975, .955,  .989, .544,  None, .23,   None),
    "q4_1":   (.950, .902,  .914, .844,  .968, -1,    None, .43,   None),
    "q4_0":   (.922, .885,  .889, .780,  .925, -1,    None, .43,   None),
    "iq4_nl": (.951, .920,  .903, .824,  .910, -1,    None, .45,   None),
    "iq4_xs": (.951, .920,  .874, .814,  .884, .235,  None, .45,   None),
}
# fmt: on


def _thresholds(name: str, row: tuple[float, ...]) -> Thresholds:
    pairs = zip(row[0:-1:2], row[1:-1:2], strict=True)
    columns = {column: CosineThreshold(*pair) for column, pair in zip(COLUMNS, pairs, strict=True)}
    most = SAME_NUMBERS if name == "f32" else None
    exact = {EXACT: CosineThreshold(0.999, 0.999), FLOAT32: CosineThreshold(0.999, 0.999, most)}
    decoder, vocoder, spectrum = SPEECH[name][:2], SPEECH[name][2:4], SPEECH[name][4:6]
    wave = WaveThreshold(*SPEECH[name][6:])
    patch, heads = GENERATION[name][:2], HeadThreshold(*GENERATION[name][2:])
    of_speech = {DECODER: decoder, VOCODER: vocoder, SPECTRUM: spectrum, PATCH: patch}
    columns |= {column: CosineThreshold(*pair) for column, pair in of_speech.items()}
    first_token, chooses = name not in FIRST_TOKEN_MAY_DIFFER, name in CHOOSE_EQUALLY
    return Thresholds(exact | columns, row[-1], first_token, STEPS[name], heads, chooses, wave)


def code_threshold(outtype: str, reference_dtype: str) -> float:
    """The least share of equal codes. A reference computed in bfloat16 itself flips codes, as 8-bit weights do."""
    noisiest = (outtype, "q8_0") if reference_dtype == "bf16" else (outtype,)
    return min(THRESHOLDS[name].codes for name in noisiest)


THRESHOLDS: dict[str, Thresholds] = {name: _thresholds(name, row) for name, row in TABLE.items()}
