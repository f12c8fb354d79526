"""Transformer blocks that families share, in ggml; their PyTorch reference is `runtime_check/pytorch/layers.py`."""

from runtime_check.block_dims import BlockDims

from .decoder import Attention
from .graph import Graph, TensorPtr


def qwen2_block(
    g: Graph, x: TensorPtr, name: str, d: BlockDims, positions: TensorPtr, attention: Attention
) -> TensorPtr:
    """A Qwen2 block (transformers, modeling_qwen2.py): (T, hidden_size) → (T, hidden_size).

    Pre-norm attention with QKV biases and RoPE, then SwiGLU; `attention` maps q, k, v, (T, heads, head_dim) each, to
    (T, heads × head_dim).
    """
    h = g.rms_norm(x, f"{name}attn_norm", d.rms_norm_eps)
    q, k, v = g.qkv(h, f"{name}attn", d.n_heads, d.n_kv_heads, d.head_dim)
    h = attention(g.rope(q, positions, d.rope_theta), g.rope(k, positions, d.rope_theta), v)
    x = g.add(x, g.linear(h, f"{name}attn.o"))
    return g.add(x, g.swiglu(g.rms_norm(x, f"{name}ffn_norm", d.rms_norm_eps), f"{name}ffn"))


def qwen3_block(
    g: Graph, x: TensorPtr, name: str, d: BlockDims, positions: TensorPtr, attention: Attention
) -> TensorPtr:
    """A Qwen3 block (transformers, modeling_qwen3.py), by llama.cpp's names: (T, hidden_size) → (T, hidden_size).

    As a Qwen2 block, but without biases, and with an RMS norm over each head of queries and keys before RoPE.
    """
    h = g.rms_norm(x, f"{name}attn_norm", d.rms_norm_eps)
    q, k, v = g.qkv(h, f"{name}attn", d.n_heads, d.n_kv_heads, d.head_dim, joint="_")
    q, k = (g.rms_norm(y, f"{name}attn_{c}_norm", d.rms_norm_eps) for y, c in ((q, "q"), (k, "k")))
    h = attention(g.rope(q, positions, d.rope_theta), g.rope(k, positions, d.rope_theta), v)
    x = g.add(x, g.linear(h, f"{name}attn_output"))
    return g.add(x, g.swiglu(g.rms_norm(x, f"{name}ffn_norm", d.rms_norm_eps), f"{name}ffn", joint="_"))
