"""The speech LM on ggml: prompt ids → every stage of the prefill, then incremental decoding. Its reference is
`reference.py`."""

import numpy as np

from mimo_convert.model.model_file import ModelFile
from runtime_check.ggml.blocks import qwen2_block
from runtime_check.ggml.decoder import HIDDEN, LOGITS, TOKEN, Arrays, Attention, Cache, Decoder
from runtime_check.ggml.graph import Backend, Graph, TensorPtr, Weights
from runtime_check.text.tokenizer import TextTokenizer

from .layout import FAMILY, SpeechLMDims
from .segments import Ids
from .speech.patch_decoder import PatchDecoder
from .stages import AUDIO_FEATURES, INPUTS_EMBEDS, TEXT_EMBEDS, layer

GROUP_MASK = "group_mask"  # of causal attention within a group


class SpeechLM:
    """A `mimo_asr` GGUF file, ready to decode."""

    d: SpeechLMDims

    def __init__(self, model: ModelFile, backend: Backend) -> None:
        assert FAMILY.text is not None
        self.model, self.d = model, model.dims
        self.weights, self.backend = Weights(model.file), backend
        self.text = TextTokenizer.from_gguf(model, FAMILY.text)
        self.empty_id = self.text.id_of("<|empty|>")

    def decoder(self, size: int) -> Decoder:
        """A decoder with an empty KV cache of `size` positions."""
        return Decoder(self, size)

    def patch_decoder(self) -> PatchDecoder:
        """A decoder of groups of codes. Raises InputError for a file without speech generation."""
        return PatchDecoder(self.model, self.weights, self.backend)

    @property
    def kv_shape(self) -> tuple[int, int, int]:
        """Number of blocks, heads of keys in each, and floats of one of them."""
        return self.d.num_layers, self.d.num_kv_heads, self.d.head_dim

    def length(self, prompt: Ids) -> int:
        """Groups of a prompt, (1 + channels, T)."""
        return prompt.shape[1] // self.d.group_size

    def inputs(self, prompt: Ids, first: int, n: int) -> Arrays:
        """The graph's inputs for `n` groups of a prompt: G = T / group_size text ids, and T codes per codebook.

        A group whose text is `<|empty|>` is speech. A code equal to its codebook's zeroemb id, or outside speech, is
        masked.
        """
        size = self.d.group_size
        ids = prompt[:, first * size : (first + n) * size]
        text = ids[0, ::size]
        speech = text == self.empty_id
        inputs = {TOKEN: text, "is_text": ~speech[:, None], "is_speech": speech[:, None]}
        inputs["group_positions"] = np.tile(np.arange(size, dtype=np.int32), n)
        if self.d.input_causal:
            inputs[GROUP_MASK] = np.triu(np.full((size, size), -np.inf, np.float16), 1)
        for channel, zero in enumerate(self.d.speech_zeroemb):
            codes = ids[1 + channel]
            adds = (codes != zero) & speech.repeat(size)
            inputs |= {f"codes_{channel}": codes, f"adds_{channel}": adds[:, None]}
        return {name: x.astype(np.float32) if x.dtype == np.bool_ else x for name, x in inputs.items()}

    def embed_prompt(self, g: Graph, n: int, keep_stages: bool) -> TensorPtr:
        """G groups → (G, hidden_size): text embeddings of text groups, audio features of speech groups."""
        audio = audio_features(g, n, self.d)
        text = g.mul(g.rows("llm.embed", g.input(TOKEN, (n,), np.int32)), g.input("is_text", (n, 1)))
        both = g.add(audio, text)
        if keep_stages:
            g.output(AUDIO_FEATURES, audio)
            g.output(TEXT_EMBEDS, text)
            g.output(INPUTS_EMBEDS, both)
        return both

    def embed_tokens(self, g: Graph, n: int) -> TensorPtr:
        """Groups with a token as their text and no audio → (n, hidden_size)."""
        return g.rows("llm.embed", g.input(TOKEN, (n,), np.int32))

    def blocks(self, g: Graph, x: TensorPtr, cache: Cache, n_logits: int, keep_stages: bool) -> None:
        """(T, hidden_size) → the outputs HIDDEN and LOGITS of the last `n_logits` positions, and every block's output
        as a stage."""
        d = self.d

        def block(i: int, x: TensorPtr, positions: TensorPtr, attention: Attention) -> TensorPtr:
            return qwen2_block(g, x, f"model.layers.{i}.", d.llm, positions, attention)

        for i, output in enumerate(cache.attend(g, d.num_layers, x, block)):
            x = g.output(layer(i), output) if keep_stages else output
        g.expand(x)
        if n_logits:
            last = g.output(HIDDEN, g.rms_norm(g.last_rows(x, n_logits), "llm.final_norm", d.rms_norm_eps))
            g.output(LOGITS, g.linear(last, "llm.lm_head"))


def audio_features(g: Graph, n_groups: int, d: SpeechLMDims) -> TensorPtr:
    """Embed the codes of every position, (T,) per codebook, sum them, and downcast groups → (G, out_hidden_size)."""
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
    mask = g.input(GROUP_MASK, (d.group_size, d.group_size), np.float16) if d.input_causal else None

    def within_groups(q: TensorPtr, k: TensorPtr, v: TensorPtr) -> TensorPtr:
        q, k, v = (g.reshape(t, (n_groups, d.group_size, d.input_heads, d.input_head_dim)) for t in (q, k, v))
        return g.attend(q, k, v, mask)

    for i in range(d.input_layers):
        x = qwen2_block(g, x, f"audio.blk.{i}.", d.input_local, positions, within_groups)
    x = g.reshape(g.rms_norm(x, "audio.norm", d.rms_norm_eps), (n_groups, d.group_size * d.input_dim))
    return g.linear(g.mul(x, g.input("is_speech", (n_groups, 1))), "audio.group_proj")
