"""Sizes and token ids of Qwen3-ASR, by its config.json, and what contradicts them."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Any, NamedTuple

from mimo_convert.formats.config import Config
from mimo_convert.model.family import PublishedVocabulary
from quantize.errors import InputError

ARCHITECTURE = "qwen3asr"
HALVINGS = 3  # of time and of frequency, by the convolutions
WINDOWED = 1  # attn_window_mode: attention within windows, as the model was trained; 0 is full attention

# What no config.json says; the feature extractor of every published model has these.
SAMPLE_RATE, N_FFT, HOP = 16_000, 400, 160

TEXT_CONFIG, AUDIO_CONFIG = "text_config", "audio_config"
LEVELS = ("thinker_config.", "")  # where these are: in the published layout, in that of `-hf` repositories

PUBLISHED = PublishedVocabulary(
    vocab_size=151_936,
    n_merges=151_387,
    n_unused=231,
    ids={
        "<|endoftext|>": 151_643, "<|im_start|>": 151_644, "<|im_end|>": 151_645, "<|audio_start|>": 151_669,
        "<|audio_end|>": 151_670, "<|audio_pad|>": 151_676, "<asr_text>": 151_704,
    },
)  # fmt: skip


class BlockDims(NamedTuple):
    """Sizes of the decoder's blocks, by the names of their layers."""

    n_heads: int
    n_kv_heads: int
    head_dim: int
    rope_theta: float
    rms_norm_eps: float


@dataclass(frozen=True)
class Qwen3ASRDims:
    """Sizes and ids of Qwen3-ASR: `audio_*` are of the encoder, those without a prefix of the decoder.

    `n_window` frames are half a chunk of the convolutions, `n_window_infer` those of a window of attention.
    """

    sample_rate: int
    n_mels: int
    n_fft: int
    win_length: int
    hop_length: int
    audio_layers: int
    audio_dim: int
    audio_heads: int
    audio_head_dim: int
    audio_intermediate: int
    conv_channels: int
    proj_dim: int
    max_source_pos: int
    n_window: int
    n_window_infer: int
    attn_window_mode: int
    num_layers: int
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    max_position_embeddings: int
    rope_theta: float
    rms_norm_eps: float
    audio_start_id: int
    audio_end_id: int
    audio_pad_id: int
    eos_id: int
    pad_id: int

    @property
    def chunk_frames(self) -> int:
        """Mel frames that the convolutions see at once."""
        return 2 * self.n_window

    @property
    def chunk_tokens(self) -> int:
        """Audio tokens of a whole chunk."""
        return halved(self.chunk_frames)

    @property
    def window_tokens(self) -> int:
        """Audio tokens of a window of attention."""
        return self.chunk_tokens * (self.n_window_infer // self.chunk_frames)

    @property
    def llm(self) -> BlockDims:
        """Sizes of the decoder's blocks."""
        return BlockDims(self.num_heads, self.num_kv_heads, self.head_dim, self.rope_theta, self.rms_norm_eps)

    @property
    def conv_bins(self) -> int:
        """Frequencies that the convolutions leave of the mel bins."""
        return halved(self.n_mels)


def halved(n: int) -> int:
    """What the convolutions, each of stride 2, leave of `n` frames or bins."""
    return -(-n // 2**HALVINGS)


# What the forward pass takes for granted; a config that says otherwise is another model.
ASSUMED: dict[str, tuple[Any, ...]] = {
    "audio_config.activation_function": ("gelu",),
    "audio_config.scale_embedding": (False,),
    "text_config.hidden_act": ("silu",),
    "text_config.attention_bias": (False,),
    "text_config.tie_word_embeddings": (True,),
    "text_config.use_sliding_window": (False,),
    "text_config.rope_scaling.rope_type": ("default",),
    "text_config.rope_scaling.type": ("default",),
}


def dimensions(config: Config) -> Qwen3ASRDims:
    """Read the sizes from `config`, under `thinker_config` or without that level.

    Raises InputError for a missing or malformed value, or one that the forward pass does not support.
    """

    def keys(*names: str) -> list[str]:
        return [f"{level}{name}" for name in names for level in LEVELS]

    def audio(name: str, **options: Any) -> int:
        return config.positive(*keys(f"{AUDIO_CONFIG}.{name}"), **options)

    def text(name: str, **options: Any) -> int:
        return config.positive(*keys(f"{TEXT_CONFIG}.{name}"), **options)

    def number(*names: str) -> float:
        return float(config.get(*keys(*(f"{TEXT_CONFIG}.{name}" for name in names)), kind=float))

    for name, allowed in ASSUMED.items():
        for key in keys(name):
            config.must_be(key, *allowed)
    audio_dim, audio_heads = audio("d_model"), audio("encoder_attention_heads")
    hidden_size, num_heads = text("hidden_size"), text("num_attention_heads")
    dims = Qwen3ASRDims(
        sample_rate=SAMPLE_RATE,
        n_mels=audio("num_mel_bins"),
        n_fft=N_FFT,
        win_length=N_FFT,
        hop_length=HOP,
        audio_layers=audio("encoder_layers"),
        audio_dim=audio_dim,
        audio_heads=audio_heads,
        audio_head_dim=max(1, audio_dim // audio_heads),
        audio_intermediate=audio("encoder_ffn_dim"),
        conv_channels=audio("downsample_hidden_size"),
        proj_dim=audio("output_dim"),
        max_source_pos=audio("max_source_positions"),
        n_window=audio("n_window"),
        n_window_infer=audio("n_window_infer"),
        attn_window_mode=WINDOWED,
        num_layers=text("num_hidden_layers"),
        hidden_size=hidden_size,
        num_heads=num_heads,
        num_kv_heads=text("num_key_value_heads"),
        head_dim=text("head_dim", default=max(1, hidden_size // num_heads)),
        intermediate_size=text("intermediate_size"),
        vocab_size=text("vocab_size"),
        max_position_embeddings=text("max_position_embeddings"),
        rope_theta=number("rope_theta", "rope_parameters.rope_theta"),
        rms_norm_eps=number("rms_norm_eps"),
        audio_start_id=config.positive(*keys("audio_start_token_id")),
        audio_end_id=config.positive(*keys("audio_end_token_id")),
        audio_pad_id=config.positive(*keys("audio_token_id")),
        eos_id=config.positive(*keys("eos_token_id"), default=PUBLISHED.ids["<|im_end|>"]),
        pad_id=config.positive(*keys("pad_token_id"), default=PUBLISHED.ids["<|endoftext|>"]),
    )
    for what, expected in config_errors(dims):
        raise InputError(config.path, what, expected=expected)
    return dims


def config_errors(d: Qwen3ASRDims) -> Iterator[tuple[str, str]]:
    """Contradictions among the sizes: (found, expected)."""
    if d.num_heads % d.num_kv_heads:
        yield f"num_key_value_heads is {d.num_kv_heads}", f"a divisor of num_attention_heads, {d.num_heads}"
    if d.audio_heads * d.audio_head_dim != d.audio_dim:
        yield f"encoder_attention_heads is {d.audio_heads}", f"a divisor of d_model, {d.audio_dim}"
    if d.audio_dim % 2 or d.audio_dim < 4:
        yield f"d_model is {d.audio_dim}", "an even number from 4, for the sinusoidal positions"
    if d.head_dim % 2:
        yield f"head_dim is {d.head_dim}", "an even number, for the rotary embedding"
    if d.proj_dim != d.hidden_size:
        yield f"output_dim is {d.proj_dim}", f"hidden_size, {d.hidden_size}"
    if d.n_window_infer % d.chunk_frames:
        yield f"n_window_infer is {d.n_window_infer}", f"a multiple of 2 × n_window, {d.chunk_frames}"
    if d.attn_window_mode > WINDOWED:
        yield f"attn_window_mode is {d.attn_window_mode}", f"0 or {WINDOWED}"
    if not (isfinite(d.rms_norm_eps) and d.rms_norm_eps >= 0):
        yield f"rms_norm_eps is {d.rms_norm_eps}", "a number from 0"
    if not (isfinite(d.rope_theta) and d.rope_theta > 0):
        yield f"rope_theta is {d.rope_theta}", "a positive number"
    for name in ("audio_start_id", "audio_end_id", "audio_pad_id", "eos_id", "pad_id"):
        if getattr(d, name) >= d.vocab_size:
            yield f"{name} is {getattr(d, name)}", f"below vocab_size, {d.vocab_size}"


def config_warnings(d: Qwen3ASRDims) -> Iterator[tuple[str, str]]:
    """Values that no known model has: (found, expected)."""
    for name, expected in (("sample_rate", SAMPLE_RATE), ("n_fft", N_FFT), ("win_length", N_FFT), ("hop_length", HOP)):
        if getattr(d, name) != expected:
            yield f"{ARCHITECTURE}.{name} is {getattr(d, name)}", f"{expected}"
