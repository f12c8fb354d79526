"""The speech LM on ggml: prompt ids → every stage of the prefill, then one token a step from a KV cache."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mimo_convert.model_file import open_model_file
from mimo_convert.models import mimo_asr
from mimo_convert.models.mimo_asr import BlockDims, SpeechLMDims

from .activations import LAST_HIDDEN, LOGITS, Stages
from .graph import Backend, Graph, State, TensorPtr, Weights
from .prompt import Ids
from .text_tokenizer import TextTokenizer

Attention = Callable[[TensorPtr, TensorPtr, TensorPtr], TensorPtr]


class SpeechLM:
    """A `mimo_asr` GGUF file, ready to read a prompt and to answer."""

    d: SpeechLMDims

    def __init__(self, path: Path, backend: Backend) -> None:
        self.file, self.d = open_model_file(path, mimo_asr.FAMILY)
        self.weights, self.backend = Weights(self.file), backend
        self.text = TextTokenizer.from_gguf(self.file, self.d.vocab_size)
        self.empty_id = self.text.id_of("<|empty|>")

    def prefill(self, ids: Ids, n_more: int, *, keep_stages: bool = False) -> "Context":
        """Read the prompt `ids`, (1 + channels, T); the context has room for `n_more` tokens behind it."""
        return Context(self, ids, n_more, keep_stages)


class Context:
    """A prompt that was read, its KV cache, and the graph of one more step.

    `stages` holds prefill_last_hidden and prefill_text_logits_step0, and every other stage of the prefill if they were
    to be kept.
    """

    def __init__(self, lm: SpeechLM, ids: Ids, n_more: int, keep_stages: bool) -> None:
        d = lm.d
        self.n_past = ids.shape[1] // d.group_size
        self.size = self.n_past + n_more
        kv_row = d.num_kv_heads * d.head_dim
        names = [f"{c}{i}" for i in range(d.num_layers) for c in "kv"]
        self.cache = State(lm.backend, dict.fromkeys(names, (self.size, kv_row)))

        g = Graph(lm.backend, lm.weights)
        embeds = inputs_embeds(g, self.n_past, d, keep_stages)
        language_model(g, embeds, d, self.cache, self.n_past, keep_stages)
        self.stages = g.run(prompt_inputs(ids, lm.empty_id, d) | places(0, self.n_past, self.n_past))

        self._step = Graph(lm.backend, lm.weights)
        embeds = self._step.rows("llm.embed", self._step.input("text", (1,), np.int32))
        language_model(self._step, embeds, d, self.cache, self.size, keep_stages=False)

    def step(self, token: int) -> npt.NDArray[np.float32]:
        """One more group, with `token` as its text and no audio → the next logits, (vocab_size,)."""
        inputs = {"text": np.array([token], np.int32)} | places(self.n_past, 1, self.size)
        self.n_past += 1
        return self._step.run(inputs)[LOGITS]

    def greedy(self, n_tokens: int, stops: set[int]) -> Iterator[int]:
        """The likeliest token, again and again: up to `n_tokens` while there is room, or until one of `stops`."""
        token = int(self.stages[LOGITS].argmax())
        yield token
        for _ in range(min(n_tokens - 1, self.size - self.n_past)):
            if token in stops:
                return
            token = int(self.step(token).argmax())
            yield token


def places(first: int, n: int, n_kv: int) -> Stages:
    """Positions of `n` tokens from `first`, and the mask (n, n_kv) that hides from each what comes after it."""
    positions = np.arange(first, first + n)
    hidden = np.arange(n_kv) > positions[:, None]
    mask = np.where(hidden, np.float32(-np.inf), np.float32(0))
    return {"positions": positions.astype(np.int32), "cache_rows": positions, "mask": mask}


def prompt_inputs(ids: Ids, empty_id: int, d: SpeechLMDims) -> Stages:
    """The graph's inputs for a prompt (1 + channels, T): G = T / group_size text ids, T codes a channel.

    A group whose text is `<|empty|>` is speech. A code at its channel's zeroemb id, or outside of speech, adds nothing.
    """
    text = ids[0, :: d.group_size]
    speech = text == empty_id
    inputs = {"text": text, "is_text": ~speech[:, None], "is_speech": speech[:, None]}
    inputs["group_positions"] = np.tile(np.arange(d.group_size, dtype=np.int32), len(text))
    for channel, zero in enumerate(d.speech_zeroemb):
        codes = ids[1 + channel]
        adds = (codes != zero) & speech.repeat(d.group_size)
        inputs |= {f"codes_{channel}": codes, f"adds_{channel}": adds[:, None]}
    return {name: x.astype(np.float32) if x.dtype == np.bool_ else x for name, x in inputs.items()}


def inputs_embeds(g: Graph, n_groups: int, d: SpeechLMDims, keep_stages: bool) -> TensorPtr:
    """The prompt's G groups → (G, hidden_size): text embeds where a group is text, audio features where speech."""
    audio = audio_features(g, n_groups, d)
    text = g.mul(g.rows("llm.embed", g.input("text", (n_groups,), np.int32)), g.input("is_text", (n_groups, 1)))
    both = g.add(audio, text)
    if keep_stages:
        g.output("prefill_audio_features", audio)
        g.output("prefill_text_embeds", text)
        g.output("prefill_inputs_embeds", both)
    return both


def audio_features(g: Graph, n_groups: int, d: SpeechLMDims) -> TensorPtr:
    """Codes of every position, a channel at a time → (G, out_hidden_size)."""
    n_positions = n_groups * d.group_size
    channels = [
        g.mul(
            g.rows(f"audio.emb.{c}", g.input(f"codes_{c}", (n_positions,), np.int32)),
            g.input(f"adds_{c}", (n_positions, 1)),
        )
        for c in range(d.channels)
    ]
    x = channels[0]
    for channel in channels[1:]:
        x = g.add(x, channel)

    positions = g.input("group_positions", (n_positions,), np.int32)

    def within_groups(q: TensorPtr, k: TensorPtr, v: TensorPtr) -> TensorPtr:
        q, k, v = (g.reshape(t, (n_groups, d.group_size, d.input_heads, d.input_head_dim)) for t in (q, k, v))
        return g.attend(q, k, v, None)

    for i in range(d.input_layers):
        x = block(g, x, f"audio.blk.{i}.", d.input_local, positions, within_groups)
    x = g.reshape(g.rms_norm(x, "audio.norm", d.rms_norm_eps), (n_groups, d.group_size * d.input_dim))
    return g.linear(g.mul(x, g.input("is_speech", (n_groups, 1))), "audio.group_proj")


def language_model(g: Graph, x: TensorPtr, d: SpeechLMDims, cache: State, n_kv: int, keep_stages: bool) -> None:
    """(T, hidden_size), T new positions of which the cache shall hold `n_kv` → outputs LAST_HIDDEN and LOGITS."""
    n_tokens = int(x.contents.ne[1])
    positions = g.input("positions", (n_tokens,), np.int32)
    cache_rows = g.input("cache_rows", (n_tokens,), np.int64)
    mask = g.input("mask", (n_tokens, n_kv))

    for i in range(d.num_layers):

        def over_cache(q: TensorPtr, k: TensorPtr, v: TensorPtr, i: int = i) -> TensorPtr:
            k = g.remember(cache[f"k{i}"], k, cache_rows, n_kv)
            v = g.remember(cache[f"v{i}"], v, cache_rows, n_kv)
            return g.attend(q, k, v, mask)

        x = block(g, x, f"model.layers.{i}.", d.llm, positions, over_cache)
        if keep_stages:
            g.output(f"layer_{i:02d}", x)
    last = g.output(LAST_HIDDEN, g.rms_norm(g.row(x, n_tokens - 1), "llm.final_norm", d.rms_norm_eps))
    g.output(LOGITS, g.linear(last, "llm.lm_head"))


def block(g: Graph, x: TensorPtr, name: str, d: BlockDims, positions: TensorPtr, attention: Attention) -> TensorPtr:
    """A Qwen2 block: (T, hidden_size) → the same; `attention` joins the heads of q, k and v, (T, heads, head_dim)."""
    h = g.rms_norm(x, f"{name}attn_norm", d.rms_norm_eps)
    q, k, v = g.qkv(h, f"{name}attn", d.n_heads, d.n_kv_heads, d.head_dim)
    h = attention(g.rope(q, positions, d.rope_theta), g.rope(k, positions, d.rope_theta), v)
    x = g.add(x, g.linear(h, f"{name}attn.o"))
    return g.add(x, g.swiglu(g.rms_norm(x, f"{name}ffn_norm", d.rms_norm_eps), f"{name}ffn"))
