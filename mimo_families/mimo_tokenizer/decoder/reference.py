"""Decoder and vocoder in PyTorch: the reference of `harness.py` and `waveform.py`, function for function and with the
same stage names.

Functions take weights from a callable, so that one layer at a time is in memory, and accept leading batch dimensions.
"""

import torch
from torch import Tensor

from runtime_check.pytorch.layers import attend_near, group_norm, layer_norm, transposed_convolution
from runtime_check.pytorch.weights import Weights

from ..layout import AudioTokenizerDims
from ..reference import block, joined
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
from .waveform import LOUDEST

WINDOW = "decoder.vocoder.head.istft.window"
PIECE_FRAMES = 1500  # code frames that are decoded at once; each piece alone


def decode(codes: Tensor, w: Weights, d: AudioTokenizerDims) -> dict[str, Tensor]:
    """Codes (T, Q) of the first Q codebooks → the stages dec_codes_embed … wave, PIECE_FRAMES at a time; without codes
    a second of silence."""
    if not len(codes):
        return {WAVE: torch.zeros(d.sampling_rate)}
    return joined([decode_piece(piece, w, d) for piece in codes.split(PIECE_FRAMES)])


def decode_piece(codes: Tensor, w: Weights, d: AudioTokenizerDims) -> dict[str, Tensor]:
    """Codes (…, T, Q) → every stage, all at once."""
    stages = {CODES_EMBED: code_embeddings(codes, w)}
    stages |= decoder(stages[CODES_EMBED], w, d)
    stages |= vocoder(stages[DEC_MEL], w, d)
    stages[WAVE] = inverse_stft(stages[VOC_SPEC], w(WINDOW), d.hop_length)
    return stages


def code_embeddings(codes: Tensor, w: Weights) -> Tensor:
    """The sum of the codes' rows of every codebook: (…, T, Q) → (…, T, d_model)."""
    columns = enumerate(codes.unbind(-1))
    rows = [w.rows(f"encoder.quantizer.vq.layers.{i}._codebook.embed", column) for i, column in columns]
    total = rows[0]
    for row in rows[1:]:
        total = total + row
    return total


def decoder(x: Tensor, w: Weights, d: AudioTokenizerDims) -> dict[str, Tensor]:
    """Code embeddings (…, T, d_model) → the stages dec_up … dec_mel, (…, 4 T, n_mels)."""

    def attend_causally(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend_near(q, k, v, -1, 0)

    x = transposed_convolution(x, w, "decoder.dconv1.conv", stride=d.avg_pooler)
    stages = {DEC_UP: group_norm(x, w, "decoder.dconv1.norm")}
    x = stages[DEC_UP]
    n = x.shape[-2]
    for i in range(d.decoder_layers):
        x = block(x, w, f"decoder.layers.{i}.", d.decoder_heads, d.rope_theta, torch.arange(n), attend_causally)
        stages[decoder_layer(i)] = x
    stages[DEC_NORM] = layer_norm(x, w, "decoder.layer_norm")
    x = transposed_convolution(stages[DEC_NORM], w, "decoder.dconv2.conv", stride=d.decoder_stride_size)
    x = group_norm(x, w, "decoder.dconv2.norm")  # over the frames that are cut off, too
    stages[DEC_MEL] = x[..., : n * d.decoder_stride_size, :]
    return stages


def vocoder(mel: Tensor, w: Weights, d: AudioTokenizerDims) -> dict[str, Tensor]:
    """Mel frames (…, T, n_mels) → the stages voc_embed … voc_spec, (…, T, nfft + 2)."""

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend_near(q, k, v, *d.vocoder_window)

    name, positions = "decoder.vocoder.", torch.arange(mel.shape[-2])
    x = torch.nn.functional.linear(mel, w(f"{name}embeddings.weight"))
    stages = {VOC_EMBED: x}
    for i in range(d.vocoder_layers):
        x = block(x, w, f"{name}layers.{i}.", d.vocoder_heads, d.rope_theta, positions, attend)
        stages[vocoder_layer(i)] = x
    stages[VOC_NORM] = layer_norm(x, w, f"{name}layer_norm")
    head = w(f"{name}head.out.weight"), w(f"{name}head.out.bias")
    stages[VOC_SPEC] = torch.nn.functional.linear(stages[VOC_NORM], *head)
    return stages


def inverse_stft(spectrum: Tensor, window: Tensor, hop: int) -> Tensor:
    """A spectrum, (…, frames, nfft + 2), of log-magnitudes and phases → (…, frames × hop) samples, in float32.

    Overlapping windowed frames are added and divided by the sum of the squared windows; (nfft - hop) / 2 samples are
    cut off both ends (github.com/XiaomiMiMo/MiMo-Audio, ISTFT with `padding="same"`; Siuzdak 2023, Vocos).
    """
    n, nfft = spectrum.shape[-2], len(window)
    log_magnitude, phase = spectrum.float().chunk(2, -1)
    magnitude, window = log_magnitude.exp().clamp(max=LOUDEST), window.float()
    frames = torch.fft.irfft(torch.complex(magnitude * phase.cos(), magnitude * phase.sin()), nfft) * window
    squares = window.square().expand(n, -1)
    begin = (nfft - hop) // 2
    total, weight = (overlap_add(x, hop)[..., begin : begin + n * hop] for x in (frames, squares))
    return total / weight


def overlap_add(frames: Tensor, hop: int) -> Tensor:
    """Add frames, (…, n, size), each `hop` samples later than the one before → (…, (n - 1) × hop + size)."""
    *batch, n, size = frames.shape
    columns = frames.reshape(-1, n, size).transpose(-1, -2)  # (batch, size, n), as fold takes them
    length = (n - 1) * hop + size
    added = torch.nn.functional.fold(columns, (1, length), (1, size), stride=(1, hop))
    return added.reshape(*batch, length)
