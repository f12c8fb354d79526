"""The GGUF contract of the family, from the text of its specification: names and keys."""

from collections.abc import Iterator
from typing import Any

AUDIO_BLOCK = {
    "attn_norm": "self_attn_layer_norm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_out": "self_attn.out_proj", "ffn_norm": "final_layer_norm", "ffn_up": "fc1",
    "ffn_down": "fc2",
}  # fmt: skip
TEXT_BLOCK = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm", "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip
BOTH = ("weight", "bias")


def names(audio_layers: int, text_layers: int) -> dict[str, str]:
    """Name in the file → name in the checkpoint, of all tensors that a checkpoint stores."""
    return dict(_names(audio_layers, text_layers))


def _names(audio_layers: int, text_layers: int) -> Iterator[tuple[str, str]]:
    tower = "thinker.audio_tower"
    for kind in BOTH:
        yield from ((f"audio.conv.{i}.{kind}", f"{tower}.conv2d{i}.{kind}") for i in (1, 2, 3))
        yield from ((f"audio.{one}.{kind}", f"{tower}.{one}.{kind}") for one in ("ln_post", "proj1", "proj2"))
        for i in range(audio_layers):
            for ours, theirs in AUDIO_BLOCK.items():
                yield f"audio.blk.{i}.{ours}.{kind}", f"{tower}.layers.{i}.{theirs}.{kind}"
    yield "audio.conv_out.weight", f"{tower}.conv_out.weight"
    yield "token_embd.weight", "thinker.model.embed_tokens.weight"
    yield "output.weight", "thinker.model.embed_tokens.weight"
    yield "output_norm.weight", "thinker.model.norm.weight"
    for i in range(text_layers):
        for ours, theirs in TEXT_BLOCK.items():
            yield f"blk.{i}.{ours}.weight", f"thinker.model.layers.{i}.{theirs}.weight"


def keys(text: dict[str, Any], audio: dict[str, Any]) -> dict[str, Any]:
    """The file's keys by the values of the checkpoint's two configs, without ids of tokens."""
    front = {"sample_rate": 16000, "n_mels": 128, "n_fft": 400, "win_length": 400, "hop_length": 160}
    of_audio = {
        "n_layers": audio["encoder_layers"], "d_model": audio["d_model"], "n_heads": audio["encoder_attention_heads"],
        "head_dim": audio["d_model"] // audio["encoder_attention_heads"], "ff_dim": audio["encoder_ffn_dim"],
        "conv_channels": audio["downsample_hidden_size"], "proj_dim": audio["output_dim"], "max_source_pos": 1500,
        "n_window": 50, "n_window_infer": 800, "attn_window_mode": 1,
    }  # fmt: skip
    of_text = {
        "n_layers": text["num_hidden_layers"], "d_model": text["hidden_size"], "n_heads": text["num_attention_heads"],
        "n_kv_heads": text["num_key_value_heads"], "head_dim": text["head_dim"], "ff_dim": text["intermediate_size"],
        "vocab_size": text["vocab_size"], "max_pos": 65536, "rope_theta": 1e6,
    }  # fmt: skip
    return (
        {f"qwen3asr.{key}": value for key, value in front.items()}
        | {f"qwen3asr.audio.{key}": value for key, value in of_audio.items()}
        | {f"qwen3asr.llm.{key}": value for key, value in of_text.items()}
    )
