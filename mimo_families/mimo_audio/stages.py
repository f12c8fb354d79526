"""Stages of the speech LM with its audio tokenizer, in the order of a run (docs/stages.md)."""

from collections.abc import Iterator

from mimo_families.mimo_tokenizer.stages import CODES
from mimo_families.mimo_tokenizer.stages import SIZES as TOKENIZER_SIZES
from mimo_families.mimo_tokenizer.stages import STAGES as TOKENIZER_STAGES
from runtime_check.gate import FEATURES, HIDDEN, IDS, LAYER, LOGITS
from runtime_check.run.activations import Stages
from runtime_check.run.stages import Stage

from .layout import FAMILY, NO_TEXT

ROLE = FAMILY.role
PROMPT, LAST_HIDDEN, FIRST_LOGITS = "prompt_ids", "prefill_last_hidden", "prefill_text_logits_step0"
AUDIO_FEATURES, TEXT_EMBEDS, INPUTS_EMBEDS = "prefill_audio_features", "prefill_text_embeds", "prefill_inputs_embeds"
LAYERS = "layer_"

STAGES = (
    *TOKENIZER_STAGES,
    Stage(PROMPT, ROLE, IDS, ("prompt rows", "prompt positions"), least=NO_TEXT),
    Stage(AUDIO_FEATURES, ROLE, FEATURES, ("groups", "hidden size"), "audio features"),
    Stage(TEXT_EMBEDS, ROLE, HIDDEN, ("groups", "hidden size"), "text embeds"),
    Stage(INPUTS_EMBEDS, ROLE, HIDDEN, ("groups", "hidden size"), "inputs embeds"),
    Stage(LAYERS, ROLE, LAYER, ("groups", "hidden size"), "layers", numbered=True),
    Stage(LAST_HIDDEN, ROLE, HIDDEN, ("hidden size",), "last hidden"),
    Stage(FIRST_LOGITS, ROLE, LOGITS, ("vocabulary",), "logits"),
)
SIZES = {**TOKENIZER_SIZES, "hidden size": (ROLE, "hidden_size"), LAYERS: (ROLE, "num_layers")}


def layer(i: int) -> str:
    """The stage of block `i`'s output."""
    return f"{LAYERS}{i:02d}"


def reference_problems(stages: Stages) -> Iterator[tuple[str, str]]:
    """Contradictions in the stages of a stored reference: (found, expected)."""
    if PROMPT not in stages:
        return
    rows, positions = stages[PROMPT].shape
    if CODES in stages and rows != stages[CODES].shape[1] + 1:
        yield f"stage {PROMPT} has {rows} rows", f"1 + {stages[CODES].shape[1]}"
    groups = next((len(stages[name]) for name in (AUDIO_FEATURES, TEXT_EMBEDS, INPUTS_EMBEDS) if name in stages), 0)
    if groups and positions % groups:
        yield f"stage {PROMPT} has {positions} positions", f"a multiple of {groups} groups"
