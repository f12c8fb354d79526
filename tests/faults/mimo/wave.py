"""Defects of the harness where codes become a wave."""

from typing import Any

import numpy as np

from mimo_families.mimo_tokenizer.decoder import harness as decoder
from mimo_families.mimo_tokenizer.decoder.harness import SpeechDecoder
from mimo_families.mimo_tokenizer.harness import AudioTokenizer
from runtime_check.ggml.graph import Graph

from ..bases import WHOLE
from ..defect import around, harness

VOICE = WHOLE.format("f32")


def computed_window(begin: Any, made: SpeechDecoder, *args: Any) -> None:
    begin(made, *args)
    made.window = np.asarray(np.hanning(len(made.window) + 1)[:-1], np.float32)


def without_bias(multiply: Any, g: Graph, weight: Any, x: Any, bias: str, **options: Any) -> Any:
    return multiply(g, weight, x, "" if bias == "voc.head.bias" else bias, **options)


def exchanged(inverse: Any, spectrum: Any, *args: Any) -> Any:
    return inverse(np.concatenate(np.split(spectrum, 2, axis=1)[::-1], axis=1), *args)


WAVE = [
    harness("a codebook left out of the sum", VOICE,
        around(decoder, "code_embeddings", lambda embed, g, n, codebooks: embed(g, n, codebooks - 1)),
        run="dec_codes_embed: cos_"),
    harness("GroupNorm of each frame", VOICE,
        around(Graph, "group_norm", lambda norm, g, x, name: g.layer_norm(x, name)),
        run="dec_up: cos_"),
    harness("decoder that sees what comes after", VOICE,
        around(Graph, "attend_near", lambda attend, g, q, k, v, before, after: attend(
            g, q, k, v, before, -1 if before < 0 else after)),
        run="dec_blk_00: cos_"),
    harness("vocoder that sees only what came before", VOICE,
        around(Graph, "attend_near", lambda attend, g, q, k, v, before, after: attend(g, q, k, v, before, 0)),
        run="voc_blk_00: cos_"),
    harness("bias of the vocoder's head lost", VOICE, around(Graph, "_multiply", without_bias), run="voc_spec: cos_"),
    harness("window computed instead of read", VOICE, around(SpeechDecoder, "__init__", computed_window),
        run="wave: snr_db"),
    harness("wave cut at its end alone", VOICE,
        around(decoder, "inverse_stft", lambda inverse, *args: np.roll(inverse(*args), 360)), run="wave: snr_db"),
    harness("magnitudes and phases exchanged", VOICE, around(decoder, "inverse_stft", exchanged), run="wave: snr_db"),
    harness("cut every 30 s instead of into segments of 6000 mel frames", f"{VOICE} on a long clip",
        around(AudioTokenizer, "encode_segments", lambda encode, made, *args: made.encode(*args)),
        run="tok_mel: shape"),
]  # fmt: skip
