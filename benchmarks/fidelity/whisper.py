"""Whisper in PyTorch as steps, of which the last gives the logits of a response (github.com/openai/whisper, model.py).

The state of a clip is the encoder's positions, then the decoder's: (AUDIO_POSITIONS + tokens, width). Clips are cut or
padded to 12 s, where Whisper has 30 s: most of those would be silence here.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mimo_families.qwen3_asr.front_end import log_mel
from mimo_families.qwen3_asr.mel import hann_window, mel_filters
from runtime_check.audio.wave import Wave
from runtime_check.calibrate.forward import Forward, Step
from runtime_check.pytorch.layers import attend, convolution, heads, layer_norm
from runtime_check.pytorch.weights import Weights

LAYERS, HEADS = 4, 6
AUDIO_POSITIONS = 600  # of 20 ms
START, NO_TIMESTAMPS, END = 50257, 50362, 50256
PROMPT = (START, NO_TIMESTAMPS)
FIRST_OF_DECODER = LAYERS + 2  # the step of its first block


class FrontEnd(NamedTuple):
    """The sizes of the front end."""

    sample_rate: int = 16_000
    n_fft: int = 400
    hop_length: int = 160
    n_mels: int = 80


D = FrontEnd()
SAMPLES = 2 * AUDIO_POSITIONS * D.hop_length


def mel_of(wave: Wave) -> Tensor:
    """A waveform at 16 kHz → the log-mel features of 12 s, (2 × AUDIO_POSITIONS, 80)."""
    padded = np.pad(wave[:SAMPLES], (0, max(0, SAMPLES - len(wave))))
    return torch.from_numpy(log_mel(padded, mel_filters(D.sample_rate, D.n_fft, D.n_mels), hann_window(D.n_fft), D))


class TensorWeights(Weights):
    """Weights in memory, of which some are replaced."""

    def __init__(self, weights: Mapping[str, Tensor], replaced: Mapping[str, Tensor] | None = None) -> None:
        self.weights = {**weights, **(replaced or {})}

    def __call__(self, name: str) -> Tensor:
        return self.weights[name]

    def rows(self, name: str, ids: Tensor) -> Tensor:
        """Rows `ids` (any shape) of a matrix: (*ids.shape, columns)."""
        return self.weights[name][ids]


def forward_of(mel: Tensor, response: Sequence[int]) -> Forward:
    """The pass of features with a response, whose steps are the blocks."""
    steps: list[Step] = [
        partial(front, tokens=torch.tensor([*PROMPT, *response[:-1]])),
        *(partial(encoder_block, name=f"encoder.layer_{i}") for i in range(LAYERS)),
        encoder_norm,
        *(partial(decoder_block, name=f"decoder.layer_{i}") for i in range(LAYERS)),
        predicted,
    ]
    return Forward(mel, steps, response)


def step_of(name: str) -> int:
    """The step that reads a matrix of a block."""
    side, layer, *_ = name.split(".")
    return int(layer.removeprefix("layer_")) + (1 if side == "encoder" else FIRST_OF_DECODER)


def front(mel: Tensor, w: Weights, tokens: Tensor) -> Tensor:
    """Features and ids → the state before the first block."""
    return torch.cat([audio(mel, w), embedded(tokens, w)])


def audio(mel: Tensor, w: Weights) -> Tensor:
    """The convolutions, with positions: (T, 80) → (T / 2, width)."""
    x = F.gelu(convolution(mel, w, "encoder.conv1", padding=1))
    x = F.gelu(convolution(x, w, "encoder.conv2", stride=2, padding=1))
    return x + w("encoder.position_encodings.encodings")[: len(x)]


def embedded(tokens: Tensor, w: Weights) -> Tensor:
    """Embeddings with positions: (tokens,) → (tokens, width)."""
    return w.rows("decoder.embeddings.weight", tokens) + w("decoder.position_encodings.encodings")[: len(tokens)]


def encoder_block(state: Tensor, w: Weights, name: str) -> Tensor:
    """A block of the encoder; the decoder's positions stay."""
    x, y = parts(state)
    x = self_attention(x, w, f"{name}.self_attention", None)
    return torch.cat([feed_forward(x, w, f"{name}.ffn"), y])


def encoder_norm(state: Tensor, w: Weights) -> Tensor:
    """The norm behind the encoder."""
    x, y = parts(state)
    return torch.cat([layer_norm(x, w, "encoder.layer_norm"), y])


def decoder_block(state: Tensor, w: Weights, name: str) -> Tensor:
    """A block of the decoder; the encoder's positions stay."""
    x, y = parts(state)
    y = self_attention(y, w, f"{name}.self_attention", torch.full((len(y), len(y)), float("-inf")).triu(1))
    y = cross_attention(y, x, w, f"{name}.attention")
    return torch.cat([x, feed_forward(y, w, f"{name}.ffn")])


def predicted(state: Tensor, w: Weights) -> Tensor:
    """The logits that predict each token of the response, (tokens, vocabulary)."""
    return head(state, w)[len(PROMPT) - 1 :]


def head(state: Tensor, w: Weights) -> Tensor:
    """The logits behind each token, (tokens, vocabulary); the head is tied to the embeddings."""
    return w.linear("decoder.embeddings.weight", layer_norm(parts(state)[1], w, "decoder.layer_norm"))


def parts(state: Tensor) -> tuple[Tensor, Tensor]:
    """The encoder's and the decoder's positions."""
    return state[:AUDIO_POSITIONS], state[AUDIO_POSITIONS:]


def linear(x: Tensor, w: Weights, name: str) -> Tensor:
    """A linear layer with a bias."""
    return w.linear(f"{name}.weight", x, f"{name}.bias")


def self_attention(x: Tensor, w: Weights, name: str, mask: Tensor | None) -> Tensor:
    """Pre-norm attention of positions to one another, (T, width), with the residual."""
    qkv = linear(layer_norm(x, w, f"{name}.layer_norm"), w, f"{name}.linear_0")
    q, k, v = (heads(part, HEADS) for part in qkv.chunk(3, -1))
    return x + linear(attend(q, k, v, mask), w, f"{name}.linear_1")


def cross_attention(y: Tensor, x: Tensor, w: Weights, name: str) -> Tensor:
    """Pre-norm attention of tokens y to audio x, with the residual."""
    q = heads(linear(layer_norm(y, w, f"{name}.layer_norm"), w, f"{name}.linear_0"), HEADS)
    k, v = (heads(part, HEADS) for part in linear(x, w, f"{name}.linear_1").chunk(2, -1))
    return y + linear(attend(q, k, v, None), w, f"{name}.linear_2")


def feed_forward(x: Tensor, w: Weights, name: str) -> Tensor:
    """Pre-norm GELU network, with the residual."""
    h = F.gelu(linear(layer_norm(x, w, f"{name}.layer_norm"), w, f"{name}.linear_0"))
    return x + linear(h, w, f"{name}.linear_1")
