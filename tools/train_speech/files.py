"""The pair that speaks, as folders."""

from pathlib import Path

from torch import Tensor

from mimo_families.mimo_audio import layout as mimo_asr
from mimo_families.mimo_audio.layout import SPEECH_GENERATION
from mimo_families.mimo_tokenizer import layout as mimo_tokenizer
from mimo_families.mimo_tokenizer.decoder_layout import DECODER
from tools.train_tiny.files import save_asr, save_audio_tokenizer
from tools.train_tiny.weights import rounded

from .speaking import MATRICES, NEURONS, SPEAKING_NEURONS


def is_of_decoder(name: str) -> bool:
    """Whether a tensor of the audio tokenizer's checkpoint is of decoder or vocoder."""
    return mimo_tokenizer.FAMILY.part_of(name) == DECODER


def recognition(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """What of the speech LM's tensors recognition needs: no patch decoder, no neurons of speaking."""
    kept = {name: x for name, x in tensors.items() if mimo_asr.FAMILY.part_of(name) != SPEECH_GENERATION}
    for name, x in kept.items():
        matrix = next((one for one in MATRICES if name.startswith("model.") and f"mlp.{one}_proj" in name), None)
        if matrix:
            kept[name] = x[:, :NEURONS] if matrix == "down" else x[:NEURONS]
    return kept


def save_speaking_pair(
    lm: dict[str, Tensor], encoder: dict[str, Tensor], decoder: dict[str, Tensor], pair: Path
) -> None:
    """Matrices in BF16, as all that recognises; vectors of decoder and vocoder in F32, as published ones."""
    save_asr(rounded(lm), pair / "asr", intermediate_size=NEURONS + SPEAKING_NEURONS)
    vectors = {name: x.float() for name, x in decoder.items() if x.dim() == 1}
    kept = {name: x for name, x in encoder.items() if not name.endswith(".inited")}
    save_audio_tokenizer(rounded(kept | decoder) | vectors, pair / "tokenizer")
