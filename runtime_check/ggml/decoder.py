"""Autoregressive decoding with a KV cache: prefill in batches of bounded size, then one token per step."""

import ctypes
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from mimo_convert.listener import advance, phase

from .graph import Backend, Graph, State, TensorPtr, Weights

Arrays = dict[str, npt.NDArray[Any]]
Logits = npt.NDArray[np.float32]  # (vocab_size,)
Attention = Callable[[TensorPtr, TensorPtr, TensorPtr], TensorPtr]
Embed = Callable[[Graph], TensorPtr]
Block = Callable[[int, TensorPtr, TensorPtr, Attention], TensorPtr]
BATCH = 512  # positions read at once: more would be hardly faster, and take more memory
HIDDEN, LOGITS = "hidden", "logits"  # outputs of the language model for the positions that were asked for
TOKEN = "text"  # the input of a step


class CachedModel(Protocol):
    """Causal blocks of a family, whose keys and values are cached."""

    backend: Backend
    weights: Weights

    @property
    def kv_shape(self) -> tuple[int, int, int]:
        """Number of blocks, heads of keys in each, and floats of one of them."""

    def blocks(self, g: Graph, x: TensorPtr, cache: "Cache", n_logits: int, keep_stages: bool) -> None:
        """(n, hidden_size) → the outputs HIDDEN and LOGITS of the last `n_logits` positions, and the stages."""


class DecoderModel(CachedModel, Protocol):
    """The decoder of a family; the type of a prompt is its own."""

    def length(self, prompt: Any) -> int:
        """Positions of a prompt."""

    def inputs(self, prompt: Any, first: int, n: int) -> Arrays:
        """The graph's inputs for positions `first` … `first + n` of a prompt."""

    def embed_prompt(self, g: Graph, n: int, keep_stages: bool) -> TensorPtr:
        """Input embeddings of `n` positions of a prompt, (n, hidden_size); with `keep_stages` its stages are
        outputs."""

    def embed_tokens(self, g: Graph, n: int) -> TensorPtr:
        """Input embeddings, (n, hidden_size), of the tokens in the input TOKEN, (n,) int32."""


class ClipCache(NamedTuple):
    """The KV cache of a clip in a graph: its first `n_kv` positions, the new ones included."""

    state: State
    n_kv: int

    def over(self, g: Graph, n: int, clip: int) -> Callable[[int, TensorPtr, TensorPtr, TensorPtr], TensorPtr]:
        """Attention in a block, by its number: of `n` new positions of the clip with that number, over its cache."""
        rows = g.input(f"cache_rows_{clip}", (n,), np.int64)
        mask = g.input(f"mask_{clip}", (n, self.n_kv), np.float16)

        def attention(i: int, q: TensorPtr, k: TensorPtr, v: TensorPtr) -> TensorPtr:
            k = g.kv_write(self.state[f"k{i}"], k, rows, self.n_kv)
            v = g.kv_write(self.state[f"v{i}"], v, rows, self.n_kv)
            return g.attend(q, k, v, mask)

        return attention


class Cache(NamedTuple):
    """The KV caches of clips in a graph, each with equally many new positions."""

    clips: Sequence[ClipCache]

    def attend(self, g: Graph, n_layers: int, x: TensorPtr, block: Block) -> Iterator[TensorPtr]:
        """Yield the output of each block, `block(i, x, positions, attention)`: x has the new positions of each clip
        behind those of the one before, and attention is over the clip's own cache."""
        n_all = int(x.contents.ne[1])
        positions = g.input("positions", (n_all,), np.int32)
        n = n_all // len(self.clips)
        attentions = [cache.over(g, n, clip) for clip, cache in enumerate(self.clips)]
        for i in range(n_layers):

            def over_caches(q: TensorPtr, k: TensorPtr, v: TensorPtr, i: int = i) -> TensorPtr:
                return g.concatenate(
                    [
                        attention(i, *(g.positions(x, clip * n, n) for x in (q, k, v)))
                        for clip, attention in enumerate(attentions)
                    ]
                )

            x = block(i, x, positions, over_caches)
            yield x


def cache_of(state: State, n_kv: int) -> Cache:
    """The cache of one clip in a graph."""
    return Cache((ClipCache(state, n_kv),))


class Steps:
    """Positions one by one over a KV cache of `size` positions, `n_past` of which are filled."""

    def __init__(self, model: CachedModel, size: int) -> None:
        self.cached, self.n_past = model, 0
        self._make(size)

    def _make(self, size: int) -> None:
        n_layers, n_heads, head_dim = self.cached.kv_shape
        names = [f"{c}{i}" for i in range(n_layers) for c in "kv"]
        # head by head, so that what a head reads lies in one piece
        self.size, self.state = size, State(self.cached.backend, dict.fromkeys(names, (n_heads, size, head_dim)))
        self._planned: dict[str, Graph] = {}

    def append(self, kind: str, embed: Embed, inputs: Arrays) -> Arrays:
        """Append a position whose embedding, (1, hidden_size), `embed` computes from `inputs`; returns the model's
        outputs. The graph of each `kind` is planned once, for any position."""
        if kind not in self._planned:
            g = self._planned[kind] = Graph(self.cached.backend, self.cached.weights)
            self.cached.blocks(g, embed(g), cache_of(self.state, self.size), 1, keep_stages=False)
        return self._planned[kind].run(inputs | self.next_place())

    def next_place(self, clip: int = 0) -> Arrays:
        """The places of a position that is appended (`places`), of the clip with that number."""
        self.n_past += 1
        return places(self.n_past - 1, 1, self.size, clip)

    def truncate(self, n_past: int) -> None:
        """Truncate the cache to its first `n_past` positions."""
        self.n_past = n_past

    def enlarge(self, size: int) -> None:
        """Enlarge the cache to `size` positions; it keeps those that are filled."""
        before = self.state  # its memory is needed until it is copied
        self._make(size)
        for name, tensor in before.tensors.items():
            old, new = tensor.contents, self.state[name].contents
            for head in range(old.ne[2]):
                begin, end = old.data + head * old.nb[2], new.data + head * new.nb[2]
                ctypes.memmove(end, begin, self.n_past * old.nb[1])


class Decoder(Steps):
    """A decoder with a KV cache of `size` positions, `n_past` of which are filled."""

    def __init__(self, model: DecoderModel, size: int) -> None:
        super().__init__(model, size)
        self.model = model

    def read(self, prompt: Any, n_logits: int = 1, *, keep_stages: bool = False) -> Arrays:
        """Append a prompt to the cache, in batches of BATCH positions.

        Returns HIDDEN, (n_logits, hidden_size), and LOGITS, (n_logits, vocab_size), of the last `n_logits` positions;
        with `keep_stages` also every stage of the model, of all positions.
        """
        runs: list[Arrays] = []
        length = self.model.length(prompt)
        for first in range(0, length, BATCH):
            n = min(BATCH, length - first)
            wanted = max(0, n - max(0, length - n_logits - first))
            runs.append(self._read_batch(self.model.inputs(prompt, first, n), n, wanted, keep_stages))
            advance(n)
        names = dict.fromkeys(name for run in runs for name in run)
        return {name: np.concatenate([run[name] for run in runs if name in run]) for name in names}

    def _read_batch(self, inputs: Arrays, n: int, n_logits: int, keep_stages: bool) -> Arrays:
        g, n_kv = Graph(self.model.backend, self.model.weights), self.n_past + n
        embeds = self.model.embed_prompt(g, n, keep_stages)
        self.model.blocks(g, embeds, cache_of(self.state, n_kv), n_logits, keep_stages)
        out = g.run(inputs | places(self.n_past, n, n_kv))
        self.n_past += n
        return {name: x.reshape(-1, x.shape[-1]) for name, x in out.items()}

    def step(self, token: int) -> Logits:
        """Append a generated `token` to the cache; returns the next logits, (vocab_size,)."""
        return self.append(TOKEN, self._embed_token, {TOKEN: np.array([token], np.int32)})[LOGITS]

    def _embed_token(self, g: Graph) -> TensorPtr:
        return self.model.embed_tokens(g, 1)

    def read_one(self, prompt: Any) -> Arrays:
        """Append a prompt of one position to the cache, without planning its graph again; returns HIDDEN,
        (hidden_size,), and LOGITS, (vocab_size,)."""

        def embed(g: Graph) -> TensorPtr:
            return self.model.embed_prompt(g, 1, keep_stages=False)

        return self.append("prompt", embed, self.model.inputs(prompt, 0, 1))


def incremental_logits(model: DecoderModel, prompt: Any, response: Sequence[int]) -> npt.NDArray[np.float32]:
    """Logits that predict each token of `response`, (tokens, vocab_size), by incremental decoding."""
    decoder = Decoder(model, model.length(prompt) + len(response) - 1)
    first = decoder.read(prompt)[LOGITS][0]
    with phase("decode with a cache", len(response), "tokens", done=1) as progress:
        steps = []
        for token in response[:-1]:
            steps.append(decoder.step(token))
            progress.advance(1)
    return np.stack([first, *steps])


def places(first: int, n: int, n_kv: int, clip: int = 0) -> Arrays:
    """Positions of `n` tokens from `first`, their rows in the cache of the clip with that number, and their causal mask
    (n, n_kv)."""
    positions = np.arange(first, first + n)
    hidden = np.arange(n_kv) > positions[:, None]
    mask = np.where(hidden, np.float16(-np.inf), np.float16(0))
    return {"positions": positions.astype(np.int32), f"cache_rows_{clip}": positions, f"mask_{clip}": mask}
