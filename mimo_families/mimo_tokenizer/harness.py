"""The audio tokenizer's encoder and residual vector quantizer (RVQ) on ggml: log-mel → codes. Its reference is
`reference.py`."""

import ggml
import numpy as np
import numpy.typing as npt

from mimo_convert.listener import advance
from mimo_convert.model.model_file import ModelFile
from runtime_check.audio.wave import Wave
from runtime_check.ggml.decoder import Attention
from runtime_check.ggml.graph import Backend, Graph, TensorPtr, Weights
from runtime_check.run.activations import Stages

from .front_end import chunks, log_mel, segments
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

    def encode_segments(self, wave: Wave, n_codebooks: int) -> Stages:
        """`encode` as models that speak do: the features of the whole clip, a segment of a minute at a time."""
        mel = log_mel(np.pad(wave, (0, max(0, self.d.nfft - len(wave)))), self.d)
        parts = segments(len(mel))
        runs = [self._encode_chunk(mel[part.begin : part.end], n_codebooks, padded=part.padded) for part in parts]
        return {name: np.concatenate([run[name] for run in runs]) for name in runs[0]}

    def _encode_chunk(self, mel: npt.NDArray[np.float32], n_codebooks: int, *, padded: bool = False) -> Stages:
        g = Graph(self.backend, self.weights, widen=True)
        pooled = encoder(g, g.input("tok_mel", mel.shape), self.d, padded=padded)
        residual_codes(g, pooled, self.d, n_codebooks)
        n_positions = -(-len(mel) // self.d.stride_size)
        out = g.run({"tok_mel": mel, "positions": np.arange(n_positions, dtype=np.int32)})
        advance(n_positions)
        codes = np.stack([out.pop(f"level_{level}") for level in range(n_codebooks)], axis=-1)
        return {"tok_mel": mel, **out, CODES: codes}


def encoder(g: Graph, mel: TensorPtr, d: AudioTokenizerDims, *, padded: bool = False) -> TensorPtr:
    """(frames, n_mels) → (frames / 4, d_model); the stages tok_conv1 … tok_pool are outputs. `padded` is that of a
    Segment."""
    padding, n_frames = d.kernel_size // 2, int(mel.contents.ne[1])
    if padded:
        mel = ggml.ggml_pad(g.ctx, mel, 0, -n_frames % d.stride_size, 0, 0)
    x = g.gelu(g.convolution(mel, "encoder.conv1", padding=padding))
    g.output("tok_conv1", ggml.ggml_cont(g.ctx, g.first_rows(x, n_frames)) if padded else x)
    x = g.gelu(g.convolution(x, "encoder.conv2", stride=d.stride_size, padding=padding))
    g.output("tok_conv2", x)

    def attend_all(q: TensorPtr, k: TensorPtr, v: TensorPtr) -> TensorPtr:
        return g.attend(q, k, v, None)

    positions = g.input("positions", (int(x.contents.ne[1]),), np.int32)
    for i in range(d.encoder_layers):
        x = block(g, x, f"enc.blk.{i}.", d.encoder_heads, d.rope_theta, positions, attend_all)
        if i == d.skip_layer_id - 1:
            skip = x
    x = g.layer_norm(g.add(x, skip), "enc.norm")
    g.output("tok_xfmr", x)

    missing = -int(x.contents.ne[1]) % d.avg_pooler
    last = ggml.ggml_repeat_4d(g.ctx, g.last_rows(x, 1), d.d_model, missing, 1, 1) if padded and missing else None
    x = ggml.ggml_concat(g.ctx, x, last, 1) if last else ggml.ggml_pad(g.ctx, x, 0, missing, 0, 0)
    x = g.gelu(g.convolution(x, "encoder.down_sample_layer.0", stride=d.avg_pooler))
    return g.output("tok_pool", g.layer_norm(x, "encoder.down_sample_norm"))


def block(
    g: Graph, x: TensorPtr, name: str, n_heads: int, theta: float, positions: TensorPtr, attention: Attention
) -> TensorPtr:
    """A pre-norm transformer block of encoder, decoder or vocoder; keys have no bias: (T, width) → (T, width)."""
    h = g.layer_norm(x, f"{name}attn_norm")
    q, k, v = g.qkv(h, f"{name}attn", n_heads, n_heads, int(x.contents.ne[0]) // n_heads)
    h = attention(g.rope(q, positions, theta), g.rope(k, positions, theta), v)
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
