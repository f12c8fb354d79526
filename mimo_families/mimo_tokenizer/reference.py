"""The audio tokenizer in PyTorch, from its safetensors checkpoint: the reference of `front_end.py` and `harness.py`,
function for function and with the same stage names.

It computes in float32, or in bfloat16 as upstream does: weights and activations are rounded; norms, softmax and RVQ
distances are float32 (github.com/XiaomiMiMo/MiMo-Audio).
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mimo_convert.model.checkpoint import Checkpoint
from runtime_check.audio.clips import Clip
from runtime_check.pytorch.audio import resample
from runtime_check.pytorch.layers import attend, convolution, heads, layer_norm, rope
from runtime_check.pytorch.weights import CheckpointWeights, Weights

from . import layout
from .front_end import CHUNK_SECONDS, segments
from .layout import AudioTokenizerDims
from .stages import CODES

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]


def chunks(wave: Tensor, d: AudioTokenizerDims) -> list[Tensor]:
    """Cut into 30 s chunks; a last chunk shorter than a window is joined to the one before, a shorter clip
    zero-padded."""
    size = CHUNK_SECONDS * d.sampling_rate
    parts = list(wave.split(size)) if len(wave) else [wave]
    if len(parts) > 1 and len(parts[-1]) < d.nfft:
        parts[-2:] = [torch.cat(parts[-2:])]
    return [F.pad(part, (0, max(0, d.nfft - len(part)))) for part in parts]


def mel_filters(d: AudioTokenizerDims) -> Tensor:
    """Mel filter bank, (nfft / 2 + 1, n_mels): HTK mel scale, no area normalization
    (torchaudio.functional.melscale_fbanks)."""
    top = d.sampling_rate / 2

    def to_mel(hertz: float) -> float:
        return 2595.0 * math.log10(1.0 + hertz / 700.0)

    mels = torch.linspace(to_mel(d.fmin), to_mel(top), d.n_mels + 2)
    edges = 700.0 * (10.0 ** (mels / 2595.0) - 1.0)
    bins = torch.linspace(0, d.sampling_rate // 2, d.nfft // 2 + 1)
    distance = edges[None] - bins[:, None]  # (bins, n_mels + 2)
    width = edges[1:] - edges[:-1]
    rising, falling = -distance[:, :-2] / width[:-1], distance[:, 2:] / width[1:]
    return torch.minimum(rising, falling).clamp(min=0)


def log_mel(wave: Tensor, d: AudioTokenizerDims) -> Tensor:
    """Log-mel features: (samples,) at the model's rate → (frames, n_mels), log(max(|STFT| · filters, 1e-7))."""
    window = torch.hann_window(d.window_size)
    spectrum = torch.stft(
        wave, d.nfft, d.hop_length, d.window_size, window, center=True, pad_mode="reflect", return_complex=True
    )
    magnitude = spectrum.abs().T  # (frames, bins)
    return (magnitude @ mel_filters(d)).clamp(min=1e-7).log()


def encoder(mel: Tensor, w: Weights, d: AudioTokenizerDims, *, padded: bool = False) -> dict[str, Tensor]:
    """(…, frames, n_mels) → the stages tok_conv1 … tok_pool, (…, time, d_model) each. `padded` is that of a Segment."""
    stages, n_frames = {}, mel.shape[-2]
    if padded:
        mel = F.pad(mel, (0, 0, 0, -n_frames % d.stride_size))
    x = F.gelu(convolution(mel, w, "encoder.conv1", padding=d.kernel_size // 2))
    stages["tok_conv1"] = x[..., :n_frames, :]
    x = F.gelu(convolution(x, w, "encoder.conv2", stride=d.stride_size, padding=d.kernel_size // 2))
    stages["tok_conv2"] = x

    def attend_all(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend(q, k, v, None)

    positions = torch.arange(x.shape[-2])
    for i in range(d.encoder_layers):
        x = block(x, w, f"encoder.layers.{i}.", d.encoder_heads, d.rope_theta, positions, attend_all)
        if i == d.skip_layer_id - 1:
            skip = x
    x = layer_norm(x + skip, w, "encoder.layer_norm")
    stages["tok_xfmr"] = x

    missing = -x.shape[-2] % d.avg_pooler
    x = (
        torch.cat([x, x[..., -1:, :].expand(*x.shape[:-2], missing, -1)], -2)
        if padded
        else F.pad(x, (0, 0, 0, missing))
    )
    x = F.gelu(convolution(x, w, "encoder.down_sample_layer.0", stride=d.avg_pooler, bias=False))
    stages["tok_pool"] = layer_norm(x, w, "encoder.down_sample_norm")
    return stages


def block(
    x: Tensor, w: Weights, name: str, n_heads: int, theta: float, positions: Tensor, attention: Attention
) -> Tensor:
    """A pre-norm transformer block of encoder, decoder or vocoder; keys have no bias: (…, T, width) → (…, T, width)."""
    h = layer_norm(x, w, f"{name}self_attn_layer_norm")
    q, k, v = (
        heads(w.linear(f"{name}self_attn.{c}_proj.weight", h, bias), n_heads)
        for c, bias in (("q", f"{name}self_attn.q_proj.bias"), ("k", None), ("v", f"{name}self_attn.v_proj.bias"))
    )
    h = attention(rope(q, positions, theta), rope(k, positions, theta), v)
    x = x + w.linear(f"{name}self_attn.out_proj.weight", h, f"{name}self_attn.out_proj.bias")
    h = layer_norm(x, w, f"{name}final_layer_norm")
    h = F.gelu(w.linear(f"{name}fc1.weight", h, f"{name}fc1.bias"))
    return x + w.linear(f"{name}fc2.weight", h, f"{name}fc2.bias")


def residual_codes(x: Tensor, w: Weights, n_codebooks: int) -> Tensor:
    """Residual vector quantization (Zeghidour et al. 2021, SoundStream): (…, T, d_model) → (…, T, n_codebooks) int64.

    Each RVQ stage takes the nearest codebook row and passes the residual on.
    """
    codes, x = [], x.float()
    for level in range(n_codebooks):
        rows = w(f"encoder.quantizer.vq.layers.{level}._codebook.embed").float()  # (codebook size, d_model)
        # ‖x - r‖² without ‖x‖², which is the same for every row
        code = (2 * x @ rows.T - rows.pow(2).sum(-1)).argmax(-1)
        x = x - rows[code]
        codes.append(code)
    return torch.stack(codes, -1)


def encode(
    checkpoint: Checkpoint, clip: Clip, n_codebooks: int, dtype: torch.dtype, *, whole: bool = False
) -> dict[str, Tensor]:
    """Audio → the stages tok_mel … tok_codes; each 30 s chunk is encoded separately, unless `whole`
    (`encode_segments`)."""
    d, w = layout.dimensions(checkpoint.config), CheckpointWeights(checkpoint, dtype)
    wave = resample(torch.from_numpy(clip.wave), clip.rate, d.sampling_rate)
    if whole:
        return encode_segments(wave, w, d, n_codebooks)
    return joined([encode_mel(log_mel(chunk, d), w, d, n_codebooks) for chunk in chunks(wave, d)])


def encode_segments(wave: Tensor, w: Weights, d: AudioTokenizerDims, n_codebooks: int) -> dict[str, Tensor]:
    """(samples,) at the model's rate → the stages tok_mel … tok_codes, as models that speak compute them: the features
    of the whole clip, a segment of a minute at a time."""
    mel = log_mel(F.pad(wave, (0, max(0, d.nfft - len(wave)))), d)
    parts = segments(len(mel))
    return joined([encode_mel(mel[part.begin : part.end], w, d, n_codebooks, padded=part.padded) for part in parts])


def encode_mel(
    mel: Tensor, w: Weights, d: AudioTokenizerDims, n_codebooks: int, *, padded: bool = False
) -> dict[str, Tensor]:
    """Mel frames that are encoded together, (frames, n_mels) → the stages tok_mel … tok_codes."""
    stages = {"tok_mel": mel, **encoder(mel, w, d, padded=padded)}
    return {**stages, CODES: residual_codes(stages["tok_pool"], w, min(n_codebooks, d.num_quantizers))}


def joined(runs: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The stages of parts, end to end."""
    return {name: torch.cat([run[name] for run in runs]) for name in runs[0]}
