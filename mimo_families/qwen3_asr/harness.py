"""Qwen3-ASR on ggml: mel frames → audio embeddings, then prompt → logits. Its reference is `reference.py`."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from mimo_convert.listener import advance
from mimo_convert.model.model_file import ModelFile
from runtime_check.audio.wave import Wave
from runtime_check.ggml.blocks import qwen3_block
from runtime_check.ggml.decoder import HIDDEN, LOGITS, TOKEN, Arrays, Attention, Cache
from runtime_check.ggml.graph import Backend, Graph, TensorPtr, Weights
from runtime_check.run.activations import Stages
from runtime_check.text.tokenizer import TextTokenizer

from .front_end import UPSTREAM, FrontEnd, Matrix, chunks, log_mel, n_tokens, sinusoids
from .prompt import Ids
from .sizes import Qwen3ASRDims, halved
from .stages import (
    AUDIO_EMBEDS,
    CONV_OUT,
    CONVOLUTIONS,
    INPUT,
    INPUTS_EMBEDS,
    NORM,
    PROJECTION,
    encoder_layer,
    layer,
)

CHUNKS_AT_ONCE, WINDOWS_AT_ONCE = 8, 4  # so that memory does not grow with the clip


class Names(NamedTuple):
    """What a file calls the encoder's layers: convolutions by number, blocks by number, in a block the two norms."""

    convolution: str = "audio.conv."
    conv_out: str = "audio.conv_out"
    block: str = "audio.blk."
    attn_norm: str = "attn_norm"
    ffn_norm: str = "ffn_norm"
    norm: str = "audio.ln_post"
    projections: tuple[str, str] = ("audio.proj1", "audio.proj2")


ONE_FILE = Names()


class Prompt(NamedTuple):
    """Ids (positions,), audio embeddings (A, hidden_size), and the response's tokens behind the prompt."""

    ids: Ids
    embeds: Matrix
    response: list[int]


class Recognizer:
    """A `qwen3asr` GGUF file, ready to encode audio and to decode. `encoder_weights` are those of the file that has the
    encoder, whose layers it calls by `names`."""

    names = ONE_FILE
    d: Qwen3ASRDims

    def __init__(self, model: ModelFile, backend: Backend) -> None:
        assert model.family.text is not None
        self.model, self.d = model, model.dims
        self.weights, self.backend = Weights(model.file), backend
        self.encoder_weights = self.weights
        self.text = TextTokenizer.from_gguf(model, model.family.text)
        self.audio_id = self.text.id_of("<|audio_pad|>")
        self.head = "output" if "output.weight" in self.weights else "token_embd"

    # ── audio encoder ────────────────────────────────────────────────────────────────────────────────────────────

    def tables(self) -> tuple[Matrix, Matrix]:
        """The file's mel filters, (n_fft / 2 + 1, n_mels), and window, (win_length,)."""
        return table_of(self.model, "audio.mel_filters"), table_of(self.model, "audio.mel_window")

    def positions(self, n_rows: int) -> Matrix:
        """Positions of the rows of a chunk, (n_rows, audio_dim)."""
        return sinusoids(n_rows, self.d.audio_dim)

    def log_mel(self, wave: Wave, of: FrontEnd = UPSTREAM) -> Matrix:
        """(samples,) at the model's rate → (T, n_mels)."""
        return log_mel(wave, *self.tables(), self.d, of)

    def encode(self, mel: Matrix, window: int | None, of: FrontEnd = UPSTREAM, *, keep_stages: bool = False) -> Stages:
        """(T, n_mels) → AUDIO_EMBEDS, (A, hidden_size); with `keep_stages` every stage before it.

        Attention is within windows of `window` audio tokens; None: over all.
        """
        stages = self._convolve(chunks(mel, self.d, of), keep_stages)
        x = stages[INPUT] = stages[INPUT][: n_tokens(len(mel), self.d, of)]  # without the rows of the padding
        stages |= self._attend(x, window or len(x), keep_stages)
        return stages if keep_stages else {AUDIO_EMBEDS: stages[AUDIO_EMBEDS]}

    def _convolve(self, images: Matrix, keep_stages: bool) -> Stages:
        """Chunks (n, frames, n_mels) → the stages enc_conv1 … enc_input, with the rows of every chunk."""
        runs = []
        for first in range(0, len(images), CHUNKS_AT_ONCE):
            batch = images[first : first + CHUNKS_AT_ONCE]
            g = Graph(self.backend, self.encoder_weights)
            convolutions(g, g.input("images", batch.shape), self.d, keep_stages, self.names)
            runs.append(g.run({"images": batch, "rows": self.positions(halved(batch.shape[1]))}))
        return joined(runs)

    def _attend(self, x: Matrix, window: int, keep_stages: bool) -> Stages:
        """(A, audio_dim) → the stages enc_layer_00 … audio_embeds; windows do not see each other."""
        runs = []
        for rows, n_windows in batches_of_windows(x, window):
            g = Graph(self.backend, self.encoder_weights)
            encoder(g, g.input(INPUT, rows.shape), n_windows, self.d, keep_stages, self.names)
            runs.append(g.run({INPUT: rows}))
            advance(len(rows))
        return joined(runs)

    # ── decoder ──────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def kv_shape(self) -> tuple[int, int, int]:
        """Number of blocks, heads of keys in each, and floats of one of them."""
        return self.d.num_layers, self.d.num_kv_heads, self.d.head_dim

    def length(self, prompt: Prompt) -> int:
        """Positions of a prompt."""
        return len(prompt.ids) + len(prompt.response)

    def inputs(self, prompt: Prompt, first: int, n: int) -> Arrays:
        """The graph's inputs for `n` positions of a prompt: ids, audio embeddings, and which of them counts.

        A response may hold any token: audio is where the prompt has its token.
        """
        ids = np.concatenate([prompt.ids, np.array(prompt.response, np.int32)])
        is_audio = np.arange(len(ids)) < len(prompt.ids)
        is_audio &= ids == self.audio_id
        part = slice(first, first + n)
        audio = np.zeros((n, self.d.hidden_size), np.float32)
        begin = int(is_audio[:first].sum())
        audio[is_audio[part]] = prompt.embeds[begin : begin + int(is_audio[part].sum())]
        return {TOKEN: ids[part], "audio": audio, "is_text": (~is_audio[part])[:, None].astype(np.float32)}

    def embed_prompt(self, g: Graph, n: int, keep_stages: bool) -> TensorPtr:
        """Positions → (n, hidden_size): text embeddings, and audio embeddings in the place of audio tokens."""
        text = g.mul(self.embed_tokens(g, n), g.input("is_text", (n, 1)))
        both = g.add(text, g.input("audio", (n, self.d.hidden_size)))
        return g.output(INPUTS_EMBEDS, both) if keep_stages else both

    def embed_tokens(self, g: Graph, n: int) -> TensorPtr:
        """Ids of `n` tokens → (n, hidden_size)."""
        return g.rows("token_embd", g.input(TOKEN, (n,), np.int32))

    def blocks(self, g: Graph, x: TensorPtr, cache: Cache, n_logits: int, keep_stages: bool) -> None:
        """(T, hidden_size) → the outputs HIDDEN and LOGITS of the last `n_logits` positions, and every block's output
        as a stage. The head is the embedding; a file may have it twice, for runtimes that ask for it."""
        d = self.d

        def block(i: int, x: TensorPtr, positions: TensorPtr, attention: Attention) -> TensorPtr:
            return qwen3_block(g, x, f"blk.{i}.", d.llm, positions, attention)

        for i, output in enumerate(cache.attend(g, d.num_layers, x, block)):
            x = g.output(layer(i), output) if keep_stages else output
        g.expand(x)
        if n_logits:
            last = g.output(HIDDEN, g.rms_norm(g.last_rows(x, n_logits), "output_norm", d.rms_norm_eps))
            g.output(LOGITS, g.linear(last, self.head))


def table_of(model: ModelFile, name: str) -> Matrix:
    """A table, as the file has it."""
    table = model.file.tensors[name]
    return table.read_float32().reshape(table.shape)


def convolutions(g: Graph, images: TensorPtr, d: Qwen3ASRDims, keep_stages: bool, names: Names = ONE_FILE) -> None:
    """Chunks (n, frames, n_mels) → the outputs CONV_OUT and INPUT, (n × rows, audio_dim) each, which the sinusoids of
    a chunk's rows tell apart; with `keep_stages` also what each convolution makes, time first."""
    n_mels, frames, n = images.contents.ne[:3]
    x = g.transpose(g.reshape(images, (n, frames, n_mels, 1)), 0, 2, 1, 3)  # (n, mel bins, frames, channels)
    for i, name in enumerate(CONVOLUTIONS, 1):
        x = g.gelu(g.convolution_2d(x, f"{names.convolution}{i}", stride=2, padding=1))
        if keep_stages:
            g.output(name, g.transpose(x, 0, 2, 3, 1))
    channels, rows, bins = x.contents.ne[:3]
    x = g.reshape(g.transpose(x, 0, 2, 3, 1), (n * rows, channels * bins))
    x = g.output(CONV_OUT, g.linear(x, names.conv_out))
    g.output(INPUT, g.add(g.reshape(x, (n, rows, d.audio_dim)), g.input("rows", (rows, d.audio_dim))))


def encoder(
    g: Graph, x: TensorPtr, n_windows: int, d: Qwen3ASRDims, keep_stages: bool, names: Names = ONE_FILE
) -> None:
    """(T, audio_dim) of `n_windows` equal windows → the output AUDIO_EMBEDS, (T, hidden_size); with `keep_stages` also
    every block's output, NORM and PROJECTION."""

    def keep(name: str, x: TensorPtr) -> TensorPtr:
        return g.output(name, x) if keep_stages else x

    for i in range(d.audio_layers):
        x = keep(encoder_layer(i), encoder_block(g, x, f"{names.block}{i}.", n_windows, d, names))
    x = keep(NORM, g.layer_norm(x, names.norm))
    x = keep(PROJECTION, g.gelu(g.linear(x, names.projections[0])))
    g.output(AUDIO_EMBEDS, g.linear(x, names.projections[1]))


def encoder_block(
    g: Graph, x: TensorPtr, name: str, n_windows: int, d: Qwen3ASRDims, names: Names = ONE_FILE
) -> TensorPtr:
    """A pre-norm transformer block with attention within windows: (T, audio_dim) → (T, audio_dim)."""
    h = g.layer_norm(x, name + names.attn_norm)
    q, k, v = g.qkv(h, f"{name}attn", d.audio_heads, d.audio_heads, d.audio_head_dim, joint="_")
    x = g.add(x, g.linear(g.attend_windows(q, k, v, n_windows), f"{name}attn_out"))
    h = g.layer_norm(x, name + names.ffn_norm)
    return g.add(x, g.linear(g.gelu(g.linear(h, f"{name}ffn_up")), f"{name}ffn_down"))


def batches_of_windows(x: Matrix, window: int) -> Iterator[tuple[Matrix, int]]:
    """Yield rows of x, (T, width), in batches of whole windows, with the number of windows; a shorter last window is a
    batch of its own."""
    whole, step = len(x) - len(x) % window, WINDOWS_AT_ONCE * window
    for first in range(0, whole, step):
        rows = x[first : min(first + step, whole)]
        yield rows, len(rows) // window
    if whole < len(x):
        yield x[whole:], 1


def joined(runs: list[Stages]) -> Stages:
    """The stages of all batches, a row each time step: of convolutions (steps, channels × mel bins)."""
    stages = {name: [run[name] for run in runs] for name in runs[0]}
    return {
        name: np.concatenate([x.reshape(-1, math.prod(x.shape[-1 - (name in CONVOLUTIONS) :])) for x in parts])
        for name, parts in stages.items()
    }
