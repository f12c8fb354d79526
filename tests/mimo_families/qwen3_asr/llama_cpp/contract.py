"""What llama.cpp reads, from the text of its specification: names, keys and types of both files, written out."""

from collections.abc import Iterator
from typing import Any

from tests.mimo_families.qwen3_asr.files.contract import TEXT_BLOCK

BLOCK = {
    "ln1": "self_attn_layer_norm", "ln2": "final_layer_norm", "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_out": "self_attn.out_proj", "ffn_up": "fc1",
    "ffn_down": "fc2",
}  # fmt: skip
WHOLE = {
    "a.conv2d.1": "conv2d1", "a.conv2d.2": "conv2d2", "a.conv2d.3": "conv2d3", "a.post_ln": "ln_post",
    "mm.a.mlp.1": "proj1", "mm.a.mlp.2": "proj2",
}  # fmt: skip
POSITIONS = "a.position_embd.weight"  # the only tensor that no checkpoint stores
TOWER, DECODER = "thinker.audio_tower", "thinker.model"

# Templates of prompts: what the converter of llama.cpp writes, and what must stand before it.
STOCK = (
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
SYSTEM_BLOCK = "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\n<|im_end|>\\n' }}{% endif %}"


def encoder_names(n_layers: int) -> dict[str, str]:
    """Name in the `clip` file → name in the checkpoint."""

    def every() -> Iterator[tuple[str, str]]:
        yield "a.conv_out.weight", f"{TOWER}.conv_out.weight"
        for kind in ("weight", "bias"):
            yield from ((f"{ours}.{kind}", f"{TOWER}.{theirs}.{kind}") for ours, theirs in WHOLE.items())
            for i in range(n_layers):
                for ours, theirs in BLOCK.items():
                    yield f"a.blk.{i}.{ours}.{kind}", f"{TOWER}.layers.{i}.{theirs}.{kind}"

    return dict(every())


def text_names(n_layers: int) -> dict[str, str]:
    """Name in the `qwen3vl` file → name in the checkpoint; the head is the embedding."""
    blocks = {
        f"blk.{i}.{ours}.weight": f"{DECODER}.layers.{i}.{theirs}.weight"
        for i in range(n_layers)
        for ours, theirs in TEXT_BLOCK.items()
    }
    outside = {"token_embd.weight": "embed_tokens.weight", "output_norm.weight": "norm.weight"}
    return blocks | {ours: f"{DECODER}.{theirs}" for ours, theirs in outside.items()}


def text_keys(text: dict[str, Any]) -> dict[str, tuple[str, Any]]:
    """Type and value of each key of the text file that llama.cpp reads, without the lists of the vocabulary."""
    return {
        "general.architecture": ("STRING", "qwen3vl"),
        "general.type": ("STRING", "model"),
        "general.quantization_version": ("UINT32", 2),
        "qwen3vl.block_count": ("UINT32", text["num_hidden_layers"]),
        "qwen3vl.context_length": ("UINT32", text["max_position_embeddings"]),
        "qwen3vl.embedding_length": ("UINT32", text["hidden_size"]),
        "qwen3vl.feed_forward_length": ("UINT32", text["intermediate_size"]),
        "qwen3vl.attention.head_count": ("UINT32", text["num_attention_heads"]),
        "qwen3vl.attention.head_count_kv": ("UINT32", text["num_key_value_heads"]),
        "qwen3vl.attention.key_length": ("UINT32", 128),
        "qwen3vl.attention.value_length": ("UINT32", 128),
        "qwen3vl.rope.freq_base": ("FLOAT32", 1e6),
        "qwen3vl.rope.dimension_sections": ("INT32", [24, 20, 20, 0]),
        "qwen3vl.n_deepstack_layers": ("UINT32", 0),
        "tokenizer.ggml.model": ("STRING", "gpt2"),
        "tokenizer.ggml.pre": ("STRING", "qwen2"),
        "tokenizer.ggml.add_bos_token": ("BOOL", False),
        "tokenizer.chat_template": ("STRING", SYSTEM_BLOCK + STOCK),
    }


def encoder_keys(audio: dict[str, Any]) -> dict[str, tuple[str, Any]]:
    """The same of the encoder's file."""
    return {
        "general.architecture": ("STRING", "clip"),
        "general.type": ("STRING", "mmproj"),
        "clip.has_audio_encoder": ("BOOL", True),
        "clip.audio.projector_type": ("STRING", "qwen3a"),
        "clip.audio.embedding_length": ("UINT32", audio["d_model"]),
        "clip.audio.feed_forward_length": ("UINT32", audio["encoder_ffn_dim"]),
        "clip.audio.block_count": ("UINT32", audio["encoder_layers"]),
        "clip.audio.attention.head_count": ("UINT32", audio["encoder_attention_heads"]),
        "clip.audio.projection_dim": ("UINT32", audio["output_dim"]),
        "clip.audio.num_mel_bins": ("UINT32", 128),
    }
