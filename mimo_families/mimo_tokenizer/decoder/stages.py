"""Stages of decoder and vocoder, in the order of a run (docs/stages.md)."""

from runtime_check.gate import CODES, HIDDEN, LAYER, LOG_MEL
from runtime_check.gate import WAVE as WAVE_KIND
from runtime_check.run.compare.thresholds import DECODER, OF_WAVE, SPECTRUM, VOCODER
from runtime_check.run.stages import Stage

from ..layout import FAMILY

ROLE = FAMILY.role
CODES_EMBED, DEC_UP, DEC_NORM, DEC_MEL = "dec_codes_embed", "dec_up", "dec_norm", "dec_mel"
VOC_EMBED, VOC_NORM, VOC_SPEC, WAVE = "voc_embed", "voc_norm", "voc_spec", "wave"
DEC_LAYER, VOC_LAYER = "dec_blk_", "voc_blk_"
# What the tokenizer itself makes of the wave: its front end's log-mel, and its codes.
WAVE_MEL, WAVE_CODES = "wave_mel", "wave_codes"

STAGES = (
    Stage(CODES_EMBED, ROLE, HIDDEN, ("code frames", "encoder width"), DECODER),
    Stage(DEC_UP, ROLE, HIDDEN, ("decoder positions", "encoder width"), DECODER),
    Stage(DEC_LAYER, ROLE, LAYER, ("decoder positions", "encoder width"), DECODER, numbered=True),
    Stage(DEC_NORM, ROLE, HIDDEN, ("decoder positions", "encoder width"), DECODER),
    Stage(DEC_MEL, ROLE, HIDDEN, ("vocoder frames", "mel bins"), DECODER),
    Stage(VOC_EMBED, ROLE, HIDDEN, ("vocoder frames", "vocoder width"), VOCODER),
    Stage(VOC_LAYER, ROLE, LAYER, ("vocoder frames", "vocoder width"), VOCODER, numbered=True),
    Stage(VOC_NORM, ROLE, HIDDEN, ("vocoder frames", "vocoder width"), VOCODER),
    Stage(VOC_SPEC, ROLE, HIDDEN, ("vocoder frames", "magnitudes and phases"), SPECTRUM),
    Stage(WAVE, ROLE, WAVE_KIND, ("samples",), VOCODER),
    Stage(WAVE_MEL, ROLE, LOG_MEL, ("mel frames of the wave", "mel bins"), VOCODER),
    Stage(WAVE_CODES, ROLE, CODES, ("code frames of the wave", "codebooks"), OF_WAVE),
)

SIZES = {
    "vocoder width": (ROLE, "vocoder_dim"),
    DEC_LAYER: (ROLE, "decoder_layers"),
    VOC_LAYER: (ROLE, "vocoder_layers"),
}


def decoder_layer(i: int) -> str:
    """The stage of the decoder's block `i`."""
    return f"{DEC_LAYER}{i:02d}"


def vocoder_layer(i: int) -> str:
    """The stage of the vocoder's block `i`."""
    return f"{VOC_LAYER}{i:02d}"
