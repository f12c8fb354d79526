"""Stages of N generated groups, behind those of their prompt, in the order of a run (docs/stages.md)."""

from runtime_check.gate import CHOICES, CHOSEN, HIDDEN, IDS
from runtime_check.run.compare.thresholds import PATCH
from runtime_check.run.stages import Stage

from ..layout import FAMILY, NO_TEXT

ROLE = FAMILY.role
# What each side chose, (N,) and (N, group_size, channels), and the draws of each group whose filters left nothing.
TEXT_IDS, BLOCKS, DROPPED = "gen_text_ids", "gen_blocks", "gen_dropped"
HISTORY = "gen_history"  # (1 + channels, T) ids of the prompt and all groups, which a next prompt is appended to
# The blocks that both sides were given, whose text ids are RESPONSE, and the scores of each codebook's head behind the
# same codes, (groups of speech, group_size, codebook).
FORCED_BLOCKS, CODE_LOGITS = "forced_blocks", "gen_code_logits."
LAST_HIDDEN, LOCAL_INPUT = "gen_last_hidden", "gen_local_input"  # (N, hidden_size); (N, patch_dim), zero for text
LOCAL_HIDDEN, LOCAL_LOGITS = "local_hidden", "local_logits."  # of the first group of speech: (steps, patch_dim); scores

BLOCK = ("generated groups", "group size", "channels")
SPEECH_STAGES = (
    Stage(TEXT_IDS, ROLE, CHOSEN, ("generated groups",)),
    Stage(BLOCKS, ROLE, CHOSEN, BLOCK),
    Stage(DROPPED, ROLE, CHOSEN, ("generated groups",)),
    Stage(FORCED_BLOCKS, ROLE, IDS, BLOCK),
    Stage(HISTORY, ROLE, IDS, ("prompt rows", "history positions"), least=NO_TEXT),
    Stage(LAST_HIDDEN, ROLE, HIDDEN, ("generated groups", "hidden size"), "last hidden", by_median=True),
    Stage(LOCAL_INPUT, ROLE, HIDDEN, ("generated groups", "local size"), PATCH, by_median=True),
    Stage(LOCAL_HIDDEN, ROLE, HIDDEN, ("local steps", "local size"), PATCH),
    Stage(LOCAL_LOGITS, ROLE, HIDDEN, ("group size", "codebook"), PATCH, numbered=True, digits=1),
    Stage(CODE_LOGITS, ROLE, CHOICES, ("groups of speech", "group size", "codebook"), numbered=True, digits=1),
)


def code_logits(channel: int) -> str:
    """The logits of a codebook's head."""
    return f"{CODE_LOGITS}{channel}"


def local_logits(channel: int) -> str:
    """The scores of a codebook's head in the first group of speech."""
    return f"{LOCAL_LOGITS}{channel}"
