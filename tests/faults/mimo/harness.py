"""Defects of the harness: functions of it replaced by wrong ones, on clean files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ggml
import numpy as np
import soundfile
from tokenizers import decoders

from mimo_families.mimo_audio import harness as speech_lm
from mimo_families.mimo_audio import prompt, segments, system
from mimo_families.mimo_tokenizer import front_end as audio
from mimo_families.mimo_tokenizer import harness as tokenizer
from runtime_check.audio import decode
from runtime_check.ggml import decoder
from runtime_check.ggml.graph import Graph
from runtime_check.text import tokenizer as text_tokenizer

from ..bases import LM
from ..defect import Patch, around, harness
from ..edits import Floats


def causal_groups(patch: Patch) -> None:
    """A mask for attention without one over more than one sequence, which is that within groups."""
    attend, inputs = Graph.attend, speech_lm.SpeechLM.inputs
    causal = np.triu(np.full((4, 4), -np.inf, np.float16), 1)

    def wrong(g: Graph, q: Any, k: Any, v: Any, mask: Any) -> Any:
        return attend(g, q, k, v, g.input("causal", (4, 4), np.float16) if q.contents.ne[3] > 1 else mask)

    patch.setattr(Graph, "attend", wrong)
    patch.setattr(speech_lm.SpeechLM, "inputs", lambda *args: inputs(*args) | {"causal": causal})


def turned(g: Graph, x: Any, at: Any, theta: float, mode: int = ggml.GGML_ROPE_TYPE_NEOX, scale: float = 1.0) -> Any:
    """Rotary embedding of another mode, or of positions times `scale`."""
    return ggml.ggml_rope_ext(g.ctx, x, at, None, x.contents.ne[0], mode, 0, theta, scale, 0.0, 1.0, 0.0, 0.0)


def unscaled(attend: Any, g: Graph, q: Any, *others: Any) -> Any:
    """Attention with scores 8 times as large."""
    return attend(g, ggml.ggml_scale(g.ctx, ggml.ggml_cont(g.ctx, q), 8.0), *others)


def no_final_norm(norm: Any, g: Graph, x: Any, name: str, eps: float) -> Any:
    return ggml.ggml_cont(g.ctx, x) if name == "llm.final_norm" else norm(g, x, name, eps)


def twice(g: Graph, x: Any, name: str) -> Any:
    return ggml.ggml_scale(g.ctx, x, 2.0) if name == "llm.final_norm" else x


def places_with(wrong: Callable[[Any, int], dict[str, Any]]) -> Callable[[Patch], None]:
    """Inputs of the language model for `n` positions, some of them wrong."""

    def change(places: Any, first: int, n: int, n_kv: int, *clip: int) -> Any:
        inputs = places(first, n, n_kv, *clip)
        return inputs | wrong(inputs, n)

    return around(decoder, "places", change)


def next_phase(resample: Any, wave: Floats, *rates: int) -> Floats:
    """Of each three samples that 16 kHz become, the phases in another order."""
    out = resample(wave, *rates)
    return np.asarray(np.roll(out[: len(out) // 3 * 3].reshape(-1, 3), 1, axis=1).reshape(-1))


def left_channel(blocks: Any, sound: soundfile.SoundFile, path: Path) -> list[Floats]:
    """In place of the mean of all."""
    return [sound.read(dtype="float32", always_2d=True)[:, 0]]


def swapped_swiglu(right: Any, g: Graph, x: Any, name: str) -> Any:
    gate, up = g.linear(x, f"{name}.gate"), g.linear(x, f"{name}.up")
    return g.linear(ggml.ggml_swiglu_split(g.ctx, up, gate), f"{name}.down")


LONG = "tiny lm f16 on a long clip"
LOG_MEL, RESAMPLE, RULES = (tokenizer, "log_mel"), (system, "resample"), (text_tokenizer, "configure")
HARNESS = [
    harness("reflect padding replaced by zeros", LM, around(np, "pad", lambda pad, x, width, **mode: pad(x, width)),
        run="tok_mel: cos_"),
    harness("mel filters normalised by area", LM,
        around(audio, "mel_filters", lambda filters, d: filters(d) / filters(d).sum(axis=0)), run="tok_mel: cos_"),
    harness("mel in log10", LM, around(*LOG_MEL, lambda mel, *args: mel(*args) / np.float32(np.log(10))),
        run="tok_mel: norm_ratio 0.4343"),
    harness("mel of powers instead of magnitudes", LM,
        around(np, "abs", lambda absolute, x: absolute(x) ** (2 if x.dtype.kind == "c" else 1)), run="tok_mel: cos_"),
    harness("mel of the clip without its mean", LM,
        around(*LOG_MEL, lambda mel, *args: mel(*args) - mel(*args).mean(axis=0)), run="tok_mel: cos_"),
    harness("no window", LM, around(audio, "hann_window", lambda window, d: np.ones(960)), run="tok_mel: cos_"),
    harness("resampler off by a phase", LM,
        around(*RESAMPLE, next_phase),
        run="tok_mel: cos_"),
    harness("resampler late by a sample", LM, around(*RESAMPLE, lambda resample, *args: np.roll(resample(*args), 1)),
        run="tok_mel: cos_"),
    harness("nearest sample instead of a resampler", LM,
        around(*RESAMPLE, lambda resample, wave, old, new: wave[np.arange(len(wave) * new // old) * old // new]),
        run="tok_mel: cos_"),
    harness("left channel instead of the mean", LONG,
        around(decode, "mono_blocks", left_channel),
        run="tok_mel: cos_"),
    harness("a last chunk of less than a second dropped", LONG,
        around(tokenizer, "chunks", lambda chunks, *args: [chunk for chunk in chunks(*args) if len(chunk) > 24_000]),
        run="tok_mel: shape"),
    harness("last code frames cut instead of repeated", LONG,
        around(segments, "speech_groups", lambda groups, codes, *args: groups(codes[: len(codes) // 4 * 4], *args)),
        run="prompt_ids: shape"),
    harness("no rope in the encoder", LM,
        around(Graph, "rope", lambda rope, g, x, at, theta: turned(g, x, at, theta, scale=float(theta != 10000))),
        run="tok_xfmr: cos_"),
    harness("residual codes of one level only", LM,
        around(ggml, "ggml_sub", lambda sub, ctx, a, b: sub(ctx, a, b) if a.contents.ne[0] != 256 else a),
        run="tok_codes:"),
    harness("input-local attention made causal", LM, causal_groups, run="prefill_audio_features: cos_"),
    harness("prompt split on white space", LM,
        lambda patch: patch.setitem(text_tokenizer.PRE_TOKENIZERS, "qwen2", r"\S+|\s+"), run="prompt_ids: shape"),
    harness("language tag missing", LM, lambda patch: patch.setitem(prompt.LANGUAGE_TAGS, "english", ""),
        run="prompt_ids: shape"),
    harness("template with a full stop", LM, lambda patch: patch.setattr(prompt, "TEMPLATE", prompt.TEMPLATE + "."),
        run="prompt_ids: shape"),
    harness("tokens decoded without the byte table", LM,
        around(*RULES, lambda rules, made, text: (rules(made, text), setattr(made, "decoder", decoders.Fuse()))[0]),
        run="transcript: the reference's response spells 'ĠAndĠso"),
    harness("rope not applied", LM, around(Graph, "rope", lambda rope, g, *args: turned(g, *args, scale=0)),
        run="tok_xfmr: cos_"),
    harness("rope interleaved instead of NeoX", LM,
        around(Graph, "rope", lambda rope, g, *args: turned(g, *args, mode=0)), run="tok_xfmr: cos_"),
    harness("scores of attention not scaled", LM,
        around(Graph, "attend", unscaled),
        run="tok_xfmr: cos_"),
    harness("gate and up swapped in SwiGLU", LM, around(Graph, "swiglu", swapped_swiglu),
        run="prefill_audio_features: cos_"),
    harness("no final norm", LM,
        around(Graph, "rms_norm", no_final_norm),
        run="prefill_last_hidden: norm_ratio"),
    harness("a final norm of twice the size", LM,
        around(Graph, "rms_norm", lambda norm, g, x, name, eps: twice(g, norm(g, x, name, eps), name)),
        run="prefill_last_hidden: norm_ratio 2.0000"),
    harness("the prompt sees what comes after it", LM,
        places_with(lambda inputs, n: {"mask_0": np.zeros_like(inputs["mask_0"])}),
        run="layer_00: cos_"),
    harness("rows of the KV cache off by one in a step", LM,
        places_with(lambda inputs, n: {"cache_rows_0": inputs["cache_rows_0"] - (n == 1)}),
        run="cached: rel_rmse"),
    harness("positions off by one in a step", LM,
        places_with(lambda inputs, n: {"positions": inputs["positions"] + np.int32(n == 1)}),
        run="cached: rel_rmse"),
]  # fmt: skip
