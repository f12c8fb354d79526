"""The part of the audio tokenizer that turns codes into a waveform: a decoder of code embeddings to mel frames, and a
vocoder of mel frames to samples."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gguf import GGUFValueType

from mimo_convert.formats.config import Config
from mimo_convert.model.family import Key, Part, Tensor, one
from mimo_convert.model.uses import block_uses
from quantize.errors import InputError

from .block_layout import USES, block, linear, norm

if TYPE_CHECKING:
    from .layout import AudioTokenizerDims

DECODER = "decoder"  # the part's name: decoder and vocoder, without which a file can only encode
OPEN = -1  # of a side of an attention window: no bound
VOCODER = "vocoder_matrix"  # the role of its weights: exp and phase amplify their error


@dataclass(frozen=True, kw_only=True)
class DecoderDims:
    """Sizes of decoder and vocoder, all 0 for an audio tokenizer that can only encode. `vocoder_window` are the mel
    frames before and after a frame that it attends to, OPEN for all of them."""

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


# What decoding takes for granted; a config that says otherwise is another model.
ASSUMED: dict[str, tuple[Any, ...]] = {
    "decoder_causal": (True,),
    "decoder_attn_window_size": ([OPEN, OPEN],),
    "vocoder_padding": ("same",),
}


def decoder_sizes(config: Config) -> dict[str, Any]:
    """The fields of DecoderDims that `config` tells; none if it tells of no decoder. Raises InputError for a malformed
    value, or if some are missing."""
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


def check_decoder(config: Config) -> None:
    """Raise InputError for a config without a decoder, or of one that decodes in another way."""
    if config.values.get("decoder_layers") is None:
        raise InputError(config.path, "decoder_layers is missing", todo="leave out the decoder: --without decoder")
    for key, allowed in ASSUMED.items():
        config.must_be(key, *allowed)
    config.must_be("window_size", config.get("nfft"))


def decoder_errors(d: "AudioTokenizerDims") -> Iterator[tuple[str, str]]:
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


def decoder_tensors(d: "AudioTokenizerDims") -> Iterator[Tensor]:
    """Every tensor of decoder and vocoder, in order. Kernels of transposed convolutions are (in, out, k)."""

    def up(ours: str, theirs: str, n_out: int, kernel: int) -> Iterator[Tensor]:
        yield one(f"{ours}.conv.weight", f"{theirs}.conv.weight", "convolution", d.d_model, n_out, kernel)
        yield one(f"{ours}.conv.bias", f"{theirs}.conv.bias", "bias", n_out)
        yield from norm(f"{ours}.norm", f"{theirs}.norm", n_out)

    yield from up("dec.up", "decoder.dconv1", d.d_model, d.avg_pooler)
    for i in range(d.decoder_layers):
        yield from block(f"dec.blk.{i}", f"decoder.layers.{i}", d.d_model, d.decoder_ffn_dim)
    yield from norm("dec.norm", "decoder.layer_norm", d.d_model)
    yield from up("dec.mel", "decoder.dconv2", d.n_mels, d.decoder_kernel_size)

    vocoder = "decoder.vocoder"
    yield from linear("voc.embed", f"{vocoder}.embeddings", d.vocoder_dim, d.n_mels, bias=False, role=VOCODER)
    for i in range(d.vocoder_layers):
        yield from block(f"voc.blk.{i}", f"{vocoder}.layers.{i}", d.vocoder_dim, d.vocoder_ffn_dim, VOCODER)
    yield from norm("voc.norm", f"{vocoder}.layer_norm", d.vocoder_dim)
    yield from linear("voc.head", f"{vocoder}.head.out", d.nfft + 2, d.vocoder_dim, role=VOCODER)
    yield one("voc.window", f"{vocoder}.head.istft.window", "table", d.nfft)


SIZES = (
    "decoder_layers", "decoder_heads", "decoder_ffn_dim", "decoder_kernel_size", "decoder_stride_size", "vocoder_dim",
    "vocoder_layers", "vocoder_heads", "vocoder_ffn_dim",
)  # fmt: skip

KEYS = (
    *(Key(size, f"mimo_tok.{size}", default=0, part=DECODER) for size in SIZES),
    Key("vocoder_window", "mimo_tok.vocoder_window", GGUFValueType.INT32, default=(), least=OPEN, part=DECODER),
)

PART = Part(
    r"decoder\..*|(dec|voc)\..*",
    "speech synthesis",
    option="--without decoder",
    why="speech synthesis; recognition needs the encoder alone, --with decoder adds it",
    check=check_decoder,
)

DECODER_USES = (*block_uses(r"dec\.blk\.{layer}\.", USES), *block_uses(r"voc\.blk\.{layer}\.", USES))
