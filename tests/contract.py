"""The GGUF contract as tests know it: tables written from its text, without a look at the code they check."""

import re
from collections.abc import Mapping, Sequence

# inside a Qwen2 block: GGUF ← checkpoint
BLOCK = {
    "attn_norm.weight": "input_layernorm.weight",
    "attn.q.weight": "self_attn.q_proj.weight",
    "attn.q.bias": "self_attn.q_proj.bias",
    "attn.k.weight": "self_attn.k_proj.weight",
    "attn.k.bias": "self_attn.k_proj.bias",
    "attn.v.weight": "self_attn.v_proj.weight",
    "attn.v.bias": "self_attn.v_proj.bias",
    "attn.o.weight": "self_attn.o_proj.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
    "ffn.gate.weight": "mlp.gate_proj.weight",
    "ffn.up.weight": "mlp.up_proj.weight",
    "ffn.down.weight": "mlp.down_proj.weight",
}
SPEECH_LM = {
    "llm.embed.weight": "model.embed_tokens.weight",
    "llm.final_norm.weight": "model.norm.weight",
    "llm.lm_head.weight": "lm_head.weight",
    "audio.norm.weight": "input_local_transformer.norm.weight",
    "audio.group_proj.weight": "speech_group_downcast.weight",
    "audio.hidden_proj.weight": "hidden_states_downcast.weight",
    "llm.norm.weight": "local_transformer.norm.weight",
    **{f"audio.emb.{c}.weight": f"speech_embeddings.{c}.weight" for c in range(8)},
    **{f"llm.codebook_head.{c}.weight": f"local_transformer_lm_heads.{c}.weight" for c in range(8)},
}
# inside an encoder block
ENCODER_BLOCK = {
    "attn.q.weight": "self_attn.q_proj.weight",
    "attn.q.bias": "self_attn.q_proj.bias",
    "attn.k.weight": "self_attn.k_proj.weight",
    "attn.v.weight": "self_attn.v_proj.weight",
    "attn.v.bias": "self_attn.v_proj.bias",
    "attn.o.weight": "self_attn.out_proj.weight",
    "attn.o.bias": "self_attn.out_proj.bias",
    "attn_norm.weight": "self_attn_layer_norm.weight",
    "attn_norm.bias": "self_attn_layer_norm.bias",
    "ffn_norm.weight": "final_layer_norm.weight",
    "ffn_norm.bias": "final_layer_norm.bias",
    "fc1.weight": "fc1.weight",
    "fc1.bias": "fc1.bias",
    "fc2.weight": "fc2.weight",
    "fc2.bias": "fc2.bias",
}
ENCODER = {
    **{f"encoder.conv{i}.{kind}": f"encoder.conv{i}.{kind}" for i in (1, 2) for kind in ("weight", "bias")},
    "encoder.down_sample_layer.0.weight": "encoder.down_sample_layer.0.weight",
    "encoder.down_sample_norm.weight": "encoder.down_sample_norm.weight",
    "encoder.down_sample_norm.bias": "encoder.down_sample_norm.bias",
    "enc.norm.weight": "encoder.layer_norm.weight",
    "enc.norm.bias": "encoder.layer_norm.bias",
}


def speech_lm_names(layers: int, input_layers: int, patch_layers: int, *, fused: bool) -> dict[str, list[str]]:
    """GGUF name → names in the checkpoint, whose rows stand one below the other."""
    names = {ours: [theirs] for ours, theirs in SPEECH_LM.items()}
    stacks = [
        ("model.layers", "model.layers", layers),
        ("audio.blk", "input_local_transformer.layers", input_layers),
        ("llm.blk", "local_transformer.layers", patch_layers),
    ]
    for ours, theirs, n in stacks:
        for i in range(n):
            block = {f"{ours}.{i}.{key}": [f"{theirs}.{i}.{name}"] for key, name in BLOCK.items()}
            if fused and ours == "model.layers":
                for kind in ("weight", "bias"):
                    qkv = [block.pop(f"{ours}.{i}.attn.{c}.{kind}")[0] for c in "qkv"]
                    block[f"{ours}.{i}.attn.qkv.{kind}"] = qkv
            names |= block
    return names


SPEECH_GENERATION = re.compile(r"(llm\.blk|llm\.norm|llm\.codebook_head|audio\.hidden_proj)\..*")


def is_speech_generation(name: str) -> bool:
    """Whether a tensor of the file serves speech generation alone, and `--asr-only` leaves it out."""
    return SPEECH_GENERATION.fullmatch(name) is not None


def audio_tokenizer_names(layers: int, levels: int) -> dict[str, list[str]]:
    names = {ours: [theirs] for ours, theirs in ENCODER.items()}
    for i in range(layers):
        names |= {f"enc.blk.{i}.{ours}": [f"encoder.layers.{i}.{theirs}"] for ours, theirs in ENCODER_BLOCK.items()}
    for i in range(levels):
        embed = f"vq.layers.{i}._codebook.embed"
        names[f"encoder.quant.{embed}"] = [f"encoder.quantizer.{embed}"]
    return names


# decoder and vocoder: GGUF ← checkpoint
DECODER = {
    **{
        f"dec.{ours}.{what}": f"decoder.{theirs}.{what}"
        for ours, theirs in (("up", "dconv1"), ("mel", "dconv2"))
        for what in ("conv.weight", "conv.bias", "norm.weight", "norm.bias")
    },
    "dec.norm.weight": "decoder.layer_norm.weight",
    "dec.norm.bias": "decoder.layer_norm.bias",
    "voc.embed.weight": "decoder.vocoder.embeddings.weight",
    "voc.norm.weight": "decoder.vocoder.layer_norm.weight",
    "voc.norm.bias": "decoder.vocoder.layer_norm.bias",
    "voc.head.weight": "decoder.vocoder.head.out.weight",
    "voc.head.bias": "decoder.vocoder.head.out.bias",
    "voc.window": "decoder.vocoder.head.istft.window",
}
# key → field of config.json
DECODER_KEYS = {
    "decoder_layers": "decoder_layers", "decoder_heads": "decoder_attention_heads",
    "decoder_ffn_dim": "decoder_ffn_dim", "decoder_kernel_size": "decoder_kernel_size",
    "decoder_stride_size": "decoder_stride_size", "vocoder_dim": "vocoder_dim", "vocoder_layers": "vocoder_num_layers",
    "vocoder_heads": "vocoder_attention_heads", "vocoder_ffn_dim": "vocoder_intermediate_dim",
}  # fmt: skip


def decoder_names(layers: int, vocoder_layers: int) -> dict[str, str]:
    """GGUF name → name in the checkpoint, of decoder and vocoder."""
    names = dict(DECODER)
    for ours, theirs, n in (("dec", "decoder", layers), ("voc", "decoder.vocoder", vocoder_layers)):
        for i in range(n):
            names |= {f"{ours}.blk.{i}.{to}": f"{theirs}.layers.{i}.{of}" for to, of in ENCODER_BLOCK.items()}
    return names


FALLBACKS = {"q2_k": "q4_0", "q3_k": "q4_0", "q4_k": "q4_0", "q5_k": "q5_0", "q6_k": "q8_0", "iq4_xs": "iq4_nl"}


def contract_type(name: str, shape: Sequence[int], requested: str, blocks: Mapping[str, int]) -> str:
    """The section "Types" for one tensor; `blocks` gives each type's block."""
    if requested == "f32" or len(shape) == 1 or name.endswith("bias") or "norm" in name or "_codebook" in name:
        return "f32"
    if len(shape) == 3 or name.startswith("voc."):
        return "f16"
    type = requested
    while shape[-1] % blocks[type]:
        type = FALLBACKS.get(type, "f16")
    return type
