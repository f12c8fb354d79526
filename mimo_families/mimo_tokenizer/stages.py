"""Stages of the audio tokenizer, in the order of a run (docs/stages.md)."""

from runtime_check.gate import CODES as CODES_KIND
from runtime_check.gate import FEATURES, HIDDEN
from runtime_check.run.compare.thresholds import EXACT
from runtime_check.run.stages import Stage

from .layout import FAMILY

ROLE = FAMILY.role
CODES = "tok_codes"
ENCODE, ROUND_TRIP = "encode", "round trip"  # tasks: audio → codes, in chunks as recognition; and → audio again

STAGES = (
    Stage("tok_mel", ROLE, FEATURES, ("mel frames", "mel bins"), EXACT),
    Stage("tok_conv1", ROLE, HIDDEN, ("mel frames", "encoder width"), EXACT),
    Stage("tok_conv2", ROLE, HIDDEN, ("encoder positions", "encoder width"), EXACT),
    Stage("tok_xfmr", ROLE, HIDDEN, ("encoder positions", "encoder width"), "encoder"),
    Stage("tok_pool", ROLE, HIDDEN, ("code frames", "encoder width"), "encoder"),
    Stage(CODES, ROLE, CODES_KIND, ("code frames", "codebooks")),
)

SIZES = {"mel bins": (ROLE, "n_mels"), "encoder width": (ROLE, "d_model")}
