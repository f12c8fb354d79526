"""Stages of a run, in its order (docs/stages.md)."""

from collections.abc import Iterator

from runtime_check.gate import FEATURES, HIDDEN, IDS, LAYER, LOGITS
from runtime_check.run.activations import Stages
from runtime_check.run.compare.thresholds import FLOAT32
from runtime_check.run.stages import Stage

from .layout import FAMILY

ROLE = FAMILY.role
MEL, CONVOLUTIONS, CONV_OUT, INPUT = "enc_mel", ("enc_conv1", "enc_conv2", "enc_conv3"), "enc_conv_out", "enc_input"
ENCODER_LAYERS, NORM, PROJECTION, AUDIO_EMBEDS = "enc_layer_", "enc_norm", "enc_proj", "audio_embeds"
PROMPT, INPUTS_EMBEDS, LAYERS, LAST_HIDDEN = "prompt_ids", "inputs_embeds", "layer_", "last_hidden"
FIRST_LOGITS = "logits_step0"

TOKENS, ENCODER_WIDTH = "audio tokens", "encoder width"
POSITIONS, HIDDEN_SIZE = "prompt positions", "hidden size"

# Roles of the tensors whose types decide how near a stage can be: the decoder hears what the encoder makes.
ENCODER = ("encoder_matrix",)
EMBEDS, ALL = (*ENCODER, "embedding"), (*ENCODER, "embedding", "matrix")

STAGES = (
    Stage(MEL, ROLE, FEATURES, ("mel frames", "mel bins"), FLOAT32),
    *(Stage(name, ROLE, HIDDEN, (f"{name} steps", f"{name} width"), FLOAT32) for name in CONVOLUTIONS),
    Stage(CONV_OUT, ROLE, HIDDEN, ("chunk rows", ENCODER_WIDTH), "encoder", weights=ENCODER),
    Stage(INPUT, ROLE, HIDDEN, (TOKENS, ENCODER_WIDTH), "encoder", weights=ENCODER),
    Stage(ENCODER_LAYERS, ROLE, LAYER, (TOKENS, ENCODER_WIDTH), "encoder", numbered=True, weights=ENCODER),
    Stage(NORM, ROLE, HIDDEN, (TOKENS, ENCODER_WIDTH), "encoder", weights=ENCODER),
    Stage(PROJECTION, ROLE, HIDDEN, (TOKENS, ENCODER_WIDTH), "encoder", weights=ENCODER),
    Stage(AUDIO_EMBEDS, ROLE, FEATURES, (TOKENS, HIDDEN_SIZE), "audio features", weights=ENCODER),
    Stage(PROMPT, ROLE, IDS, (POSITIONS,)),
    Stage(INPUTS_EMBEDS, ROLE, HIDDEN, (POSITIONS, HIDDEN_SIZE), "inputs embeds", weights=EMBEDS),
    Stage(LAYERS, ROLE, LAYER, (POSITIONS, HIDDEN_SIZE), "layers", numbered=True, weights=ALL),
    Stage(LAST_HIDDEN, ROLE, HIDDEN, (HIDDEN_SIZE,), "last hidden", weights=ALL),
    Stage(FIRST_LOGITS, ROLE, LOGITS, ("vocabulary",), "logits", weights=(*ALL, "head")),
)
SIZES = {
    "mel bins": (ROLE, "n_mels"), ENCODER_WIDTH: (ROLE, "audio_dim"), ENCODER_LAYERS: (ROLE, "audio_layers"),
    HIDDEN_SIZE: (ROLE, "hidden_size"), LAYERS: (ROLE, "num_layers"),
}  # fmt: skip


def of_encoder(stage: Stage) -> bool:
    """Whether the audio encoder computes a stage, and not the decoder."""
    return STAGES.index(stage) < [one.name for one in STAGES].index(PROMPT)


def encoder_layer(i: int) -> str:
    """The stage of the output of the encoder's block `i`."""
    return f"{ENCODER_LAYERS}{i:02d}"


def layer(i: int) -> str:
    """The stage of the output of the decoder's block `i`."""
    return f"{LAYERS}{i:02d}"


def reference_problems(stages: Stages) -> Iterator[tuple[str, str]]:
    """Contradictions in the stages of a stored reference: (found, expected)."""
    if PROMPT in stages and AUDIO_EMBEDS in stages and len(stages[PROMPT]) <= len(stages[AUDIO_EMBEDS]):
        yield f"stage {PROMPT} has {len(stages[PROMPT])} positions", f"more than {len(stages[AUDIO_EMBEDS])}"
