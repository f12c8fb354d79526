"""Generation once more, in float64 numpy, written from the specification alone: no layer of the project, no cache, a
loop wherever one says it plainer."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Weights = Mapping[str, Array]  # by their names in the checkpoint
Config = Mapping[str, Any]  # flat
Group = tuple[int, npt.NDArray[Any]]  # text id, (4, 8) codes
DELAYS = list(range(8))


class Sampler(NamedTuple):
    temperature: float
    k: int
    p: float
    draws: bool


def rms(x: Array, weight: Array) -> Array:
    return weight * x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def turned(x: Array, theta: float) -> Array:
    """x (T, heads, d), first halves with second ones."""
    half = x.shape[-1] // 2
    angles = np.array([[t / theta ** (i / half) for i in range(half)] for t in range(len(x))])[:, None]
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * np.cos(angles) - b * np.sin(angles), b * np.cos(angles) + a * np.sin(angles)], axis=-1)


def block(x: Array, w: Weights, name: str, heads: tuple[int, int, int], theta: float, causal: bool) -> Array:
    """A Qwen2 block: (T, n) → (T, n)."""
    n_q, n_kv, d = heads
    h = rms(x, w[f"{name}input_layernorm.weight"])
    q, k, v = (
        (h @ w[f"{name}self_attn.{c}_proj.weight"].T + w[f"{name}self_attn.{c}_proj.bias"]).reshape(len(x), n, d)
        for c, n in (("q", n_q), ("k", n_kv), ("v", n_kv))
    )
    q, k = turned(q, theta), turned(k, theta)
    out = np.zeros((len(x), n_q, d))
    for i in range(len(x)):
        seen = slice(0, i + 1) if causal else slice(0, len(x))
        for head in range(n_q):
            j = head // (n_q // n_kv)
            out[i, head] = softmax(k[seen, j] @ q[i, head] / math.sqrt(d)) @ v[seen, j]
    x = x + out.reshape(len(x), -1) @ w[f"{name}self_attn.o_proj.weight"].T
    h = rms(x, w[f"{name}post_attention_layernorm.weight"])
    gate, up = h @ w[f"{name}mlp.gate_proj.weight"].T, h @ w[f"{name}mlp.up_proj.weight"].T
    return x + (gate / (1 + np.exp(-gate)) * up) @ w[f"{name}mlp.down_proj.weight"].T


def embedding(group: Group, w: Weights, c: Config, empty: int, zeros: Sequence[int]) -> Array:
    text, codes = group
    if text != empty:
        return w["model.embed_tokens.weight"][text]
    x = np.zeros((4, c["input_local_dim"]))
    for frame in range(4):
        for channel in range(8):
            if codes[frame, channel] != zeros[channel]:
                x[frame] += w[f"speech_embeddings.{channel}.weight"][codes[frame, channel]]
    n = c["local_attn_heads"]
    for i in range(c["input_local_layers"]):
        name = f"input_local_transformer.layers.{i}."
        x = block(x, w, name, (n, n, c["input_local_dim"] // n), c["rope_theta"], causal=False)
    x = rms(x, w["input_local_transformer.norm.weight"])
    return x.reshape(-1) @ w["speech_group_downcast.weight"].T


def last_hidden(groups: Sequence[Group], w: Weights, c: Config, empty: int, zeros: Sequence[int]) -> Array:
    x = np.stack([embedding(group, w, c, empty, zeros) for group in groups])
    heads = c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]
    for i in range(c["num_hidden_layers"]):
        x = block(x, w, f"model.layers.{i}.", heads, c["rope_theta"], causal=True)
    return rms(x[-1], w["model.norm.weight"])


def local(h: Array, w: Weights, c: Config, choose: Callable[[Array, int], int]) -> tuple[Array, npt.NDArray[Any]]:
    """h → the hidden states of the eleven steps, and the block; `choose` gets scores and their channel."""
    xs, states, codes = [w["hidden_states_downcast.weight"] @ h], [], np.zeros((4, 8), int)
    n = c["local_attn_heads"]
    for t in range(11):
        x = np.stack(xs)
        for i in range(c["local_layers"]):
            name = f"local_transformer.layers.{i}."
            x = block(x, w, name, (n, n, c["local_dim"] // n), c["rope_theta"], causal=True)
        states.append(rms(x[-1], w["local_transformer.norm.weight"]))
        following = np.zeros(c["local_dim"])
        for channel in range(8):
            if DELAYS[channel] <= t < DELAYS[channel] + 4:
                scores = w[f"local_transformer_lm_heads.{channel}.weight"] @ states[-1]
                code = codes[t - DELAYS[channel], channel] = choose(scores, channel)
                following += w[f"speech_embeddings.{channel}.weight"][code]
        xs.append(following)
    return np.stack(states), codes


def sample(scores: Array, s: Sampler, forbidden: Collection[int], exponential: Callable[[int], Any]) -> int:
    """The five steps in their order; where they leave nothing but forbidden ids, once more without these."""
    left = narrowed(scores, s)
    if all(i in forbidden for i in left):
        without = {i for i in range(len(scores)) if i not in forbidden}
        left = narrowed(np.array([x if i in without else -math.inf for i, x in enumerate(scores)]), s)
    left = {i: x for i, x in left.items() if i not in forbidden}
    if not s.draws:
        return max(left, key=lambda i: (left[i], -i))
    top = max(left.values())
    weights, e = {i: math.exp(x - top) for i, x in left.items()}, exponential(len(scores))
    return max(weights, key=lambda i: weights[i] / e[i])


def narrowed(scores: Array, s: Sampler) -> dict[int, float]:
    """What is left of scores behind temperature, top-k and top-p."""
    left = {i: float(x) / s.temperature for i, x in enumerate(scores) if x > -math.inf}
    if s.k > 0:
        least = sorted(left.values(), reverse=True)[: s.k][-1]
        left = {i: x for i, x in left.items() if x >= least}
    if 0 < s.p <= 1:
        top = max(left.values())
        total, below = sum(math.exp(x - top) for x in left.values()), 0.0
        for i in sorted(left, key=lambda i: left[i])[:-1]:
            below += math.exp(left[i] - top) / total
            if below <= 1 - s.p:
                del left[i]
    return left


def generate(
    prompt: Sequence[Group], w: Weights, c: Config, empty: int, samplers: tuple[Sampler, Sampler],
    stops: Collection[int], most: int, least: int, exponential: Callable[[int], Any],
) -> list[Group]:  # fmt: skip
    """The new groups behind a prompt, the stop group included."""
    zeros = [int(x) for x in c["speech_zeroemb_idx"].split("-")]
    groups, n_prompt = list(prompt), len(prompt)
    while True:
        h = last_hidden(groups, w, c, empty, zeros)
        forbidden = stops if len(groups) < n_prompt + least else ()
        text = sample(w["lm_head.weight"] @ h, samplers[0], forbidden, exponential)
        codes = np.tile(zeros, (4, 1))
        if text == empty:

            def choose(scores: Array, channel: int) -> int:
                return sample(scores, samplers[1], [zeros[channel]], exponential)

            _, codes = local(h, w, c, choose)
        groups.append((text, codes))
        n = len(groups)
        if n >= n_prompt + most or n >= 8192 or (text in stops and n >= n_prompt + least):
            return groups[n_prompt:]
