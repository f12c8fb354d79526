"""The part of the audio tokenizer that turns codes into a waveform: a decoder of code embeddings to mel frames, and a
vocoder of mel frames to samples."""

from collections.abc import Iterator
from typing import Any

from gguf import GGUFValueType

from mimo_convert.formats.config import Config
from mimo_convert.model.family import Key, Part, Tensor, one
from mimo_convert.model.uses import block_uses
from quantize.errors import InputError

from .block_layout import USES, block, linear, norm
from .sizes import OPEN, AudioTokenizerDims

DECODER = "decoder"  # the part's name: decoder and vocoder, without which a file can only encode
VOCODER = "vocoder_matrix"  # the role of its weights: exp and phase amplify their error

# What decoding takes for granted; a config that says otherwise is another model.
ASSUMED: dict[str, tuple[Any, ...]] = {
    "decoder_causal": (True,),
    "decoder_attn_window_size": ([OPEN, OPEN],),
    "vocoder_padding": ("same",),
}


def check_decoder(config: Config) -> None:
    """Raise InputError for a config without a decoder, or of one that decodes in another way."""
    if config.values.get("decoder_layers") is None:
        raise InputError(config.path, "decoder_layers is missing", todo="leave out the decoder: --without decoder")
    for key, allowed in ASSUMED.items():
        config.must_be(key, *allowed)
    config.must_be("window_size", config.get("nfft"))


def decoder_tensors(d: AudioTokenizerDims) -> Iterator[Tensor]:
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

DECODER_USES = block_uses(r"dec\.blk\.{layer}\.", USES)  # of the vocoder none: no recipe makes it smaller
