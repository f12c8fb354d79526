"""Layers in PyTorch, the reference of `runtime_check/ggml/graph.py`: norms, rotary embedding, attention, convolution
and its transpose, the Qwen2 and Qwen3 blocks.

Weights come from a callable; any leading batch dimensions are accepted."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from runtime_check.block_dims import BlockDims
from runtime_check.near import mask_of

from .weights import Weights

LAYER_NORM_EPS = 1e-5
QUERIES_AT_ONCE = 512  # of attention to near positions: their scores are in memory together


def rope(x: Tensor, positions: Tensor, theta: float) -> Tensor:
    """Rotary embedding (Su et al. 2021) in the NeoX layout: x (…, n_heads, T, head_dim), positions (T,)."""
    half = x.shape[-1] // 2
    frequencies = theta ** (-torch.arange(half, dtype=torch.float32) / half)
    angles = positions[:, None].float() * frequencies  # (T, half)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMS norm (Zhang & Sennrich 2019), computed in float32: (…, d) → (…, d)."""
    h = x.float()
    return (h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype) * weight


def layer_norm(x: Tensor, w: Weights, name: str) -> Tensor:
    """Layer norm (Ba et al. 2016): (…, d) → (…, d)."""
    return F.layer_norm(x, x.shape[-1:], w(f"{name}.weight"), w(f"{name}.bias"), LAYER_NORM_EPS)


def group_norm(x: Tensor, w: Weights, name: str) -> Tensor:
    """Group norm (Wu & He 2018) of one group, all positions and channels together: (…, T, d) → (…, T, d)."""
    h = F.layer_norm(x, x.shape[-2:], eps=LAYER_NORM_EPS)
    return h * w(f"{name}.weight") + w(f"{name}.bias")


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Scaled dot-product attention (grouped-query): q (…, n_heads, T, head_dim) over k, v (…, n_kv_heads, S, head_dim)
    → (…, T, n_heads × head_dim); the softmax is float32."""
    repeats = q.shape[-3] // k.shape[-3]
    k, v = k.repeat_interleave(repeats, -3), v.repeat_interleave(repeats, -3)
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])  # (…, n_heads, T, S)
    if mask is not None:
        scores = scores + mask
    return (scores.float().softmax(-1).to(v.dtype) @ v).transpose(-2, -3).flatten(-2)


def attend_windows(q: Tensor, k: Tensor, v: Tensor, size: int) -> Tensor:
    """Attention within windows of `size` positions, the last one shorter: q, k, v (…, heads, T, head_dim) →
    (…, T, n_heads × head_dim)."""
    windows = zip(q.split(size, -2), k.split(size, -2), v.split(size, -2), strict=True)
    return torch.cat([attend(*window, mask=None) for window in windows], -2)


def attend_near(q: Tensor, k: Tensor, v: Tensor, before: int, after: int) -> Tensor:
    """Attention of each position i to i - before … i + after, both included; -1 is no bound: q, k, v (…, heads, T,
    head_dim) → (…, T, n_heads × head_dim)."""
    n, parts = q.shape[-2], []
    for begin in range(0, n, QUERIES_AT_ONCE):
        end = min(begin + QUERIES_AT_ONCE, n)
        first, last = max(0, begin - before) if before >= 0 else 0, min(n, end + after) if after >= 0 else n
        mask = torch.from_numpy(mask_of(range(begin, end), range(first, last), n, before, after)).to(q.dtype)
        parts.append(attend(q[..., begin:end, :], k[..., first:last, :], v[..., first:last, :], mask))
    return torch.cat(parts, -2)


def heads(x: Tensor, n_heads: int) -> Tensor:
    """Split heads: (…, T, n_heads × head_dim) → (…, n_heads, T, head_dim)."""
    return x.unflatten(-1, (n_heads, -1)).transpose(-2, -3)


def convolution(x: Tensor, w: Weights, name: str, stride: int = 1, padding: int = 0, bias: bool = True) -> Tensor:
    """1-D convolution: (…, T, n_in) → (…, T', n_out)."""
    kernel = w(f"{name}.weight")
    time_last = x.transpose(-1, -2).to(kernel.dtype)
    y = F.conv1d(time_last, kernel, w(f"{name}.bias") if bias else None, stride=stride, padding=padding)
    return y.transpose(-1, -2)


def transposed_convolution(x: Tensor, w: Weights, name: str, stride: int) -> Tensor:
    """1-D transposed convolution with a bias: (…, T, n_in) → (…, (T - 1) × stride + kernel_size, n_out)."""
    kernel = w(f"{name}.weight")
    y = F.conv_transpose1d(x.transpose(-1, -2).to(kernel.dtype), kernel, w(f"{name}.bias"), stride=stride)
    return y.transpose(-1, -2)


def convolution_2d(x: Tensor, w: Weights, name: str, stride: int = 1, padding: int = 0) -> Tensor:
    """2-D convolution with a bias: (…, n_in, H, W) → (…, n_out, H', W')."""
    kernel = w(f"{name}.weight")
    return F.conv2d(x.to(kernel.dtype), kernel, w(f"{name}.bias"), stride=stride, padding=padding)


Cache = dict[int, tuple[Tensor, Tensor]]  # layer → its keys and values so far, (…, n_kv_heads, positions, head_dim)


def qwen2_block(
    x: Tensor, w: Weights, name: str, d: BlockDims, positions: Tensor, mask: Tensor | None,
    cache: Cache | None = None, layer: int = 0,
) -> Tensor:  # fmt: skip
    """A Qwen2 block (transformers, modeling_qwen2.py): (…, T, hidden_size) → (…, T, hidden_size).

    With a cache, T new positions attend to all before them.
    """
    h = rms_norm(x, w(f"{name}input_layernorm.weight"), d.rms_norm_eps)
    q, k, v = (
        heads(w.linear(f"{name}self_attn.{c}_proj.weight", h, f"{name}self_attn.{c}_proj.bias"), n)
        for c, n in (("q", d.n_heads), ("k", d.n_kv_heads), ("v", d.n_kv_heads))
    )
    q, k = rope(q, positions, d.rope_theta), rope(k, positions, d.rope_theta)
    return _behind_rope(x, q, k, v, w, name, d, mask, cache, layer)


def qwen3_block(
    x: Tensor, w: Weights, name: str, d: BlockDims, positions: Tensor, mask: Tensor | None,
    cache: Cache | None = None, layer: int = 0,
) -> Tensor:  # fmt: skip
    """A Qwen3 block (transformers, modeling_qwen3.py): (…, T, hidden_size) → (…, T, hidden_size).

    As a Qwen2 block, but without biases, and with an RMS norm over each head of queries and keys before RoPE.
    """
    h = rms_norm(x, w(f"{name}input_layernorm.weight"), d.rms_norm_eps)
    q, k, v = (
        heads(w.linear(f"{name}self_attn.{c}_proj.weight", h), n)
        for c, n in (("q", d.n_heads), ("k", d.n_kv_heads), ("v", d.n_kv_heads))
    )
    q, k = (rms_norm(y, w(f"{name}self_attn.{c}_norm.weight"), d.rms_norm_eps) for y, c in ((q, "q"), (k, "k")))
    q, k = rope(q, positions, d.rope_theta), rope(k, positions, d.rope_theta)
    return _behind_rope(x, q, k, v, w, name, d, mask, cache, layer)


def _behind_rope(
    x: Tensor, q: Tensor, k: Tensor, v: Tensor, w: Weights, name: str, d: BlockDims, mask: Tensor | None,
    cache: Cache | None, layer: int,
) -> Tensor:  # fmt: skip
    """The rest of both blocks: attention over the cache and the new positions, then SwiGLU."""
    if cache is not None:
        if layer in cache:
            k, v = (torch.cat([old, new], -2) for old, new in zip(cache[layer], (k, v), strict=True))
        cache[layer] = (k, v)
    x = x + w.linear(f"{name}self_attn.o_proj.weight", attend(q, k, v, mask))
    h = rms_norm(x, w(f"{name}post_attention_layernorm.weight"), d.rms_norm_eps)
    gate, up = w.linear(f"{name}mlp.gate_proj.weight", h), w.linear(f"{name}mlp.up_proj.weight", h)
    return x + w.linear(f"{name}mlp.down_proj.weight", F.silu(gate) * up)
