"""The audio tokenizer's encoder and residual vector quantizer (RVQ) on ggml: log-mel → codes. Its reference is
`reference.py`."""

import ggml
import numpy as np
import numpy.typing as npt

from mimo_convert.listener import advance
from mimo_convert.model.model_file import ModelFile
from runtime_check.audio.wave import Wave
from runtime_check.ggml.graph import Backend, Graph, TensorPtr, Weights
from runtime_check.run.activations import Stages

from .front_end import chunks, log_mel
from .layout import AudioTokenizerDims
from .stages import CODES


class AudioTokenizer:
    """A `mimo_tokenizer` GGUF file, ready to encode audio."""

    d: AudioTokenizerDims

    def __init__(self, model: ModelFile, backend: Backend) -> None:
        self.model, self.d = model, model.dims
        self.weights, self.backend = Weights(model.file), backend

    def encode(self, wave: Wave, n_codebooks: int) -> Stages:
        """(samples,) at the model's rate → the stages tok_mel … tok_codes; each 30 s chunk is encoded separately."""
        runs = [self._encode_chunk(log_mel(chunk, self.d), n_codebooks) for chunk in chunks(wave, self.d)]
        return {name: np.concatenate([run[name] for run in runs]) for name in runs[0]}

    def _encode_chunk(self, mel: npt.NDArray[np.float32], n_codebooks: int) -> Stages:
        g = Graph(self.backend, self.weights, widen=True)
        pooled = encoder(g, g.input("tok_mel", mel.shape), self.d)
        residual_codes(g, pooled, self.d, n_codebooks)
        n_positions = -(-len(mel) // self.d.stride_size)
        out = g.run({"tok_mel": mel, "positions": np.arange(n_positions, dtype=np.int32)})
        advance(n_positions)
        codes = np.stack([out.pop(f"level_{level}") for level in range(n_codebooks)], axis=-1)
        return {"tok_mel": mel, **out, CODES: codes}


def encoder(g: Graph, mel: TensorPtr, d: AudioTokenizerDims) -> TensorPtr:
    """(frames, n_mels) → (frames / 4, d_model); the stages tok_conv1 … tok_pool are outputs."""
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
    """A pre-norm transformer block with full attention: (T, d_model) → (T, d_model)."""
    h = g.layer_norm(x, f"{name}attn_norm")
    q, k, v = g.qkv(h, f"{name}attn", d.encoder_heads, d.encoder_heads, d.head_dim)
    h = g.attend(g.rope(q, positions, d.rope_theta), g.rope(k, positions, d.rope_theta), v, None)
    x = g.add(x, g.linear(h, f"{name}attn.o"))
    h = g.layer_norm(x, f"{name}ffn_norm")
    return g.add(x, g.linear(g.gelu(g.linear(h, f"{name}fc1")), f"{name}fc2"))


def residual_codes(g: Graph, x: TensorPtr, d: AudioTokenizerDims, n_codebooks: int) -> None:
    """Residual vector quantization (Zeghidour et al. 2021, SoundStream): (T, d_model) → the outputs level_0 …, (T,)
    each.

    Each RVQ stage takes the nearest codebook row and passes the residual on.
    """
    for level in range(n_codebooks):
        rows = g.weights[f"encoder.quant.vq.layers.{level}._codebook.embed"]  # (codebook size, d_model), F32
        # ‖x - r‖² without ‖x‖², which is the same for every row
        norms = ggml.ggml_sum_rows(g.ctx, ggml.ggml_sqr(g.ctx, rows))
        norms = ggml.ggml_reshape_1d(g.ctx, norms, d.codebook_size[level])
        scores = ggml.ggml_scale(g.ctx, ggml.ggml_mul_mat(g.ctx, rows, x), 2.0)
        code = ggml.ggml_argmax(g.ctx, ggml.ggml_sub(g.ctx, scores, norms))
        g.output(f"level_{level}", code)
        x = ggml.ggml_sub(g.ctx, x, ggml.ggml_get_rows(g.ctx, rows, code))
