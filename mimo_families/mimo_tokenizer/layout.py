"""MiMo-Audio-Tokenizer: the encoder that turns a waveform into RVQ codes of 8 codebooks at 25 frames per second, and
the decoder that turns codes into a waveform (decoder_layout.py), which a file may lack."""

from collections.abc import Iterator

from gguf import GGUFValueType

from mimo_convert.model.family import SEPARATE, Family, Key, Layout, Tensor, one
from mimo_convert.model.uses import block_uses

from .block_layout import USES, block, norm
from .decoder_layout import DECODER, DECODER_USES, PART, decoder_tensors
from .decoder_layout import KEYS as DECODER_KEYS
from .sizes import AudioTokenizerDims as AudioTokenizerDims
from .sizes import config_errors
from .sizes import dimensions as dimensions

DEFAULT_CODEBOOKS = 8  # codebooks that recognition uses, where no speech LM says how many


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
