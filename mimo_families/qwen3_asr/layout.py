"""Qwen3-ASR in one GGUF file, as CrispASR loads it: keys, tensors and vocabulary."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from gguf import GGUFValueType

from mimo_convert.model.adapter import AdapterFacts
from mimo_convert.model.family import SEPARATE, Family, Key, Layout, Part, Tensor, TextFacts, one
from mimo_convert.model.uses import (
    ATTENTION_K,
    ATTENTION_OUTPUT,
    ATTENTION_Q,
    ATTENTION_V,
    AUDIO,
    MLP_DOWN,
    MLP_GATE,
    MLP_UP,
    Use,
    block_uses,
)
from mimo_convert.model.uses import (
    HEAD as OUTPUT_HEAD,
)
from mimo_convert.plan.variant import NOT_IN_NAMES
from quantize.kernels import Floats

from .mel import hann_window, mel_filters
from .sizes import (
    ARCHITECTURE,
    HALVINGS,
    PUBLISHED,
    Qwen3ASRDims,
    config_errors,
    config_warnings,
    dimensions,
)

KERNEL = (3, 3)

# ── tensors ──────────────────────────────────────────────────────────────────────────────────────────────────────

ENCODER, DECODER = "thinker.audio_tower", "thinker.model"
EMBEDDING, HEAD, STORED_HEAD = f"{DECODER}.embed_tokens.weight", "tied_head", "thinker.lm_head.weight"
MEL_FILTERS, MEL_WINDOW = "mel_filters", "mel_window"
OUTPUT_COPY = "output_copy"  # the part that `--no-output-copy` leaves out

# Layers of a block: name in the file, name in the checkpoint, role of the weight.
ENCODER_BLOCK = (
    ("attn_norm", "self_attn_layer_norm", "norm"),
    ("attn_q", "self_attn.q_proj", "encoder_matrix"),
    ("attn_k", "self_attn.k_proj", "encoder_matrix"),
    ("attn_v", "self_attn.v_proj", "encoder_matrix"),
    ("attn_out", "self_attn.out_proj", "encoder_matrix"),
    ("ffn_norm", "final_layer_norm", "norm"),
    ("ffn_up", "fc1", "encoder_matrix"),
    ("ffn_down", "fc2", "encoder_matrix"),
)
DECODER_BLOCK = (
    ("attn_norm", "input_layernorm", "norm"),
    ("attn_q", "self_attn.q_proj", "matrix"),
    ("attn_k", "self_attn.k_proj", "matrix"),
    ("attn_v", "self_attn.v_proj", "matrix"),
    ("attn_output", "self_attn.o_proj", "matrix"),
    ("attn_q_norm", "self_attn.q_norm", "norm"),
    ("attn_k_norm", "self_attn.k_norm", "norm"),
    ("ffn_norm", "post_attention_layernorm", "norm"),
    ("ffn_gate", "mlp.gate_proj", "matrix"),
    ("ffn_up", "mlp.up_proj", "matrix"),
    ("ffn_down", "mlp.down_proj", "matrix"),
)


def tensors(d: Qwen3ASRDims, layout: Layout = SEPARATE) -> Iterator[Tensor]:
    """Every tensor of the file, in order. `output.weight` is the embedding once more, for runtimes that ask for a
    head; a file may lack it."""
    yield one("audio.mel_filters", MEL_FILTERS, "table", d.n_fft // 2 + 1, d.n_mels)
    yield one("audio.mel_window", MEL_WINDOW, "table", d.win_length)
    yield from encoder(d)
    yield one("token_embd.weight", EMBEDDING, "embedding", d.vocab_size, d.hidden_size)
    for i in range(d.num_layers):
        yield from decoder_block(f"blk.{i}", f"{DECODER}.layers.{i}", d)
    yield one("output_norm.weight", f"{DECODER}.norm.weight", "norm", d.hidden_size)
    if layout.has(OUTPUT_COPY):
        yield one("output.weight", HEAD, "head", d.vocab_size, d.hidden_size)


def encoder(d: Any) -> Iterator[Tensor]:
    """The tensors of the audio encoder, of sizes named as those of Qwen3ASRDims."""
    width, c = d.audio_dim, d.conv_channels
    for i in range(1, HALVINGS + 1):
        inputs = 1 if i == 1 else c
        yield from _affine(f"audio.conv.{i}", f"{ENCODER}.conv2d{i}", "convolution", c, inputs, *KERNEL)
    yield one("audio.conv_out.weight", f"{ENCODER}.conv_out.weight", "encoder_matrix", width, d.conv_bins * c)
    shapes = {"ffn_up": (d.audio_intermediate, width), "ffn_down": (width, d.audio_intermediate)}
    for i in range(d.audio_layers):
        for ours, theirs, role in ENCODER_BLOCK:
            shape = (width,) if role == "norm" else shapes.get(ours, (width, width))
            yield from _affine(f"audio.blk.{i}.{ours}", f"{ENCODER}.layers.{i}.{theirs}", role, *shape)
    yield from _affine("audio.ln_post", f"{ENCODER}.ln_post", "norm", width)
    yield from _affine("audio.proj1", f"{ENCODER}.proj1", "encoder_matrix", width, width)
    yield from _affine("audio.proj2", f"{ENCODER}.proj2", "encoder_matrix", d.proj_dim, width)


def _affine(name: str, source: str, role: str, *shape: int) -> Iterator[Tensor]:
    """A layer's weight and bias."""
    yield one(f"{name}.weight", f"{source}.weight", role, *shape)
    yield one(f"{name}.bias", f"{source}.bias", "bias", shape[0])


def decoder_block(name: str, source: str, d: Any) -> Iterator[Tensor]:
    """The tensors of a block of the decoder, of sizes named as those of Qwen3ASRDims."""
    h, q, kv = d.hidden_size, d.num_heads * d.head_dim, d.num_kv_heads * d.head_dim
    shapes: dict[str, tuple[int, ...]] = {
        "attn_norm": (h,), "attn_q": (q, h), "attn_k": (kv, h), "attn_v": (kv, h), "attn_output": (h, q),
        "attn_q_norm": (d.head_dim,), "attn_k_norm": (d.head_dim,), "ffn_norm": (h,),
        "ffn_gate": (d.intermediate_size, h), "ffn_up": (d.intermediate_size, h), "ffn_down": (h, d.intermediate_size),
    }  # fmt: skip
    for ours, theirs, role in DECODER_BLOCK:
        yield one(f"{name}.{ours}.weight", f"{source}.{theirs}.weight", role, *shapes[ours])


def computed(d: Qwen3ASRDims) -> Mapping[str, Floats]:
    """The tensors that no checkpoint stores, by their source names."""
    return {
        MEL_FILTERS: mel_filters(d.sample_rate, d.n_fft, d.n_mels),
        MEL_WINDOW: hann_window(d.win_length),
    }


# `-hf` repositories have other names, the first that fits.
HF_NAMES = (
    (re.compile(r"model\.language_model\."), f"{DECODER}."),
    (re.compile(r"model\.multi_modal_projector\.linear_(?=[12]\.)"), f"{ENCODER}.proj"),
    (re.compile(r"model\.audio_tower\."), f"{ENCODER}."),
    (re.compile(r"lm_head\."), "thinker.lm_head."),
)


def canonical(name: str) -> str:
    """The published name, `thinker.…`, of a tensor that may be named as `-hf` repositories name it."""
    for pattern, ours in HF_NAMES:
        if pattern.match(name):
            return pattern.sub(ours, name, count=1)
    return name


def weight_of(module: str) -> str:
    """The checkpoint's name of the weight of a module that an adapter names, in either of its two spellings."""
    return canonical(re.sub(r"^thinker\.layers\.", f"{DECODER}.layers.", module)) + ".weight"


# ── the family ───────────────────────────────────────────────────────────────────────────────────────────────────

STEM, MEGA_STEM = "qwen3-asr", "mega-asr"
MEGA_BASE, MEGA_FOLDER = "Qwen3-ASR-1.7B", "mega-asr-merged"  # in the repository of Mega-ASR
SIZES = {(2048, 28): "1.7b", (1024, 28): "0.6b"}  # (hidden_size, num_layers) of the published models


def file_stem(d: Qwen3ASRDims, adapter: str = "") -> str:
    """What files of the model are called: `qwen3-asr-1.7b`, with Mega-ASR's adapter `mega-asr-1.7b`, with another one
    `qwen3-asr-1.7b-NAME`; without the size if it was not published."""
    stem, own = (MEGA_STEM, "") if adapter == MEGA_FOLDER else (STEM, NOT_IN_NAMES.sub("-", adapter).strip("-._+"))
    return "-".join(filter(None, (stem, SIZES.get((d.hidden_size, d.num_layers), ""), own)))


USES = {
    ATTENTION_Q: "attn_q", ATTENTION_K: "attn_k", ATTENTION_V: "attn_v", ATTENTION_OUTPUT: "attn_output",
    MLP_GATE: "ffn_gate", MLP_UP: "ffn_up", MLP_DOWN: "ffn_down",
}  # fmt: skip

LANGUAGES = "zh en yue ar de fr es pt id it ko ru th vi ja tr hi ms nl sv da fi pl cs fil fa el ro hu mk"
F32 = GGUFValueType.FLOAT32

FAMILY = Family(
    architecture=ARCHITECTURE,
    config_names=("Qwen3ASRForConditionalGeneration", "qwen3_asr"),
    file_stem=STEM,
    role="asr",
    dimensions=dimensions,
    dimensions_type=Qwen3ASRDims,
    keys=(
        Key("sample_rate", "qwen3asr.sample_rate"),
        Key("n_mels", "qwen3asr.n_mels"),
        Key("n_fft", "qwen3asr.n_fft"),
        Key("win_length", "qwen3asr.win_length"),
        Key("hop_length", "qwen3asr.hop_length"),
        Key("audio_layers", "qwen3asr.audio.n_layers"),
        Key("audio_dim", "qwen3asr.audio.d_model"),
        Key("audio_heads", "qwen3asr.audio.n_heads"),
        Key("audio_head_dim", "qwen3asr.audio.head_dim"),
        Key("audio_intermediate", "qwen3asr.audio.ff_dim"),
        Key("conv_channels", "qwen3asr.audio.conv_channels"),
        Key("proj_dim", "qwen3asr.audio.proj_dim"),
        Key("max_source_pos", "qwen3asr.audio.max_source_pos"),
        Key("n_window", "qwen3asr.audio.n_window", default=50),
        Key("n_window_infer", "qwen3asr.audio.n_window_infer", default=800),
        Key("attn_window_mode", "qwen3asr.audio.attn_window_mode", default=0, least=0),
        Key("num_layers", "qwen3asr.llm.n_layers"),
        Key("hidden_size", "qwen3asr.llm.d_model"),
        Key("num_heads", "qwen3asr.llm.n_heads"),
        Key("num_kv_heads", "qwen3asr.llm.n_kv_heads"),
        Key("head_dim", "qwen3asr.llm.head_dim"),
        Key("intermediate_size", "qwen3asr.llm.ff_dim"),
        Key("vocab_size", "qwen3asr.llm.vocab_size"),
        Key("max_position_embeddings", "qwen3asr.llm.max_pos"),
        Key("rope_theta", "qwen3asr.llm.rope_theta", F32),
        Key("rms_norm_eps", "qwen3asr.llm.rms_norm_eps", F32),
        Key("audio_start_id", "qwen3asr.audio_start_token_id"),
        Key("audio_end_id", "qwen3asr.audio_end_token_id"),
        Key("audio_pad_id", "qwen3asr.audio_pad_token_id"),
        Key("eos_id", "qwen3asr.eos_token_id"),
        Key("pad_id", "qwen3asr.pad_token_id"),
    ),
    config_errors=config_errors,
    config_warnings=config_warnings,
    tensors=tensors,
    canonical=canonical,
    computed=computed,
    tied={HEAD: EMBEDDING},
    unused_copies={STORED_HEAD: EMBEDDING},
    adapters=AdapterFacts(weight_of, blocks="mega_lora_blocks.json", base=MEGA_BASE, folder=MEGA_FOLDER),
    skipped={re.escape(STORED_HEAD): "tied: the output head is embed_tokens"},
    parts={OUTPUT_COPY: Part(r"output\.weight|tied_head", "copy of the embedding as head", "--no-output-copy")},
    uses=(
        Use(OUTPUT_HEAD, r"(token_embd|output)\.weight"),  # tied: one type for both
        *block_uses(r"blk\.{layer}\.", USES),
        Use(AUDIO, r"audio\..*\.weight"),
    ),
    no_fused_qkv="no contract of this family names a fused tensor",
    stem_of=file_stem,
    text=TextFacts(
        model="gpt2",
        pre="qwen2",
        first_added="<|endoftext|>",
        stop_tokens=("<|im_end|>", "<|endoftext|>"),
        required=("<|im_start|>", "<|im_end|>", "<|audio_start|>", "<|audio_end|>", "<|audio_pad|>", "<asr_text>"),
        published=PUBLISHED,
        ids={
            "audio_start_id": "<|audio_start|>", "audio_end_id": "<|audio_end|>", "audio_pad_id": "<|audio_pad|>",
            "eos_id": "<|im_end|>", "pad_id": "<|endoftext|>",
        },
    ),
    about={
        "general.license": "apache-2.0",
        "general.languages": LANGUAGES.split(),
        "general.tags": ["automatic-speech-recognition", "audio"],
    },
)  # fmt: skip
