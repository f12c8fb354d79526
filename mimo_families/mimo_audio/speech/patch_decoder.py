"""The patch decoder on ggml: the LM's hidden state → the codes of a group. Its reference is `reference.py`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mimo_convert.model.model_file import ModelFile
from quantize.errors import InputError
from runtime_check.ggml.blocks import qwen2_block
from runtime_check.ggml.decoder import HIDDEN, LOGITS, Arrays, Attention, Cache, Steps
from runtime_check.ggml.graph import Backend, Graph, TensorPtr, Weights

from ..layout import SPEECH_GENERATION, SpeechLMDims
from .delays import Place, places_by_step
from .sampler import Scores

LM_HIDDEN, LOCAL_INPUT = "lm_hidden", "local_input"
CODES = "codes"  # of the step before
ChooseCode = Callable[[Place, Scores], int]


class Decoded(NamedTuple):
    """A decoded group: its `block` of codes, (group_size, channels) int32, the `input` of its first step,
    (patch_dim,), and the `hidden` states of every step, (steps, patch_dim)."""

    block: npt.NDArray[np.int32]
    input: npt.NDArray[Any]
    hidden: npt.NDArray[Any]


class PatchDecoder:
    """The patch decoder of a `mimo_asr` GGUF file. Its graphs are planned once; each group has a fresh KV cache."""

    def __init__(self, model: ModelFile, weights: Weights, backend: Backend) -> None:
        self.d: SpeechLMDims = model.dims
        check_speaks(model)
        self.weights, self.backend = weights, backend
        self.places = places_by_step(self.d)
        self.steps = Steps(self, len(self.places))

    @property
    def kv_shape(self) -> tuple[int, int, int]:
        """Number of blocks, heads of keys in each, and floats of one of them."""
        return self.d.patch_layers, self.d.patch_heads, self.d.patch_head_dim

    def decode(self, hidden: npt.NDArray[np.float32], choose: ChooseCode) -> Decoded:
        """Decode a group from the LM's hidden state, (hidden_size,) float32. `choose` is asked for each code, by its
        place and the scores of its codebook."""
        d = self.d
        block = np.zeros((d.group_size, d.channels), np.int32)
        self.steps.truncate(0)
        out = first = self.steps.append(LM_HIDDEN, self._embed_hidden, {LM_HIDDEN: hidden.reshape(1, -1)})
        states = []
        for step, places in enumerate(self.places):
            if step:
                codes = {place.channel: block[place.frame, place.channel] for place in self.places[step - 1]}
                out = self.steps.append(CODES, self._embed_codes, self._code_inputs(codes))
            states.append(out[HIDDEN])
            for place in places:
                block[place.frame, place.channel] = choose(place, out[f"{LOGITS}.{place.channel}"])
        return Decoded(block, first[LOCAL_INPUT], np.stack(states))

    def _embed_hidden(self, g: Graph) -> TensorPtr:
        """The LM's hidden state → (1, patch_dim)."""
        x = g.linear(g.input(LM_HIDDEN, (1, self.d.hidden_size)), "audio.hidden_proj")
        return g.output(LOCAL_INPUT, x)

    def _embed_codes(self, g: Graph) -> TensorPtr:
        """The codes of the step before → (1, patch_dim), the sum of their embeddings."""
        x = None
        for c in range(self.d.channels):
            row = g.rows(f"audio.emb.{c}", g.input(f"{CODES}_{c}", (1,), np.int32))
            row = g.mul(row, g.input(f"adds_{c}", (1, 1)))
            x = row if x is None else g.add(x, row)
        return x if self.d.input_dim == self.d.patch_dim else g.linear(x, "audio.local_proj")

    def _code_inputs(self, codes: dict[int, int]) -> Arrays:
        """Inputs for the codes of a step, by codebook; the other codebooks add nothing."""
        inputs: Arrays = {}
        for c in range(self.d.channels):
            inputs[f"{CODES}_{c}"] = np.array([codes.get(c, 0)], np.int32)
            inputs[f"adds_{c}"] = np.array([[c in codes]], np.float32)
        return inputs

    def blocks(self, g: Graph, x: TensorPtr, cache: Cache, n_logits: int, keep_stages: bool) -> None:
        """(1, patch_dim) → the outputs HIDDEN, (patch_dim,), and LOGITS of each codebook."""
        d = self.d

        def block(i: int, x: TensorPtr, positions: TensorPtr, attention: Attention) -> TensorPtr:
            return qwen2_block(g, x, f"llm.blk.{i}.", d.patch, positions, attention)

        for output in cache.attend(g, d.patch_layers, x, block):
            x = output
        hidden = g.output(HIDDEN, g.rms_norm(x, "llm.norm", d.rms_norm_eps))
        for c in range(d.channels):
            g.output(f"{LOGITS}.{c}", g.linear(hidden, f"llm.codebook_head.{c}"))


def check_speaks(model: ModelFile) -> None:
    """Raise InputError for a file without the tensors of speech generation."""
    d: SpeechLMDims = model.dims
    if SPEECH_GENERATION in model.layout.without:
        raise InputError(
            model.path, "was written without speech generation", expected="one with it, to speak",
            todo="convert it without --asr-only",
        )  # fmt: skip
    if d.input_dim != d.patch_dim and "audio.local_proj.weight" not in model.file.tensors:
        what = f"has code embeddings of {d.input_dim} numbers and a patch decoder of {d.patch_dim}"
        raise InputError(model.path, what, expected="equal sizes, or tensor audio.local_proj.weight")
