"""Decoder and vocoder written a third time, position by position in float64, from the definition of the model alone; it
shares no code with harness or reference."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Weights = Mapping[str, Array]  # by the checkpoint's names

EPS, THETA = 1e-5, 10000.0


def decode(codes: npt.NDArray[Any], w: Weights, config: Mapping[str, Any]) -> dict[str, Array]:
    """Codes (T, Q) → stages by name."""
    stages = {}
    embeddings = sum(w[f"encoder.quantizer.vq.layers.{q}._codebook.embed"][codes[:, q]] for q in range(codes.shape[1]))
    stages["dec_codes_embed"] = x = np.asarray(embeddings)
    x = stages["dec_up"] = group_norm(transposed(x, w, "decoder.dconv1.conv", 2), w, "decoder.dconv1.norm")
    for i in range(config["decoder_layers"]):
        x = block(x, w, f"decoder.layers.{i}.", config["decoder_attention_heads"], (10**9, 0))
        stages[f"dec_blk_{i:02d}"] = x
    x = stages["dec_norm"] = layer_norm(x, w, "decoder.layer_norm")
    x = stages["dec_mel"] = group_norm(transposed(x, w, "decoder.dconv2.conv", 2), w, "decoder.dconv2.norm")[:-1]
    x = stages["voc_embed"] = x @ w["decoder.vocoder.embeddings.weight"].T
    for i in range(config["vocoder_num_layers"]):
        heads, window = config["vocoder_attention_heads"], config["vocoder_attn_window_size"]
        x = stages[f"voc_blk_{i:02d}"] = block(x, w, f"decoder.vocoder.layers.{i}.", heads, window)
    x = stages["voc_norm"] = layer_norm(x, w, "decoder.vocoder.layer_norm")
    x = stages["voc_spec"] = x @ w["decoder.vocoder.head.out.weight"].T + w["decoder.vocoder.head.out.bias"]
    stages["wave"] = samples(x, w["decoder.vocoder.head.istft.window"], config["hop_length"])
    return stages


def transposed(x: Array, w: Weights, name: str, stride: int) -> Array:
    """Each position adds its products to `kernel_size` positions."""
    kernel = w[f"{name}.weight"]  # (in, out, k)
    size = kernel.shape[2]
    y = np.zeros(((len(x) - 1) * stride + size, kernel.shape[1])) + w[f"{name}.bias"]
    for t in range(len(x)):
        for k in range(size):
            y[stride * t + k] += kernel[:, :, k].T @ x[t]
    return y


def group_norm(x: Array, w: Weights, name: str) -> Array:
    """Mean and variance of everything."""
    return (x - x.mean()) / math.sqrt(x.var() + EPS) * w[f"{name}.weight"] + w[f"{name}.bias"]


def layer_norm(x: Array, w: Weights, name: str) -> Array:
    """Mean and variance of each position."""
    centred = x - x.mean(axis=1, keepdims=True)
    return centred / np.sqrt(x.var(axis=1, keepdims=True) + EPS) * w[f"{name}.weight"] + w[f"{name}.bias"]


def block(x: Array, w: Weights, name: str, n_heads: int, window: tuple[int, int]) -> Array:
    """Attention of each position to itself, window[0] before and window[1] after; then the feed-forward layer."""
    h = layer_norm(x, w, f"{name}self_attn_layer_norm")
    q = h @ w[f"{name}self_attn.q_proj.weight"].T + w[f"{name}self_attn.q_proj.bias"]
    k = h @ w[f"{name}self_attn.k_proj.weight"].T
    v = h @ w[f"{name}self_attn.v_proj.weight"].T + w[f"{name}self_attn.v_proj.bias"]
    width = x.shape[1] // n_heads
    out = np.zeros_like(x)
    for head in range(n_heads):
        columns = slice(head * width, (head + 1) * width)
        queries, keys = turned(q[:, columns]), turned(k[:, columns])
        for i in range(len(x)):
            seen = slice(max(0, i - window[0]), i + window[1] + 1)
            scores = keys[seen] @ queries[i] / math.sqrt(width)
            weights = np.exp(scores - scores.max())
            out[i, columns] = weights / weights.sum() @ v[seen, columns]
    x = x + out @ w[f"{name}self_attn.out_proj.weight"].T + w[f"{name}self_attn.out_proj.bias"]
    h = layer_norm(x, w, f"{name}final_layer_norm")
    h = h @ w[f"{name}fc1.weight"].T + w[f"{name}fc1.bias"]
    h = h * 0.5 * (1 + np.vectorize(math.erf)(h / math.sqrt(2)))
    return x + h @ w[f"{name}fc2.weight"].T + w[f"{name}fc2.bias"]


def turned(x: Array) -> Array:
    """Rotary embedding: the pair (i, i + half) of position t is turned by t · θ^(-i / half)."""
    half = x.shape[1] // 2
    y = np.empty_like(x)
    for t in range(len(x)):
        for i in range(half):
            angle = t * THETA ** (-i / half)
            a, b = x[t, i], x[t, i + half]
            y[t, i] = a * math.cos(angle) - b * math.sin(angle)
            y[t, i + half] = b * math.cos(angle) + a * math.sin(angle)
    return y


def samples(spectrum: Array, window: Array, hop: int) -> Array:
    """Inverse real Fourier transform of each frame by its definition, windowed, added and divided."""
    nfft, n = len(window), len(spectrum)
    bins = nfft // 2 + 1
    magnitude, phase = np.minimum(np.exp(spectrum[:, :bins]), 100.0), spectrum[:, bins:]
    angles = 2 * np.pi * np.outer(np.arange(bins), np.arange(nfft)) / nfft
    twice = np.full(bins, 2.0)
    twice[0] = twice[-1] = 1.0
    real, imaginary = magnitude * np.cos(phase) * twice, magnitude * np.sin(phase) * twice
    imaginary[:, [0, -1]] = 0
    frames = (real @ np.cos(angles) - imaginary @ np.sin(angles)) / nfft * window
    total, weight = np.zeros((n - 1) * hop + nfft), np.zeros((n - 1) * hop + nfft)
    for f in range(n):
        total[f * hop : f * hop + nfft] += frames[f]
        weight[f * hop : f * hop + nfft] += window**2
    cut = (nfft - hop) // 2
    return total[cut:-cut] / weight[cut:-cut]
