"""Keys and tensors of the pair: `qwen3vl`, the text model, and `clip`, the audio encoder with its projector.

llama.cpp skips most misnamed tensors of a `clip` file without a word; the names here are complete, and others refused.
Source: the libraries llama and mtmd of llama.cpp, 0c1e57098.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from gguf import GGUFValueType

from mimo_convert.model.family import SEPARATE, Constant, Family, Key, Layout, Tensor, one
from mimo_convert.model.uses import AUDIO, Use, block_uses
from mimo_convert.model.uses import HEAD as OUTPUT_HEAD
from mimo_convert.plan.variant import NOT_IN_NAMES
from quantize.kernels import Floats

from .. import layout as one_file
from ..front_end import sinusoids
from ..layout import DECODER, ENCODER, HEAD, MEGA_FOLDER, OUTPUT_COPY, STORED_HEAD, canonical
from ..layout import EMBEDDING as STORED_EMBEDDING
from ..layout import FAMILY as ONE_FILE
from .sizes import (
    PUBLISHED_SIZES,
    EncoderDims,
    TextDims,
    encoder_dimensions,
    encoder_errors,
    encoder_warnings,
    text_dimensions,
    text_errors,
)

TEXT_ROLE, ENCODER_ROLE = "asr", "audio_encoder"
PREFIX = "mmproj-"  # of the name of the encoder's file; `-hf` of llama.cpp finds it by that
POSITIONS = "position_table"

# ── tensors ──────────────────────────────────────────────────────────────────────────────────────────────────────


BLOCK = {"attn_norm": "ln1", "ffn_norm": "ln2"}  # layers of an encoder block that one file calls otherwise


def text_tensors(d: TextDims, layout: Layout = SEPARATE) -> Iterator[Tensor]:
    """Every tensor of the text model, in order. llama.cpp takes the embedding as head where there is no other; its own
    converter writes the head that a checkpoint stores, a copy."""
    yield one("token_embd.weight", STORED_EMBEDDING, "embedding", d.vocab_size, d.hidden_size)
    for i in range(d.num_layers):
        yield from one_file.decoder_block(f"blk.{i}", f"{DECODER}.layers.{i}", d)
    yield one("output_norm.weight", f"{DECODER}.norm.weight", "norm", d.hidden_size)
    if layout.has(OUTPUT_COPY):
        yield one("output.weight", HEAD, "head", d.vocab_size, d.hidden_size)


def encoder_tensors(d: EncoderDims, layout: Layout = SEPARATE) -> Iterator[Tensor]:
    """Every tensor of the audio encoder, in order."""
    yield one("a.position_embd.weight", POSITIONS, "table", d.max_source_pos, d.audio_dim)
    for tensor in one_file.encoder(d):
        name = encoder_name(tensor.name)
        is_convolution = name.startswith("a.conv2d.")
        view = (*tensor.shape, 1, 1) if is_convolution and tensor.role == "bias" else ()
        yield replace(tensor, name=name, view=view)


def encoder_name(name: str) -> str:
    """The name of a tensor of the encoder, by the one that it has in one file."""
    layer, _, suffix = name.removeprefix("audio.").rpartition(".")
    kind, _, rest = layer.partition(".")
    if kind == "blk":
        number, _, part = rest.partition(".")
        return f"a.blk.{number}.{BLOCK.get(part, part)}.{suffix}"
    return f"{ENCODER_NAMES.get(kind) or f'a.conv2d.{rest}'}.{suffix}"


ENCODER_NAMES = {"conv_out": "a.conv_out", "ln_post": "a.post_ln", "proj1": "mm.a.mlp.1", "proj2": "mm.a.mlp.2"}


def positions(d: EncoderDims) -> Mapping[str, Floats]:
    """The positions, which no checkpoint stores, by their source name. Those of a chunk are read, the first 13."""
    return {POSITIONS: sinusoids(d.max_source_pos, d.audio_dim)}


# ── names ────────────────────────────────────────────────────────────────────────────────────────────────────────


def name_of(hidden_size: int, adapter: str) -> str:
    """What the model is called: `Qwen3-ASR-1.7B`, with Mega-ASR's adapter `Mega-ASR-1.7B`, with another one
    `Qwen3-ASR-1.7B-NAME`; without the size if it was not published."""
    is_mega = adapter == MEGA_FOLDER
    own = "" if is_mega else NOT_IN_NAMES.sub("-", adapter).strip("-._+")
    stem = "Mega-ASR" if is_mega else "Qwen3-ASR"
    return "-".join(filter(None, (stem, PUBLISHED_SIZES.get(hidden_size, ""), own)))


# ── the families ─────────────────────────────────────────────────────────────────────────────────────────────────

STRING, BOOL, F32, I32 = GGUFValueType.STRING, GGUFValueType.BOOL, GGUFValueType.FLOAT32, GGUFValueType.INT32
U32 = GGUFValueType.UINT32

# Upstream's prompt; llama.cpp's own converter leaves the empty system block out. `\n` is the template's.
WITHOUT_SYSTEM = (
    r"{% for message in messages %}"
    r"{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    r"{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CHAT_TEMPLATE = (
    r"{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n<|im_end|>\n' }}{% endif %}" + WITHOUT_SYSTEM
)
OF_ENCODER, OF_TEXT = "in the mmproj file of the pair", "in the text model's file of the pair"
assert ONE_FILE.text is not None

TEXT = Family(
    architecture="qwen3vl",
    config_names=(),  # a config is of the one file, unless another runtime is asked for
    file_stem="Qwen3-ASR",
    role=TEXT_ROLE,
    dimensions=text_dimensions,
    dimensions_type=TextDims,
    keys=(
        Key("num_layers", "qwen3vl.block_count"),
        Key("max_position_embeddings", "qwen3vl.context_length"),
        Key("hidden_size", "qwen3vl.embedding_length"),
        Key("intermediate_size", "qwen3vl.feed_forward_length"),
        Key("num_heads", "qwen3vl.attention.head_count"),
        Key("num_kv_heads", "qwen3vl.attention.head_count_kv"),
        Key("head_dim", "qwen3vl.attention.key_length"),
        Key("value_dim", "qwen3vl.attention.value_length"),
        Key("rms_norm_eps", "qwen3vl.attention.layer_norm_rms_epsilon", F32),
        Key("rope_theta", "qwen3vl.rope.freq_base", F32),
        Key("rope_sections", "qwen3vl.rope.dimension_sections", I32, is_list=True, least=0),
        Key("vocab_size", "token_embd.weight", axis=0),
    ),
    constants=(
        Constant("qwen3vl.n_deepstack_layers", 0, U32, may_be_missing=True),
        Constant("tokenizer.ggml.add_bos_token", False, BOOL, may_be_missing=True),
        Constant(
            "tokenizer.chat_template",
            CHAT_TEMPLATE,
            STRING,
            other_values=(WITHOUT_SYSTEM,),
            words="the template of this model, whose prompt it was trained with",
        ),
    ),
    config_errors=text_errors,
    tensors=text_tensors,
    canonical=canonical,
    tied={HEAD: STORED_EMBEDDING},
    unused_copies={STORED_HEAD: STORED_EMBEDDING},
    skipped={**ONE_FILE.skipped, rf"{ENCODER}\..*": OF_ENCODER},
    parts={OUTPUT_COPY: ONE_FILE.parts[OUTPUT_COPY]._replace(option="")},
    uses=(
        Use(OUTPUT_HEAD, r"(token_embd|output)\.weight"),  # tied: one type for both
        *block_uses(r"blk\.{layer}\.", one_file.USES),
    ),
    no_fused_qkv=ONE_FILE.no_fused_qkv,
    stem_of=lambda d, adapter: name_of(d.hidden_size, adapter),
    spelled=str.upper,
    text=replace(ONE_FILE.text, ids={}),
    about=ONE_FILE.about,
)

MMPROJ = Family(
    architecture="clip",
    config_names=(),
    file_stem=PREFIX.rstrip("-"),
    role=ENCODER_ROLE,
    dimensions=encoder_dimensions,
    dimensions_type=EncoderDims,
    keys=(
        Key("audio_dim", "clip.audio.embedding_length"),
        Key("audio_intermediate", "clip.audio.feed_forward_length"),
        Key("audio_layers", "clip.audio.block_count"),
        Key("audio_heads", "clip.audio.attention.head_count"),
        Key("proj_dim", "clip.audio.projection_dim"),
        Key("n_mels", "clip.audio.num_mel_bins"),
        Key("conv_channels", "a.conv2d.1.weight", axis=0),
        Key("max_source_pos", "a.position_embd.weight", axis=0),
    ),
    constants=(
        Constant("clip.has_audio_encoder", True, BOOL),
        Constant("clip.audio.projector_type", "qwen3a", STRING, other_key="clip.projector_type"),
        Constant("clip.audio.attention.layer_norm_epsilon", 1e-5, F32),
    ),
    config_errors=encoder_errors,
    config_warnings=encoder_warnings,
    tensors=encoder_tensors,
    canonical=canonical,
    computed=positions,
    skipped={**ONE_FILE.skipped, rf"{DECODER}\..*": OF_TEXT},
    uses=(Use(AUDIO, r"(a|mm\.a)\..*\.weight"),),
    stem_of=lambda d, adapter: PREFIX + name_of(d.proj_dim, adapter),
    spelled=str.upper,
    about={"general.type": "mmproj", **ONE_FILE.about},
)
