"""A random speech LM and audio tokenizer that speak, as files."""

from pathlib import Path
from typing import Any

from mimo_convert.model.checkpoint import open_checkpoint
from mimo_convert.write.convert import convert
from quantize.types import TYPES
from tests.conftest import SMALL_TOKENIZER
from tests.mimo_families.mimo_audio.speech.speaking import write_speaking_lm
from tests.opened import make_request, options_of
from tests.synthetic import DECODER_CONFIG, write_audio_tokenizer

ENCODER: dict[str, Any] = SMALL_TOKENIZER | {"num_quantizers": 8, "codebook_size": [32, 32] + [16] * 6}
VOICE: dict[str, Any] = ENCODER | DECODER_CONFIG | {"decoder_ffn_dim": 128, "decoder_layers": 2}
LM, TOKENIZER = "mimo-asr-f32.gguf", "mimo-tokenizer-f32.gguf"


def write_speaking_pair(folder: Path) -> Path:
    """Checkpoints `lm` and `tokenizer` in a folder, and their files beside them; returns the speech LM's."""
    write_speaking_lm(folder / "lm")
    write_audio_tokenizer(folder / "tokenizer", **VOICE)
    for name in ("lm", "tokenizer"):
        checkpoint = open_checkpoint(str(folder / name))
        convert([make_request(checkpoint, [TYPES["f32"]], options_of(False))], folder, threads=1)
    return folder / LM
