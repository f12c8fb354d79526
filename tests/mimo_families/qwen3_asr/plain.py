"""The model once more, in float64 numpy, written from the specification alone: no layer of the project, no FFT, no
convolution of a library, a loop wherever one says it plainer."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Weights = Mapping[str, Array]  # by their names in the checkpoint, without `thinker.`
Config = Mapping[str, Any]

erf = np.vectorize(math.erf, otypes=[np.float64])


def gelu(x: Array) -> Array:
    return x * 0.5 * (1 + erf(x / math.sqrt(2)))


def affine(x: Array, w: Weights, name: str) -> Array:
    return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", np.zeros(1))


def layer_norm(x: Array, w: Weights, name: str) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]


def rms(x: Array, weight: Array) -> Array:
    return weight * x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


# ── section 3 ────────────────────────────────────────────────────────────────────────────────────────────────────


def features(wave: Array) -> Array:
    """(N,) at 16 kHz → X, (128, T)."""
    wave = np.asarray(wave, np.float64)
    if abs(wave).max() > 1:
        wave = wave / abs(wave).max()
    wave = wave.clip(-1, 1)
    padded = np.concatenate([wave[200:0:-1], wave, wave[-2:-202:-1]])
    n = np.arange(400)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * n / 400)
    fourier = np.exp(-2j * np.pi * np.outer(n, np.arange(201)) / 400)
    power = np.stack([abs((padded[160 * t : 160 * t + 400] * hann) @ fourier) ** 2 for t in range(len(wave) // 160)])
    log = np.log10(np.maximum(power @ mel_weights(), 1e-10))
    return ((np.maximum(log, log.max() - 8) + 4) / 4).T


def mel_weights() -> Array:
    """(201, 128)."""

    def mel(f: float) -> float:
        return 3 * f / 200 if f < 1000 else 15 + 27 * math.log(f / 1000) / math.log(6.4)

    def hertz(m: float) -> float:
        return 200 * m / 3 if m < 15 else 1000 * math.exp((m - 15) / 27 * math.log(6.4))

    e = [hertz(i * mel(8000) / 129) for i in range(130)]
    weights = np.zeros((201, 128))
    for k in range(201):
        for m in range(128):
            up, down = (40 * k - e[m]) / (e[m + 1] - e[m]), (e[m + 2] - 40 * k) / (e[m + 2] - e[m + 1])
            weights[k, m] = max(0.0, min(up, down)) * 2 / (e[m + 2] - e[m])
    return weights


# ── section 4 ────────────────────────────────────────────────────────────────────────────────────────────────────


def audio_stages(x: Array, w: Weights, audio: Config, *, windowed: bool = True) -> dict[str, Array]:
    """X, (128, T) → the stages enc_conv1 … audio_embeds."""
    total = x.shape[1]
    frames = [min(100, total - first) for first in range(0, total, 100)]
    convolved: list[list[Array]] = [[], [], []]
    rows, kept = [], []
    for i, n in enumerate(frames):
        image = np.zeros((1, 128, 100 if total >= 100 else total))
        image[0, :, :n] = x[:, 100 * i : 100 * i + n]
        for layer in range(3):
            image = gelu(convolve(image, w, f"audio_tower.conv2d{layer + 1}"))
            convolved[layer].append(image.transpose(2, 0, 1).reshape(image.shape[2], -1))
        out = np.stack([image[:, :, t].reshape(-1) @ w["audio_tower.conv_out.weight"].T for t in range(image.shape[2])])
        rows.append(out)
        kept.append((out + positions(*out.shape))[: math.ceil(n / 8)])
    stages = {f"enc_conv{layer + 1}": np.concatenate(convolved[layer]) for layer in range(3)}
    stages["enc_conv_out"], h = np.concatenate(rows), np.concatenate(kept)
    stages["enc_input"] = h
    for n in range(audio["encoder_layers"]):
        h = audio_layer(h, w, f"audio_tower.layers.{n}.", audio, 104 if windowed else len(h))
        stages[f"enc_layer_{n:02d}"] = h
    stages["enc_norm"] = layer_norm(h, w, "audio_tower.ln_post")
    stages["enc_proj"] = gelu(affine(stages["enc_norm"], w, "audio_tower.proj1"))
    stages["audio_embeds"] = affine(stages["enc_proj"], w, "audio_tower.proj2")
    return stages


def convolve(image: Array, w: Weights, name: str) -> Array:
    """A 3×3 convolution of stride 2 with one zero around the image: (in, freq, time) → (out, freq', time')."""
    kernel, (_, freq, time) = w[f"{name}.weight"], image.shape
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1)))
    out = np.zeros((len(kernel), (freq + 1) // 2, (time + 1) // 2))
    for f in range(3):
        for t in range(3):
            seen = padded[:, f : f + freq : 2, t : t + time : 2]
            out += np.einsum("oi,ift->oft", kernel[:, :, f, t], seen)
    return out + w[f"{name}.bias"][:, None, None]


def positions(n: int, d: int) -> Array:
    p = np.zeros((n, d))
    for t in range(n):
        for j in range(d // 2):
            angle = t * math.exp(-j * math.log(10000) / (d / 2 - 1))
            p[t, j], p[t, d // 2 + j] = math.sin(angle), math.cos(angle)
    return p


def audio_layer(x: Array, w: Weights, name: str, audio: Config, window: int) -> Array:
    h = layer_norm(x, w, f"{name}self_attn_layer_norm")
    q, k, v = (affine(h, w, f"{name}self_attn.{c}_proj") for c in "qkv")
    size = audio["d_model"] // audio["encoder_attention_heads"]
    seen = np.equal.outer(np.arange(len(x)) // window, np.arange(len(x)) // window)
    out = np.zeros_like(q)
    for head in range(audio["encoder_attention_heads"]):
        part = slice(head * size, (head + 1) * size)
        scores = np.where(seen, q[:, part] @ k[:, part].T / math.sqrt(size), -np.inf)
        out[:, part] = softmax(scores) @ v[:, part]
    x = x + affine(out, w, f"{name}self_attn.out_proj")
    h = layer_norm(x, w, f"{name}final_layer_norm")
    return x + affine(gelu(affine(h, w, f"{name}fc1")), w, f"{name}fc2")


# ── section 5 ────────────────────────────────────────────────────────────────────────────────────────────────────


def text_stages(ids: list[int], audio_id: int, audio: Array, w: Weights, text: Config) -> dict[str, Array]:
    """Ids and audio embeddings → the stages inputs_embeds … last_hidden of all positions, and the logits of all."""
    x = w["model.embed_tokens.weight"][ids].copy()
    x[[i for i, token in enumerate(ids) if token == audio_id]] = audio
    stages = {"inputs_embeds": x}
    for n in range(text["num_hidden_layers"]):
        x = text_layer(x, w, f"model.layers.{n}.", text)
        stages[f"layer_{n:02d}"] = x
    stages["last_hidden"] = rms(x, w["model.norm.weight"])
    stages["logits"] = stages["last_hidden"] @ w["model.embed_tokens.weight"].T
    return stages


def text_layer(x: Array, w: Weights, name: str, text: Config) -> Array:
    size, n = text["head_dim"], len(x)
    u = rms(x, w[f"{name}input_layernorm.weight"])
    q, k, v = (affine(u, w, f"{name}self_attn.{c}_proj").reshape(n, -1, size) for c in "qkv")
    q, k = (rotate(rms(y, w[f"{name}self_attn.{c}_norm.weight"]), text["rope_theta"]) for c, y in (("q", q), ("k", k)))
    shared = text["num_attention_heads"] // text["num_key_value_heads"]
    out = np.zeros_like(q)
    for g in range(text["num_attention_heads"]):
        scores = q[:, g] @ k[:, g // shared].T / math.sqrt(size)
        scores = np.where(np.tri(n, dtype=bool), scores, -np.inf)
        out[:, g] = softmax(scores) @ v[:, g // shared]
    x = x + affine(out.reshape(n, -1), w, f"{name}self_attn.o_proj")
    h = rms(x, w[f"{name}post_attention_layernorm.weight"])
    gate, up = affine(h, w, f"{name}mlp.gate_proj"), affine(h, w, f"{name}mlp.up_proj")
    return x + affine(gate / (1 + np.exp(-gate)) * up, w, f"{name}mlp.down_proj")


def rotate(x: Array, theta: float) -> Array:
    """(n, heads, size)."""
    half = x.shape[-1] // 2
    for p in range(len(x)):
        for j in range(half):
            angle = p * theta ** (-j / half)
            a, b = x[p, :, j].copy(), x[p, :, half + j].copy()
            x[p, :, j] = a * math.cos(angle) - b * math.sin(angle)
            x[p, :, half + j] = b * math.cos(angle) + a * math.sin(angle)
    return x


# ── section 6 ────────────────────────────────────────────────────────────────────────────────────────────────────


def collapsed(s: str) -> str:
    """Both guards against repetitions."""
    runs: list[str] = []
    i = 0
    while i < len(s):
        j = i
        while j < len(s) and s[j] == s[i]:
            j += 1
        runs.append(s[i] if j - i > 20 else s[i:j])
        i = j
    return without_copies("".join(runs))


def without_copies(s: str) -> str:
    n = len(s)
    if n < 40:
        return s
    for i in range(n - 40 + 1):
        for k in range(1, 21):
            if i + 20 * k > n:
                break
            if s[i : i + 20 * k] == s[i : i + k] * 20:
                end = i + 20 * k
                while s[end : end + k] == s[i : i + k]:
                    end += k
                return s[: i + k] + without_copies(s[end:])
    return s


def cut_places(wave: Array, most: int, searched: int) -> list[int]:
    """Where a clip is cut, in samples."""
    places, start = [], 0
    while len(wave) - start > most:
        left, right = max(start, start + most - searched), min(len(wave), start + most + searched)
        sums = [abs(wave[i : i + 1600]).sum() for i in range(left, right - 1600 + 1)]
        window = left + sums.index(min(sums))
        loudness = abs(wave[window : window + 1600]).tolist()
        start = window + loudness.index(min(loudness))
        places.append(start)
    return places
