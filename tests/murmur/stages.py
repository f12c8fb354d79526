"""The stages of a run, in its order."""

from runtime_check.gate import FEATURES, HIDDEN, IDS, LAYER, LOGITS
from runtime_check.run.compare.thresholds import EXACT
from runtime_check.run.stages import Stage

from .layout import FAMILY

ROLE = FAMILY.role
FRAMES, TOKENS, EAR, MIX, STONES, FINAL, SCORES = "ear_frames", "tokens", "ear_out", "mix", "stone_", "final", "scores"

STAGES = (
    Stage(FRAMES, ROLE, FEATURES, ("frames", "frame size"), EXACT),
    Stage(TOKENS, ROLE, IDS, ("rows", "positions")),
    Stage(EAR, ROLE, FEATURES, ("positions", "width"), "audio features"),
    Stage(MIX, ROLE, HIDDEN, ("positions", "width"), "inputs embeds"),
    Stage(STONES, ROLE, LAYER, ("positions", "width"), "layers", numbered=True),
    Stage(FINAL, ROLE, HIDDEN, ("width",), "last hidden"),
    Stage(SCORES, ROLE, LOGITS, ("vocabulary",), "logits"),
)


def stone(i: int) -> str:
    """The stage of the output of block `i`."""
    return f"{STONES}{i:02d}"
