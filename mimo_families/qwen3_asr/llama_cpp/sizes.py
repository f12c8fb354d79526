"""Sizes of the two files, from the checkpoint's config and back, and what llama.cpp has built in."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from math import isfinite
from typing import Any

from mimo_convert.formats.config import Config
from quantize.errors import InputError

from ..sizes import (
    HOP,
    LEVELS,
    N_FFT,
    SAMPLE_RATE,
    TEXT_CONFIG,
    WINDOWED,
    Qwen3ASRDims,
    dimensions,
    halved,
)

BUILT_IN = {"n_window": 50, "n_window_infer": 800}  # frames: half a chunk of the convolutions, a window of attention
SECTIONS = f"{TEXT_CONFIG}.rope_scaling.mrope_section"


@dataclass(frozen=True)
class TextDims:
    """Sizes of the text model. `rope_sections` are the pairs of a head that each axis of positions rotates; the axes of
    audio and text are equal."""

    num_layers: int
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    value_dim: int
    intermediate_size: int
    vocab_size: int
    max_position_embeddings: int
    rope_theta: float
    rms_norm_eps: float
    rope_sections: tuple[int, ...]


@dataclass(frozen=True)
class EncoderDims:
    """Sizes of the audio encoder."""

    n_mels: int
    audio_layers: int
    audio_dim: int
    audio_heads: int
    audio_intermediate: int
    conv_channels: int
    proj_dim: int
    max_source_pos: int

    @property
    def conv_bins(self) -> int:
        """Frequencies that the convolutions leave of the mel bins."""
        return halved(self.n_mels)


def text_dimensions(config: Config) -> TextDims:
    """Read the sizes of the text model. Raises InputError as `dimensions`, and for what llama.cpp does not compute."""
    d = checked(config)
    sections = config.get(*(level + SECTIONS for level in LEVELS), kind=list, default=equal_sections(d.head_dim))
    if not all(type(n) is int and 0 <= n <= d.head_dim for n in sections):
        raise InputError(config.path, f"{SECTIONS} is {sections!r}", expected=f"numbers up to {d.head_dim}")
    dims = TextDims(**shared(TextDims, d), value_dim=d.head_dim, rope_sections=(*sections, 0))
    for what, expected in text_errors(dims):
        raise InputError(config.path, what, expected=expected)
    return dims


def encoder_dimensions(config: Config) -> EncoderDims:
    """Read the sizes of the audio encoder. Raises InputError as `text_dimensions`."""
    d = checked(config)
    dims = EncoderDims(**shared(EncoderDims, d))
    for what, expected in encoder_errors(dims):
        raise InputError(config.path, what, expected=expected)
    return dims


def checked(config: Config) -> Qwen3ASRDims:
    """The sizes of a config. Raises InputError for those that llama.cpp has built in, and as others."""
    d = dimensions(config)
    for name, expected in BUILT_IN.items():
        if getattr(d, name) != expected:
            what = f"{name} is {getattr(d, name)}"
            raise InputError(config.path, what, expected=f"{expected}, which llama.cpp has built in")
    return d


def shared(kind: type[Any], d: Any) -> dict[str, Any]:
    """The sizes of `d` that the dataclass `kind` has, too."""
    return {field.name: getattr(d, field.name) for field in fields(kind) if hasattr(d, field.name)}


def equal_sections(head_dim: int) -> list[int]:
    """Sections for a config that names none: of three axes, as equal as can be."""
    pairs = head_dim // 2
    return [pairs - 2 * (pairs // 3), pairs // 3, pairs // 3]


def whole(text: TextDims, encoder: EncoderDims, ids: dict[str, int]) -> Qwen3ASRDims:
    """The sizes of the model in both files; `ids` are those of its tokens."""
    return Qwen3ASRDims(
        **shared(Qwen3ASRDims, encoder), **shared(Qwen3ASRDims, text), **ids, **BUILT_IN,
        audio_head_dim=encoder.audio_dim // encoder.audio_heads, attn_window_mode=WINDOWED,
        sample_rate=SAMPLE_RATE, n_fft=N_FFT, win_length=N_FFT, hop_length=HOP,
    )  # fmt: skip


def text_errors(d: TextDims) -> Iterator[tuple[str, str]]:
    """Contradictions among the sizes of the text model: (found, expected)."""
    if d.num_heads % d.num_kv_heads:
        yield f"num_key_value_heads is {d.num_kv_heads}", f"a divisor of num_attention_heads, {d.num_heads}"
    if d.head_dim % 2:
        yield f"head_dim is {d.head_dim}", "an even number, for the rotary embedding"
    if d.value_dim != d.head_dim:
        yield f"the values of a head are {d.value_dim}", f"as many as its keys, {d.head_dim}"
    if len(d.rope_sections) != 4 or 2 * sum(d.rope_sections) != d.head_dim:
        yield f"the sections of the rotary embedding are {list(d.rope_sections)}", f"four, {d.head_dim // 2} together"
    if not (isfinite(d.rms_norm_eps) and d.rms_norm_eps >= 0):
        yield f"rms_norm_eps is {d.rms_norm_eps}", "a number from 0"
    if not (isfinite(d.rope_theta) and d.rope_theta > 0):
        yield f"rope_theta is {d.rope_theta}", "a positive number"


def encoder_errors(d: EncoderDims) -> Iterator[tuple[str, str]]:
    """Contradictions among the sizes of the encoder: (found, expected)."""
    if d.audio_dim % d.audio_heads:
        yield f"encoder_attention_heads is {d.audio_heads}", f"a divisor of d_model, {d.audio_dim}"
    if d.audio_dim % 2 or d.audio_dim < 4:
        yield f"d_model is {d.audio_dim}", "an even number from 4, for the sinusoidal positions"
    rows = halved(2 * BUILT_IN["n_window"])
    if d.max_source_pos < rows:
        yield f"there are {d.max_source_pos} positions", f"at least {rows}, those of a chunk"


def encoder_warnings(d: EncoderDims) -> Iterator[tuple[str, str]]:
    """Values that no known model has: (found, expected)."""
    if d.n_mels != 128:
        yield f"clip.audio.num_mel_bins is {d.n_mels}", "128"


PUBLISHED_SIZES = {2048: "1.7B", 1024: "0.6B"}  # by the width of the decoder
