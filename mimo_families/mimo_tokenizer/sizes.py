"""Sizes of an audio tokenizer, read from its config.json."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Any

from mimo_convert.formats.config import Config
from quantize.errors import InputError
from runtime_check.audio.wave import SAMPLING_RATES

OPEN = -1  # of a side of an attention window: no bound
MOST_FRAMES = 500  # mel frames a second; published is 100, and attention takes the square of their number


@dataclass(frozen=True)
class AudioTokenizerDims:
    """Sizes of the encoder, of its front end, and of decoder and vocoder: the latter are 0 for an audio tokenizer that
    can only encode. `vocoder_window` are the mel frames before and after a frame that it attends to, OPEN for all of
    them."""

    d_model: int
    encoder_layers: int
    encoder_heads: int
    encoder_ffn_dim: int
    skip_layer_id: int  # the output of this many blocks is added to the last one's
    kernel_size: int
    stride_size: int
    avg_pooler: int
    num_quantizers: int
    codebook_size: tuple[int, ...]
    n_mels: int
    nfft: int
    window_size: int
    hop_length: int
    sampling_rate: int
    fmin: float
    rope_theta: float
    decoder_layers: int = 0
    decoder_heads: int = 0
    decoder_ffn_dim: int = 0
    decoder_kernel_size: int = 0
    decoder_stride_size: int = 0
    vocoder_dim: int = 0
    vocoder_layers: int = 0
    vocoder_heads: int = 0
    vocoder_ffn_dim: int = 0
    vocoder_window: tuple[int, ...] = ()

    @property
    def has_decoder(self) -> bool:
        """Whether these are sizes of an audio tokenizer that can decode."""
        return self.decoder_layers > 0

    @property
    def head_dim(self) -> int:
        """Width of an attention head."""
        return self.d_model // self.encoder_heads

    @property
    def frames_per_second(self) -> float:
        """Code frames per second of audio."""
        return self.sampling_rate / (self.hop_length * self.stride_size * self.avg_pooler)

    @property
    def positions_per_second(self) -> float:
        """Encoder positions per second of audio."""
        return self.frames_per_second * self.avg_pooler


# What encoding takes for granted; a config that says otherwise is another model.
ASSUMED: dict[str, tuple[Any, ...]] = {
    "ln_type": ("LayerNorm",),
    "activation_function": ("gelu",),
    "encoder_causal": (False,),
    "encoder_attn_window_size": ([-1, -1],),
    "scale_embedding": (False,),
    "fmax": (),
    "stride_size": (2,),
}


def dimensions(config: Config) -> AudioTokenizerDims:
    """Read the sizes from `config`. Raises InputError for a value that is missing, malformed or unsupported."""
    for key, allowed in ASSUMED.items():
        config.must_be(key, *allowed)
    num_quantizers = config.positive("num_quantizers")
    codebook_size = config.get("codebook_size", kind=list)
    if len(codebook_size) < num_quantizers or not all(type(n) is int and 0 < n < 1 << 31 for n in codebook_size):
        raise InputError(config.path, f"codebook_size is {codebook_size}", expected=f"{num_quantizers} sizes")
    dims = AudioTokenizerDims(
        d_model=config.positive("d_model"),
        encoder_layers=config.positive("encoder_layers"),
        encoder_heads=config.positive("encoder_attention_heads"),
        encoder_ffn_dim=config.positive("encoder_ffn_dim"),
        skip_layer_id=config.positive("encoder_skip_layer_id"),
        kernel_size=config.positive("kernel_size"),
        stride_size=config.positive("stride_size"),
        avg_pooler=config.positive("avg_pooler"),
        num_quantizers=num_quantizers,
        codebook_size=tuple(codebook_size[:num_quantizers]),
        n_mels=config.positive("n_mels"),
        nfft=config.positive("nfft"),
        window_size=config.positive("window_size"),
        hop_length=config.positive("hop_length"),
        sampling_rate=config.positive("sampling_rate"),
        fmin=float(config.get("fmin", kind=float, default=0.0)),
        rope_theta=float(config.get("rope_theta", kind=float)),
        **decoder_sizes(config),
    )
    for what, expected in config_errors(dims):
        raise InputError(config.path, what, expected=expected)
    return dims


def config_errors(d: AudioTokenizerDims) -> Iterator[tuple[str, str]]:
    """Contradictions among the sizes, by the config's names: (found, expected)."""
    if d.d_model % d.encoder_heads:
        yield f"encoder_attention_heads is {d.encoder_heads}", f"a divisor of {d.d_model}"
    if d.head_dim % 2:
        yield f"d_model is {d.d_model}", f"an even number for each of {d.encoder_heads} heads"
    if d.skip_layer_id > d.encoder_layers:
        yield f"encoder_skip_layer_id is {d.skip_layer_id}", f"at most {d.encoder_layers}"
    if not (isfinite(d.rope_theta) and d.rope_theta > 0):
        yield f"rope_theta is {d.rope_theta}", "a positive number"
    if not 0 <= d.fmin < d.sampling_rate / 2:
        yield f"fmin is {d.fmin}", f"from 0, and below half of sampling_rate {d.sampling_rate}"
    if d.sampling_rate not in SAMPLING_RATES:
        yield f"sampling_rate is {d.sampling_rate}", f"{SAMPLING_RATES.start} to {SAMPLING_RATES.stop - 1}"
    if d.sampling_rate > MOST_FRAMES * d.hop_length:
        least = -(-d.sampling_rate // MOST_FRAMES)
        yield f"hop_length is {d.hop_length}", f"at least {least}, for {MOST_FRAMES} mel frames a second"
    if d.nfft > d.sampling_rate:
        yield f"nfft is {d.nfft}", f"at most a second, {d.sampling_rate}"
    if d.window_size > d.nfft:
        yield f"window_size is {d.window_size}", f"at most nfft, {d.nfft}"
    yield from decoder_errors(d)


def decoder_sizes(config: Config) -> dict[str, Any]:
    """The fields of decoder and vocoder that `config` tells; none if it tells of no decoder. Raises InputError for a
    malformed value, or if some are missing."""
    if config.values.get("decoder_layers") is None:
        return {}
    window = config.get("vocoder_attn_window_size", kind=list)
    if len(window) != 2 or not all(type(n) is int and OPEN <= n < 1 << 31 for n in window):
        expected = f"two numbers of mel frames, {OPEN} for all"
        raise InputError(config.path, f"vocoder_attn_window_size is {window}", expected=expected)
    return {
        "decoder_layers": config.positive("decoder_layers"),
        "decoder_heads": config.positive("decoder_attention_heads"),
        "decoder_ffn_dim": config.positive("decoder_ffn_dim"),
        "decoder_kernel_size": config.positive("decoder_kernel_size"),
        "decoder_stride_size": config.positive("decoder_stride_size"),
        "vocoder_dim": config.positive("vocoder_dim"),
        "vocoder_layers": config.positive("vocoder_num_layers"),
        "vocoder_heads": config.positive("vocoder_attention_heads"),
        "vocoder_ffn_dim": config.positive("vocoder_intermediate_dim"),
        "vocoder_window": tuple(window),
    }


def decoder_errors(d: AudioTokenizerDims) -> Iterator[tuple[str, str]]:
    """Contradictions among the sizes of decoder and vocoder, by the config's names: (found, expected)."""
    if not d.has_decoder:
        return
    for width, heads in ((d.d_model, "decoder"), (d.vocoder_dim, "vocoder")):
        n = getattr(d, f"{heads}_heads")
        if width % (2 * n):
            yield f"{heads}_attention_heads is {n}", f"a divisor of {width} that leaves an even number for each head"
    if d.decoder_stride_size != d.stride_size:
        yield f"decoder_stride_size is {d.decoder_stride_size}", f"stride_size, {d.stride_size}: codes as long as audio"
    if d.decoder_kernel_size < d.decoder_stride_size:
        yield (
            f"decoder_kernel_size is {d.decoder_kernel_size}",
            f"decoder_stride_size, {d.decoder_stride_size}, or more",
        )
    if d.nfft % 2 or d.nfft < d.hop_length:
        yield f"nfft is {d.nfft}", f"an even number from hop_length, {d.hop_length}"
    if len(d.vocoder_window) != 2:
        yield f"vocoder_attn_window_size has {len(d.vocoder_window)} numbers", "2"
