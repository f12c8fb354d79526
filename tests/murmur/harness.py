"""The recogniser on ggml, beside `reference.py`."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mimo_convert.model.model_file import ModelFile
from runtime_check.ggml.decoder import HIDDEN, LOGITS, TOKEN, Arrays, Attention, Cache
from runtime_check.ggml.graph import Backend, Graph, TensorPtr, Weights
from runtime_check.text.tokenizer import TextTokenizer

from .front_end import Frames
from .layout import TEXT, Dims
from .stages import EAR, MIX, stone


class Prompt(NamedTuple):
    """Ids (1, positions), frames (frames, frame size), and the response's tokens behind the prompt."""

    ids: npt.NDArray[np.int32]
    frames: Frames
    response: list[int]


class Recogniser:
    """A `murmur` GGUF file, ready to read a prompt and to respond."""

    d: Dims

    def __init__(self, model: ModelFile, backend: Backend) -> None:
        self.model, self.d = model, model.dims
        self.weights, self.backend = Weights(model.file), backend
        self.text = TextTokenizer.from_gguf(model, TEXT)
        self.audio_id = self.text.id_of("<audio>")

    @property
    def kv_shape(self) -> tuple[int, int, int]:
        return self.d.n_blocks, self.d.n_kv_heads, self.d.head_dim

    def length(self, prompt: Prompt) -> int:
        return prompt.ids.shape[1] + len(prompt.response)

    def inputs(self, prompt: Prompt, first: int, n: int) -> Arrays:
        ids = np.concatenate([prompt.ids[0], np.array(prompt.response, np.int32)])
        hears = np.zeros(len(ids), bool)  # where the prompt has a frame; what the model says may be any token
        hears[: prompt.ids.shape[1]] = prompt.ids[0] == self.audio_id
        frames = np.zeros((len(ids), self.d.frame), np.float32)
        frames[hears] = prompt.frames
        is_audio = hears[:, None].astype(np.float32)
        part = slice(first, first + n)
        return {TOKEN: ids[part], "frames": frames[part], "is_audio": is_audio[part], "is_text": 1 - is_audio[part]}

    def embed_prompt(self, g: Graph, n: int, keep_stages: bool) -> TensorPtr:
        ear = g.gelu(g.linear(g.input("frames", (n, self.d.frame)), "ear"))
        ear = g.mul(ear, g.input("is_audio", (n, 1)))
        text = g.mul(g.rows("embed", g.input(TOKEN, (n,), np.int32)), g.input("is_text", (n, 1)))
        mix = g.add(ear, text)
        if keep_stages:
            g.output(EAR, ear)
            g.output(MIX, mix)
        return mix

    def embed_tokens(self, g: Graph, n: int) -> TensorPtr:
        return g.rows("embed", g.input(TOKEN, (n,), np.int32))

    def blocks(self, g: Graph, x: TensorPtr, cache: Cache, n_logits: int, keep_stages: bool) -> None:
        d = self.d

        def block(i: int, x: TensorPtr, positions: TensorPtr, attention: Attention) -> TensorPtr:
            h = g.rms_norm(x, f"blk.{i}.attn_norm", d.eps)
            q, k, v = g.qkv(h, f"blk.{i}.attn", d.n_heads, d.n_kv_heads, d.head_dim)
            q, k = (g.rms_norm(y, f"blk.{i}.attn.{c}_norm", d.eps) for y, c in ((q, "q"), (k, "k")))
            h = attention(g.rope(q, positions, d.theta), g.rope(k, positions, d.theta), v)
            x = g.add(x, g.linear(h, f"blk.{i}.attn.o"))
            return g.add(x, g.swiglu(g.rms_norm(x, f"blk.{i}.ffn_norm", d.eps), f"blk.{i}.ffn"))

        for i, output in enumerate(cache.attend(g, d.n_blocks, x, block)):
            x = g.output(stone(i), output) if keep_stages else output
        g.expand(x)
        if n_logits:
            last = g.output(HIDDEN, g.rms_norm(g.last_rows(x, n_logits), "final_norm", d.eps))
            g.output(LOGITS, g.linear(last, "embed"))  # the head is the embedding
