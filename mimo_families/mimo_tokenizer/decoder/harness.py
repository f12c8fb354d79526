"""Decoder and vocoder on ggml: codes → waveform. Its reference is `reference.py`, function for function."""

from collections.abc import Callable

import ggml
import numpy as np
import numpy.typing as npt

from mimo_convert.listener import advance
from mimo_convert.model.model_file import ModelFile
from quantize.errors import InputError
from runtime_check.audio.wave import Wave
from runtime_check.ggml.decoder import Attention
from runtime_check.ggml.graph import Backend, Graph, TensorPtr, Weights
from runtime_check.run.activations import Stages

from ..harness import block
from ..layout import AudioTokenizerDims
from .stages import (
    CODES_EMBED,
    DEC_MEL,
    DEC_NORM,
    DEC_UP,
    VOC_EMBED,
    VOC_NORM,
    VOC_SPEC,
    WAVE,
    decoder_layer,
    vocoder_layer,
)
from .waveform import Spectrum, inverse_stft

Codes = npt.NDArray[np.integer]  # (frames, codebooks)
Keep = Callable[[str, TensorPtr], TensorPtr]  # a stage by name, which may become an output
PIECE_FRAMES = 1500  # code frames, a minute, that are decoded at once; each piece alone, as upstream does


class SpeechDecoder:
    """The decoder of a `mimo_tokenizer` GGUF file: `decode(codes)` gives samples.

    `weights` are the file's; encoder and decoder share them. Raises InputError for a file without a decoder, or with a
    window that cannot be used.
    """

    d: AudioTokenizerDims

    def __init__(self, model: ModelFile, weights: Weights, backend: Backend) -> None:
        self.model, self.d = model, model.dims
        self.weights, self.backend = weights, backend
        if not self.d.has_decoder:
            what = "has no decoder, so it can only encode"
            raise InputError(model.path, what, todo="convert the audio tokenizer again: --with decoder")
        self.window = weights.file.tensors["voc.window"].read_float32().reshape(-1)

    def decode(self, codes: Codes) -> Wave:
        """Codes (T, Q) of the first Q codebooks → (T × 960,) float32 samples at 24 kHz, PIECE_FRAMES at a time; without
        codes a second of silence. Raises InputError for codes that are not in the codebooks."""
        if not len(codes):
            return np.zeros(self.d.sampling_rate, np.float32)
        return np.concatenate([self.decode_piece(codes[i : i + PIECE_FRAMES]) for i in piece_starts(codes)])

    def stages(self, codes: Codes) -> Stages:
        """`decode`, with every stage dec_codes_embed … wave."""
        if not len(codes):
            return {WAVE: self.decode(codes)}
        runs = [self._run(codes[i : i + PIECE_FRAMES], keep_stages=True) for i in piece_starts(codes)]
        return {name: np.concatenate([run[name] for run in runs]) for name in runs[0]}

    def decode_piece(self, codes: Codes) -> Wave:
        """Codes (T, Q) → (T × 960,) samples, all at once."""
        wave: Wave = self._run(codes, keep_stages=False)[WAVE]
        return wave

    def _run(self, codes: Codes, *, keep_stages: bool) -> Stages:
        check_codes(codes, self.d)
        g = Graph(self.backend, self.weights, widen=True)
        keep: Keep = g.output if keep_stages else lambda name, x: x
        x = keep(CODES_EMBED, code_embeddings(g, *codes.shape))
        spectrum = vocoder(g, decoder(g, x, self.d, keep), self.d, keep)
        g.output(VOC_SPEC, spectrum)
        out = g.run(code_inputs(codes))
        advance(len(codes))
        return {**out, WAVE: self.samples(out[VOC_SPEC])}

    def samples(self, spectrum: Spectrum) -> Wave:
        """A spectrum (frames, nfft + 2) → (frames × hop_length,) samples. Raises InputError for a window of which
        nothing is left where frames overlap."""
        try:
            return inverse_stft(spectrum, self.window, self.d.hop_length)
        except ZeroDivisionError as error:
            what = f"tensor voc.window: {error}"
            raise InputError(self.model.path, what, expected="a window without gaps") from error


def piece_starts(codes: Codes) -> range:
    """Where pieces begin."""
    return range(0, len(codes), PIECE_FRAMES)


def check_codes(codes: Codes, d: AudioTokenizerDims) -> None:
    """Raise InputError for codes (T, Q) that are not in the first Q codebooks: ggml would abort."""
    if codes.ndim != 2 or not 1 <= codes.shape[1] <= d.num_quantizers:
        shape = "×".join(map(str, codes.shape))
        raise InputError("codes", f"have the shape {shape}", expected=f"frames × 1 to {d.num_quantizers} codebooks")
    for codebook, column in enumerate(codes.T):
        wrong = np.flatnonzero((column < 0) | (column >= d.codebook_size[codebook]))
        if len(wrong):
            what = f"frame {wrong[0]} has code {column[wrong[0]]} of codebook {codebook}"
            raise InputError("codes", what, expected=f"0 to {d.codebook_size[codebook] - 1}")


def code_inputs(codes: Codes) -> dict[str, npt.NDArray[np.int32]]:
    """The graph's inputs for codes (T, Q)."""
    return {f"code_{i}": column.astype(np.int32) for i, column in enumerate(codes.T)}


def code_embeddings(g: Graph, n: int, n_codebooks: int) -> TensorPtr:
    """The sum of the codes' rows of every codebook: `n` frames → (n, d_model)."""
    total = None
    for i in range(n_codebooks):
        rows = g.weights[f"encoder.quant.vq.layers.{i}._codebook.embed"]  # (codebook size, d_model), F32
        row = ggml.ggml_get_rows(g.ctx, rows, g.input(f"code_{i}", (n,), np.int32))
        total = row if total is None else g.add(total, row)
    return total


def decoder(g: Graph, x: TensorPtr, d: AudioTokenizerDims, keep: Keep) -> TensorPtr:
    """Code embeddings (T, d_model) → mel frames (4 T, n_mels)."""
    x = keep(DEC_UP, g.group_norm(g.transposed_convolution(x, "dec.up.conv", stride=d.avg_pooler), "dec.up.norm"))

    def attend_causally(q: TensorPtr, k: TensorPtr, v: TensorPtr) -> TensorPtr:
        return g.attend_near(q, k, v, -1, 0)

    n = int(x.contents.ne[1])
    positions = g.constant("positions", np.arange(n, dtype=np.int32))
    for i in range(d.decoder_layers):
        x = keep(decoder_layer(i), decoder_block(g, x, i, d, positions, attend_causally))
    x = keep(DEC_NORM, g.layer_norm(x, "dec.norm"))
    x = g.transposed_convolution(x, "dec.mel.conv", stride=d.decoder_stride_size)
    x = g.group_norm(x, "dec.mel.norm")  # over the frames that are cut off, too
    return keep(DEC_MEL, ggml.ggml_cont(g.ctx, g.first_rows(x, n * d.decoder_stride_size)))


def decoder_block(
    g: Graph, x: TensorPtr, i: int, d: AudioTokenizerDims, positions: TensorPtr, attention: Attention
) -> TensorPtr:
    """Block `i` of the decoder: (T, d_model) → (T, d_model)."""
    return block(g, x, f"dec.blk.{i}.", d.decoder_heads, d.rope_theta, positions, attention)


def vocoder(g: Graph, mel: TensorPtr, d: AudioTokenizerDims, keep: Keep) -> TensorPtr:
    """Mel frames (T, n_mels) → the spectrum (T, nfft + 2)."""

    def attend_near(q: TensorPtr, k: TensorPtr, v: TensorPtr) -> TensorPtr:
        return g.attend_near(q, k, v, *d.vocoder_window)

    x = keep(VOC_EMBED, g.linear(mel, "voc.embed"))
    positions = g.constant("vocoder_positions", np.arange(int(x.contents.ne[1]), dtype=np.int32))
    for i in range(d.vocoder_layers):
        x = block(g, x, f"voc.blk.{i}.", d.vocoder_heads, d.rope_theta, positions, attend_near)
        x = keep(vocoder_layer(i), x)
    return g.linear(keep(VOC_NORM, g.layer_norm(x, "voc.norm")), "voc.head")
