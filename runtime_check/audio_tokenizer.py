"""The audio tokenizer's encoder and residual quantizer on ggml: log-mel → codes."""

from pathlib import Path

import ggml
import numpy as np
import numpy.typing as npt

from mimo_convert.model_file import open_model_file
from mimo_convert.models import mimo_tokenizer
from mimo_convert.models.mimo_tokenizer import AudioTokenizerDims

from . import audio
from .activations import Stages
from .graph import Backend, Graph, TensorPtr, Weights


class AudioTokenizer:
    """A `mimo_tokenizer` GGUF file, ready to turn sound into codes."""

    d: AudioTokenizerDims

    def __init__(self, path: Path, backend: Backend) -> None:
        self.file, self.d = open_model_file(path, mimo_tokenizer.FAMILY)
        self.weights, self.backend = Weights(self.file), backend

    def encode(self, wave: audio.Wave, n_levels: int) -> Stages:
        """(samples,) at the model's rate → the stages tok_mel … tok_codes, each chunk of 30 s on its own."""
        runs = [self._encode_chunk(audio.log_mel(chunk, self.d), n_levels) for chunk in audio.chunks(wave, self.d)]
        return {name: np.concatenate([run[name] for run in runs]) for name in runs[0]}

    def _encode_chunk(self, mel: npt.NDArray[np.float32], n_levels: int) -> Stages:
        g = Graph(self.backend, self.weights, widen=True)
        pooled = encoder(g, g.input("tok_mel", mel.shape), self.d)
        residual_codes(g, pooled, self.d, n_levels)
        n_positions = -(-len(mel) // self.d.stride_size)
        out = g.run({"tok_mel": mel, "positions": np.arange(n_positions, dtype=np.int32)})
        codes = np.stack([out.pop(f"level_{level}") for level in range(n_levels)], axis=-1)
        return {"tok_mel": mel, **out, "tok_codes": codes}


def encoder(g: Graph, mel: TensorPtr, d: AudioTokenizerDims) -> TensorPtr:
    """(frames, n_mels) → (frames / 4, d_model); the stages tok_conv1 … tok_pool are outputs of the graph."""
    padding = d.kernel_size // 2
    x = g.gelu(g.convolution(mel, "encoder.conv1", padding=padding))
    g.output("tok_conv1", x)
    x = g.gelu(g.convolution(x, "encoder.conv2", stride=d.stride_size, padding=padding))
    g.output("tok_conv2", x)

    positions = g.input("positions", (int(x.contents.ne[1]),), np.int32)
    for i in range(d.encoder_layers):
        x = encoder_block(g, x, f"enc.blk.{i}.", d, positions)
        if i == d.skip_layer_id - 1:
            skip = x
    x = g.layer_norm(g.add(x, skip), "enc.norm")
    g.output("tok_xfmr", x)

    n_positions = int(x.contents.ne[1])
    x = ggml.ggml_pad(g.ctx, x, 0, -n_positions % d.avg_pooler, 0, 0)
    x = g.gelu(g.convolution(x, "encoder.down_sample_layer.0", stride=d.avg_pooler))
    return g.output("tok_pool", g.layer_norm(x, "encoder.down_sample_norm"))


def encoder_block(g: Graph, x: TensorPtr, name: str, d: AudioTokenizerDims, positions: TensorPtr) -> TensorPtr:
    """A pre-norm block, full attention: (T, d_model) → the same."""
    h = g.layer_norm(x, f"{name}attn_norm")
    q, k, v = g.qkv(h, f"{name}attn", d.encoder_heads, d.encoder_heads, d.head_dim)
    h = g.attend(g.rope(q, positions, d.rope_theta), g.rope(k, positions, d.rope_theta), v, None)
    x = g.add(x, g.linear(h, f"{name}attn.o"))
    h = g.layer_norm(x, f"{name}ffn_norm")
    return g.add(x, g.linear(g.gelu(g.linear(h, f"{name}fc1")), f"{name}fc2"))


def residual_codes(g: Graph, x: TensorPtr, d: AudioTokenizerDims, n_levels: int) -> None:
    """(T, d_model) → outputs level_0 …, each (T,): at each level the nearest codebook row, then the rest goes on."""
    for level in range(n_levels):
        rows = g.weights[f"encoder.quant.vq.layers.{level}._codebook.embed"]  # (codebook size, d_model), F32
        # ‖x - r‖² without ‖x‖², which is the same for every row
        norms = ggml.ggml_sum_rows(g.ctx, ggml.ggml_sqr(g.ctx, rows))
        norms = ggml.ggml_reshape_1d(g.ctx, norms, d.codebook_size[level])
        scores = ggml.ggml_scale(g.ctx, ggml.ggml_mul_mat(g.ctx, rows, x), 2.0)
        code = ggml.ggml_argmax(g.ctx, ggml.ggml_sub(g.ctx, scores, norms))
        g.output(f"level_{level}", code)
        x = ggml.ggml_sub(g.ctx, x, ggml.ggml_get_rows(g.ctx, rows, code))
