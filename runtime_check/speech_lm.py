"""The speech LM on ggml: prompt ids → every stage of the prefill, then one token a step from a KV cache."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mimo_convert.model_file import open_model_file
from mimo_convert.models import mimo_asr
from mimo_convert.models.mimo_asr import BlockDims, SpeechLMDims

from .activations import Stages
from .graph import Backend, Graph, State, TensorPtr, Weights
from .prompt import Ids
from .text_tokenizer import TextTokenizer

Attention = Callable[[TensorPtr, TensorPtr, TensorPtr], TensorPtr]
BATCH = 512  # positions read at once: more would be hardly faster, and take more memory
HIDDEN, LOGITS = "hidden", "logits"  # outputs of the language model for the positions that were asked for


class Step(NamedTuple):
    """A token of an answer, and the logits, (vocab_size,), that it was chosen by."""

    token: int
    logits: npt.NDArray[np.float32]


class SpeechLM:
    """A `mimo_asr` GGUF file, ready to read a prompt and to answer."""

    d: SpeechLMDims

    def __init__(self, path: Path, backend: Backend) -> None:
        self.file, self.d = open_model_file(path, mimo_asr.FAMILY)
        self.weights, self.backend = Weights(self.file), backend
        self.text = TextTokenizer.from_gguf(self.file, self.d.vocab_size)
        self.empty_id = self.text.id_of("<|empty|>")

    def context(self, size: int) -> "Context":
        """An empty context with room for `size` positions."""
        return Context(self, size)


class Context:
    """What was read so far, as a KV cache of `size` positions; the next one read is number `n_past`."""

    def __init__(self, lm: SpeechLM, size: int) -> None:
        self.lm, self.size, self.n_past = lm, size, 0
        kv_row = lm.d.num_kv_heads * lm.d.head_dim
        names = [f"{c}{i}" for i in range(lm.d.num_layers) for c in "kv"]
        self.cache = State(lm.backend, dict.fromkeys(names, (size, kv_row)))
        self._step: Graph | None = None

    def read(self, ids: Ids, n_logits: int = 1, *, keep_stages: bool = False) -> Stages:
        """Read `ids`, (1 + channels, T), behind what is there, a bounded number of positions at a time.

        Gives HIDDEN, (n_logits, hidden_size), and LOGITS, (n_logits, vocab_size), of the last `n_logits` positions; and
        with `keep_stages` every other stage of the LM, of all positions.
        """
        d = self.lm.d
        runs: list[Stages] = []
        n_groups = ids.shape[1] // d.group_size
        for first in range(0, n_groups, BATCH):
            n = min(BATCH, n_groups - first)
            wanted = max(0, n - max(0, n_groups - n_logits - first))
            batch = ids[:, first * d.group_size : (first + n) * d.group_size]
            runs.append(self._read_batch(batch, n, wanted, keep_stages))
        names = dict.fromkeys(name for run in runs for name in run)
        return {name: np.concatenate([run[name] for run in runs if name in run]) for name in names}

    def _read_batch(self, ids: Ids, n: int, n_logits: int, keep_stages: bool) -> Stages:
        g, d, n_kv = Graph(self.lm.backend, self.lm.weights), self.lm.d, self.n_past + n
        embeds = inputs_embeds(g, n, d, keep_stages)
        language_model(g, embeds, d, self.cache, n_kv, n_logits, keep_stages)
        out = g.run(prompt_inputs(ids, self.lm.empty_id, d) | places(self.n_past, n, n_kv))
        self.n_past += n
        return {name: x.reshape(-1, x.shape[-1]) for name, x in out.items()}

    def step(self, token: int) -> npt.NDArray[np.float32]:
        """One more group, with `token` as its text and no audio → the next logits, (vocab_size,)."""
        if self._step is None:  # planned once, for any position
            g = self._step = Graph(self.lm.backend, self.lm.weights)
            embeds = g.rows("llm.embed", g.input("text", (1,), np.int32))
            language_model(g, embeds, self.lm.d, self.cache, self.size, 1, keep_stages=False)
        inputs = {"text": np.array([token], np.int32)} | places(self.n_past, 1, self.size)
        self.n_past += 1
        return self._step.run(inputs)[LOGITS]

    def go_back(self, n_past: int) -> None:
        """Forget all but the first `n_past` positions."""
        self.n_past = n_past

    def greedy(self, logits: npt.NDArray[np.float32], n_tokens: int, stops: set[int]) -> Iterator[Step]:
        """The likeliest token, again and again, each with the logits it is the likeliest of, `logits` (vocab_size,)
        first; up to `n_tokens` while there is room, or until one of `stops`."""
        for i in range(n_tokens):
            token = int(logits.argmax())
            yield Step(token, logits)
            if token in stops or i + 1 == n_tokens or self.n_past == self.size:
                return
            logits = self.step(token)


def places(first: int, n: int, n_kv: int) -> Stages:
    """Positions of `n` tokens from `first`, and the mask (n, n_kv) that hides from each what comes after it."""
    positions = np.arange(first, first + n)
    hidden = np.arange(n_kv) > positions[:, None]
    mask = np.where(hidden, np.float16(-np.inf), np.float16(0))
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


def language_model(
    g: Graph, x: TensorPtr, d: SpeechLMDims, cache: State, n_kv: int, n_logits: int, keep_stages: bool
) -> None:
    """(T, hidden_size), T new positions of which the cache shall hold `n_kv` → outputs HIDDEN and LOGITS of the last
    `n_logits` of them."""
    n_tokens = int(x.contents.ne[1])
    positions = g.input("positions", (n_tokens,), np.int32)
    cache_rows = g.input("cache_rows", (n_tokens,), np.int64)
    mask = g.input("mask", (n_tokens, n_kv), np.float16)

    for i in range(d.num_layers):

        def over_cache(q: TensorPtr, k: TensorPtr, v: TensorPtr, i: int = i) -> TensorPtr:
            k = g.remember(cache[f"k{i}"], k, cache_rows, n_kv)
            v = g.remember(cache[f"v{i}"], v, cache_rows, n_kv)
            return g.attend(q, k, v, mask)

        x = block(g, x, f"model.layers.{i}.", d.llm, positions, over_cache)
        if keep_stages:
            g.output(f"layer_{i:02d}", x)
    g.need(x)
    if n_logits:
        last = g.output(HIDDEN, g.rms_norm(g.last_rows(x, n_logits), "llm.final_norm", d.rms_norm_eps))
        g.output(LOGITS, g.linear(last, "llm.lm_head"))


def block(g: Graph, x: TensorPtr, name: str, d: BlockDims, positions: TensorPtr, attention: Attention) -> TensorPtr:
    """A Qwen2 block: (T, hidden_size) → the same; `attention` joins the heads of q, k and v, (T, heads, head_dim)."""
    h = g.rms_norm(x, f"{name}attn_norm", d.rms_norm_eps)
    q, k, v = g.qkv(h, f"{name}attn", d.n_heads, d.n_kv_heads, d.head_dim)
    h = attention(g.rope(q, positions, d.rope_theta), g.rope(k, positions, d.rope_theta), v)
    x = g.add(x, g.linear(h, f"{name}attn.o"))
    return g.add(x, g.swiglu(g.rms_norm(x, f"{name}ffn_norm", d.rms_norm_eps), f"{name}ffn"))
