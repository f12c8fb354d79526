"""The forward pass of Qwen3-ASR in PyTorch, many clips at once; weights come from a callable, by checkpoint name.

Written from the specification alone, and apart from `mimo_families.qwen3_asr`: two readings of one text.
"""

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from runtime_check.pytorch.layers import attend, heads, layer_norm, rms_norm, rope
from runtime_check.pytorch.weights import Weights

from .configs import AUDIO, CHUNK_FRAMES, CHUNK_TOKENS, TEXT

TOWER, DECODER = "thinker.audio_tower.", "thinker.model."
EMBEDDING = f"{DECODER}embed_tokens.weight"
N_FFT, HOP, N_MELS, RATE = 400, 160, 128, 16000
WINDOW_TOKENS = CHUNK_TOKENS * AUDIO["n_window_infer"] // CHUNK_FRAMES


@cache
def mel_filters() -> Tensor:
    """Slaney's triangular filters: (N_MELS, N_FFT / 2 + 1)."""
    top = 15 + 27 * math.log(RATE / 2 / 1000) / math.log(6.4)
    mels = torch.linspace(0, top, N_MELS + 2, dtype=torch.float64)
    edges = torch.where(mels < 15, mels * 200 / 3, 1000 * 6.4 ** ((mels - 15) / 27))[:, None]
    hertz = torch.arange(N_FFT // 2 + 1, dtype=torch.float64) * RATE / N_FFT
    rising, falling = (hertz - edges[:-2]) / edges.diff(dim=0)[:-1], (edges[2:] - hertz) / edges.diff(dim=0)[1:]
    return (torch.minimum(rising, falling).clamp(min=0) * 2 / (edges[2:] - edges[:-2])).float()


def log_mel(wave: Tensor) -> Tensor:
    """(samples,) at 16 kHz → (N_MELS, T)."""
    padded = F.pad(wave[None], (N_FFT // 2, N_FFT // 2), mode="reflect")[0]
    spectrum = torch.stft(padded, N_FFT, HOP, window=torch.hann_window(N_FFT), center=False, return_complex=True)
    power = spectrum[:, : len(wave) // HOP].abs().pow(2)
    log_spec = (mel_filters() @ power).clamp(min=1e-10).log10()
    return (torch.maximum(log_spec, log_spec.max() - 8) + 4) / 4


def n_tokens(frames: int) -> int:
    """How many audio tokens come of `frames` of mel."""
    return CHUNK_TOKENS * (frames // CHUNK_FRAMES) + math.ceil(frames % CHUNK_FRAMES / 8)


def encode(mels: list[Tensor], w: Weights) -> tuple[list[Tensor], list[Tensor]]:
    """Mel spectrograms (N_MELS, T) → for each clip (A, d_model) before the projector, and (A, hidden_size) after it."""
    lengths = [n_tokens(mel.shape[1]) for mel in mels]
    windows = [window for clip in convolve(mels, w).split(lengths) for window in clip.split(WINDOW_TOKENS)]
    x = torch.nn.utils.rnn.pad_sequence(windows, batch_first=True)  # (windows, at most WINDOW_TOKENS, d_model)
    missing = torch.arange(x.shape[1]) >= torch.tensor([len(window) for window in windows])[:, None]
    mask = torch.zeros(missing.shape).masked_fill(missing, -torch.inf)[:, None, None]
    for i in range(AUDIO["encoder_layers"]):
        x = tower_layer(x, w, f"{TOWER}layers.{i}.", mask)
    x = layer_norm(x[~missing], w, f"{TOWER}ln_post")
    y = linear(F.gelu(linear(x, w, f"{TOWER}proj1")), w, f"{TOWER}proj2")
    return list(x.split(lengths)), list(y.split(lengths))


def convolve(mels: list[Tensor], w: Weights) -> Tensor:
    """The convolutions of every chunk, with its positions: (A of all clips, d_model)."""
    chunks = [chunk for mel in mels for chunk in mel.split(CHUNK_FRAMES, dim=1)]
    alone = [mel.shape[1] < CHUNK_FRAMES for mel in mels for _ in mel.split(CHUNK_FRAMES, dim=1)]  # are not padded
    padded = [F.pad(chunk, (0, CHUNK_FRAMES - chunk.shape[1])) for chunk, a in zip(chunks, alone, strict=True) if not a]
    of_padded = iter(convolve_chunks(torch.stack(padded), w) if padded else ())
    rows = [convolve_chunks(c[None], w)[0] if a else next(of_padded) for c, a in zip(chunks, alone, strict=True)]
    return torch.cat([made[: n_tokens(chunk.shape[1])] for made, chunk in zip(rows, chunks, strict=True)])


def convolve_chunks(x: Tensor, w: Weights) -> Tensor:
    """(chunks, N_MELS, frames) → (chunks, frames / 8, d_model)."""
    x = x[:, None]
    for i in (1, 2, 3):
        name = f"{TOWER}conv2d{i}"
        x = F.gelu(F.conv2d(x, w(f"{name}.weight"), w(f"{name}.bias"), stride=2, padding=1))
    x = x.permute(0, 3, 1, 2).flatten(2)  # (chunks, time, channel × frequency)
    x = F.linear(x, w(f"{TOWER}conv_out.weight"))
    return x + sinusoids(x.shape[1], x.shape[2])


def sinusoids(length: int, d_model: int) -> Tensor:
    """(length, d_model): sines, then cosines."""
    half = d_model // 2
    frequencies = torch.exp(-torch.arange(half) * math.log(10000) / (half - 1))
    angles = torch.arange(length)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def linear(x: Tensor, w: Weights, name: str) -> Tensor:
    return F.linear(x, w(f"{name}.weight"), w(f"{name}.bias"))


def tower_layer(x: Tensor, w: Weights, name: str, mask: Tensor) -> Tensor:
    """A layer of the audio tower over windows: (windows, T, d_model) → the same."""
    h = layer_norm(x, w, f"{name}self_attn_layer_norm")
    q, k, v = (heads(linear(h, w, f"{name}self_attn.{c}_proj"), AUDIO["encoder_attention_heads"]) for c in "qkv")
    x = x + linear(attend(q, k, v, mask), w, f"{name}self_attn.out_proj")
    h = layer_norm(x, w, f"{name}final_layer_norm")
    return x + linear(F.gelu(linear(h, w, f"{name}fc1")), w, f"{name}fc2")


Cache = dict[int, tuple[Tensor, Tensor]]


def decode(x: Tensor, w: Weights, cache: Cache | None = None, past: int = 0) -> Tensor:
    """Input embeddings (…, T, hidden_size) at positions past … → (…, T, hidden_size) after the final norm."""
    T = x.shape[-2]
    positions = torch.arange(past, past + T)
    mask = torch.full((T, past + T), -torch.inf).triu(past + 1)
    for i in range(TEXT["num_hidden_layers"]):
        x = decoder_layer(x, w, f"{DECODER}layers.{i}.", positions, mask, cache, i)
    return rms_norm(x, w(f"{DECODER}norm.weight"), TEXT["rms_norm_eps"])


def decoder_layer(
    x: Tensor, w: Weights, name: str, positions: Tensor, mask: Tensor, cache: Cache | None, layer: int
) -> Tensor:
    """A Qwen3 block: as Qwen2's, without biases, and with a norm of each head of queries and keys."""
    eps, theta = TEXT["rms_norm_eps"], TEXT["rope_theta"]
    h = rms_norm(x, w(f"{name}input_layernorm.weight"), eps)
    n_heads, n_kv = TEXT["num_attention_heads"], TEXT["num_key_value_heads"]
    q, k, v = (
        heads(F.linear(h, w(f"{name}self_attn.{c}_proj.weight")), n)
        for c, n in (("q", n_heads), ("k", n_kv), ("v", n_kv))
    )
    q, k = (
        rope(rms_norm(y, w(f"{name}self_attn.{c}_norm.weight"), eps), positions, theta) for c, y in (("q", q), ("k", k))
    )
    if cache is not None:
        if layer in cache:
            k, v = (torch.cat([old, new], -2) for old, new in zip(cache[layer], (k, v), strict=True))
        cache[layer] = (k, v)
    x = x + F.linear(attend(q, k, v, mask), w(f"{name}self_attn.o_proj.weight"))
    h = rms_norm(x, w(f"{name}post_attention_layernorm.weight"), eps)
    gate, up = F.linear(h, w(f"{name}mlp.gate_proj.weight")), F.linear(h, w(f"{name}mlp.up_proj.weight"))
    return x + F.linear(F.silu(gate) * up, w(f"{name}mlp.down_proj.weight"))


def shapes() -> dict[str, tuple[int, ...]]:
    """Every tensor of the checkpoint with its shape."""
    d, f, c, h = AUDIO["d_model"], AUDIO["encoder_ffn_dim"], AUDIO["downsample_hidden_size"], TEXT["hidden_size"]
    i, size = TEXT["intermediate_size"], TEXT["head_dim"]
    q, kv = TEXT["num_attention_heads"] * size, TEXT["num_key_value_heads"] * size
    matrices: dict[str, tuple[int, ...]] = {"conv2d1": (c, 1, 3, 3), "conv2d2": (c, c, 3, 3), "conv2d3": (c, c, 3, 3)}
    norms = ["ln_post"]
    for layer in range(AUDIO["encoder_layers"]):
        name = f"layers.{layer}."
        matrices |= {f"{name}self_attn.{m}_proj": (d, d) for m in ("q", "k", "v", "out")}
        matrices |= {f"{name}fc1": (f, d), f"{name}fc2": (d, f)}
        norms += [f"{name}self_attn_layer_norm", f"{name}final_layer_norm"]
    matrices |= {"proj1": (d, d), "proj2": (h, d)}
    tower: dict[str, tuple[int, ...]] = {"conv_out.weight": (d, 16 * c)}
    for name, shape in matrices.items():
        tower |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    for name in norms:
        tower |= {f"{name}.weight": (d,), f"{name}.bias": (d,)}
    decoder: dict[str, tuple[int, ...]] = {"embed_tokens": (TEXT["vocab_size"], h), "norm": (h,)}
    for layer in range(TEXT["num_hidden_layers"]):
        name = f"layers.{layer}."
        decoder |= {f"{name}self_attn.q_proj": (q, h), f"{name}self_attn.o_proj": (h, q)}
        decoder |= {f"{name}self_attn.k_proj": (kv, h), f"{name}self_attn.v_proj": (kv, h)}
        decoder |= {f"{name}self_attn.{m}_norm": (size,) for m in "qk"}
        decoder |= {f"{name}input_layernorm": (h,), f"{name}post_attention_layernorm": (h,)}
        decoder |= {f"{name}mlp.gate_proj": (i, h), f"{name}mlp.up_proj": (i, h), f"{name}mlp.down_proj": (h, i)}
    return {TOWER + name: shape for name, shape in tower.items()} | {
        f"{DECODER}{name}.weight": shape for name, shape in decoder.items()
    }
