"""MiMo-Audio-Tokenizer: the encoder that turns a waveform into RVQ codes of 8 codebooks at 25 frames per second, and
the decoder that turns codes into a waveform (decoder_layout.py), which a file may lack."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Any

from gguf import GGUFValueType

from mimo_convert.formats.config import Config
from mimo_convert.model.family import SEPARATE, Family, Key, Layout, Tensor, one
from mimo_convert.model.uses import block_uses
from quantize.errors import InputError
from runtime_check.audio.wave import SAMPLING_RATES

from .block_layout import USES, block, norm
from .decoder_layout import (
    DECODER,
    DECODER_USES,
    PART,
    DecoderDims,
    decoder_errors,
    decoder_sizes,
    decoder_tensors,
)
from .decoder_layout import KEYS as DECODER_KEYS

DEFAULT_CODEBOOKS = 8  # codebooks that recognition uses, where no speech LM says how many
MOST_FRAMES = 500  # mel frames a second; published is 100, and attention takes the square of their number


@dataclass(frozen=True, kw_only=True)
class AudioTokenizerDims(DecoderDims):
    """Sizes of the encoder, of its front end, and of the decoder if there is one."""

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
    """Read the sizes from `config`. Raises InputError for a value that is missing, malformed or
    unsupported."""
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


def tensors(d: AudioTokenizerDims, layout: Layout = SEPARATE) -> Iterator[Tensor]:
    """Every tensor of the file, in order."""
    for name, n_in in (("encoder.conv1", d.n_mels), ("encoder.conv2", d.d_model)):
        yield one(f"{name}.weight", f"{name}.weight", "convolution", d.d_model, n_in, d.kernel_size)
        yield one(f"{name}.bias", f"{name}.bias", "bias", d.d_model)
    for i in range(d.encoder_layers):
        yield from block(f"enc.blk.{i}", f"encoder.layers.{i}", d.d_model, d.encoder_ffn_dim)
    yield from norm("enc.norm", "encoder.layer_norm", d.d_model)
    pool = "encoder.down_sample_layer.0.weight"
    yield one(pool, pool, "convolution", d.d_model, d.d_model, d.avg_pooler)
    yield from norm("encoder.down_sample_norm", "encoder.down_sample_norm", d.d_model)
    for i, size in enumerate(d.codebook_size):
        level = f"vq.layers.{i}._codebook.embed"
        yield one(f"encoder.quant.{level}", f"encoder.quantizer.{level}", "codebook", size, d.d_model)
    if d.has_decoder and layout.has(DECODER):
        yield from decoder_tensors(d)


F32 = GGUFValueType.FLOAT32

FAMILY = Family(
    architecture="mimo_tokenizer",
    config_names=("mimo_audio_tokenizer",),
    file_stem="mimo-tokenizer",
    role="audio_tokenizer",
    dimensions=dimensions,
    dimensions_type=AudioTokenizerDims,
    keys=(
        Key("d_model", "mimo_tok.d_model"),
        Key("encoder_layers", "mimo_tok.encoder_layers"),
        Key("encoder_heads", "mimo_tok.encoder_heads"),
        Key("encoder_ffn_dim", "mimo_tok.encoder_ffn_dim"),
        Key("skip_layer_id", "mimo_tok.skip_layer_id", default=3),
        Key("kernel_size", "mimo_tok.kernel_size"),
        Key("stride_size", "mimo_tok.stride_size"),
        Key("avg_pooler", "mimo_tok.avg_pooler"),
        Key("num_quantizers", "mimo_tok.num_quantizers"),
        Key("codebook_size", "mimo_tok.codebook_size", length="num_quantizers"),
        Key("n_mels", "mimo_tok.n_mels", default=128),
        Key("nfft", "mimo_tok.nfft", default=960),
        Key("window_size", "mimo_tok.window_size", default=960),
        Key("hop_length", "mimo_tok.hop_length"),
        Key("sampling_rate", "mimo_tok.sampling_rate"),
        Key("fmin", "mimo_tok.fmin", F32, 0.0),
        Key("rope_theta", "mimo_tok.rope_theta", F32, 10000.0),
        *DECODER_KEYS,
    ),
    config_errors=config_errors,
    tensors=tensors,
    skipped={
        r"encoder\.quantizer\.vq\.layers\.\d+\._codebook\.(embed_avg|cluster_size|inited)": "training buffers",
    },
    parts={DECODER: PART},
    uses=(*block_uses(r"enc\.blk\.{layer}\.", USES), *DECODER_USES),
    about={"general.license": "mit", "general.tags": ["audio", "audio-tokenizer"]},
)
