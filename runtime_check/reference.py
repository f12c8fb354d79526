"""The same model in PyTorch, from the safetensors checkpoint, one tensor of it in memory at a time.

It computes in float32, or in bfloat16 as upstream does: weights and activations are rounded to it, and only norms,
softmax and the quantizer's distances are float32 (github.com/XiaomiMiMo/MiMo-Audio, and Qwen2 of transformers).

Written beside `audio.py`, `audio_tokenizer.py` and `speech_lm.py`, function for function and with the same stage names,
from the published description of the model; shapes stand behind each step. Functions take their weights from a callable
and accept any leading batch dimensions, so that `tools/train_tiny.py` trains this very code.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mimo_convert.checkpoint import Checkpoint
from mimo_convert.models import mimo_asr, mimo_tokenizer
from mimo_convert.models.mimo_asr import BlockDims, SpeechLMDims
from mimo_convert.models.mimo_tokenizer import AudioTokenizerDims
from mimo_convert.stored import StoredTensor
from quantize.errors import InputError
from quantize.types import BF16

from .activations import (
    ANSWER,
    ANSWER_LOGITS,
    CODES,
    FIRST_LOGITS,
    GREEDY,
    LAST_HIDDEN,
    PROMPT,
    Activations,
    Origin,
)
from .prompt import Ids, build_prompt, with_answer
from .text_tokenizer import TextTokenizer
from .transcribe import DEFAULT_LEVELS, Clip

CHUNK_SECONDS = 30
LAYER_NORM_EPS = 1e-5
HEAD_ROWS_AT_ONCE = 16384
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
LARGEST_KERNEL = 10_000_000  # of the resampler, in taps


class Weights(Protocol):
    """Where the functions below find their weights, by checkpoint name; activations take on their dtype."""

    def __call__(self, name: str) -> Tensor:
        """The whole tensor."""

    def rows(self, name: str, ids: Tensor) -> Tensor:
        """Rows `ids` (any shape) of a matrix: (*ids.shape, columns)."""


class CheckpointWeights:
    """Weights read from the shards when asked for, and forgotten when the caller lets go."""

    def __init__(self, checkpoint: Checkpoint, dtype: torch.dtype) -> None:
        self.tensors, self.dtype = checkpoint.tensors, dtype

    def __call__(self, name: str) -> Tensor:
        info = self.tensors[name]
        return self._read(info).reshape(info.shape)

    def _read(self, info: StoredTensor, first: int = 0, n: int | None = None) -> Tensor:
        if self.dtype is torch.bfloat16 and info.type is BF16:
            return torch.from_numpy(info.read(first, n)).view(torch.bfloat16)
        return torch.from_numpy(info.read_float32(first, n)).to(self.dtype)

    def rows(self, name: str, ids: Tensor) -> Tensor:
        unique, inverse = torch.unique(ids, return_inverse=True)
        rows = [self._read(self.tensors[name], int(i), 1) for i in unique]
        return torch.cat(rows)[inverse]

    def row_blocks(self, name: str) -> Iterator[Tensor]:
        """The rows of a large matrix, a bounded number at a time."""
        info = self.tensors[name]
        for first in range(0, info.n_rows, HEAD_ROWS_AT_ONCE):
            yield self._read(info, first, min(HEAD_ROWS_AT_ONCE, info.n_rows - first))


# ── audio front end ──────────────────────────────────────────────────────────────────────────────────────────────


def resample(wave: Tensor, rate: int, new_rate: int) -> Tensor:
    """(samples,) at `rate` → (ceil(samples × new_rate / rate),), windowed sinc as torchaudio's default.

    Source: torchaudio.functional.resample, sinc_interp_hann, lowpass_filter_width 6, rolloff 0.99. Its kernel holds
    every phase of the ratio: raises InputError for two rates with almost no common divisor, such as 44101 and 24000.
    """
    if rate == new_rate:
        return wave
    length = math.ceil(len(wave) * new_rate / rate)
    divisor = math.gcd(rate, new_rate)
    old, new = rate // divisor, new_rate // divisor
    if old * new > LARGEST_KERNEL:
        raise InputError("audio", f"has {rate} samples a second", expected="a common rate", todo="resample it to 16000")
    cutoff, zeros = min(old, new) * 0.99, 6
    width = math.ceil(zeros * old / cutoff)
    taps = torch.arange(-width, width + old, dtype=torch.float64) / old  # (2 width + old,)
    t = (torch.arange(0, -new, -1, dtype=torch.float64)[:, None] / new + taps) * cutoff
    t = t.clamp(-zeros, zeros)
    window = torch.cos(t * math.pi / zeros / 2) ** 2
    kernel = (torch.sinc(t) * window * cutoff / old).float()  # (new, 2 width + old)
    padded = F.pad(wave, (width, width + old))
    phases = F.conv1d(padded[None, None], kernel[:, None], stride=old)[0]  # (new, blocks)
    return phases.T.reshape(-1)[:length]


def chunks(wave: Tensor, d: AudioTokenizerDims) -> list[Tensor]:
    """Cut into 30 s; a last chunk shorter than a window joins the one before; a shorter clip is zero-padded to one."""
    size = CHUNK_SECONDS * d.sampling_rate
    parts = list(wave.split(size)) if len(wave) else [wave]
    if len(parts) > 1 and len(parts[-1]) < d.nfft:
        parts[-2:] = [torch.cat(parts[-2:])]
    return [F.pad(part, (0, max(0, d.nfft - len(part)))) for part in parts]


def mel_filters(d: AudioTokenizerDims) -> Tensor:
    """(nfft / 2 + 1, n_mels): HTK triangles without area normalisation (torchaudio.functional.melscale_fbanks)."""
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
    """(samples,) at the model's rate → (frames, n_mels)."""
    window = torch.hann_window(d.window_size)
    spectrum = torch.stft(
        wave, d.nfft, d.hop_length, d.window_size, window, center=True, pad_mode="reflect", return_complex=True
    )
    magnitude = spectrum.abs().T  # (frames, bins)
    return (magnitude @ mel_filters(d)).clamp(min=1e-7).log()


# ── layers ───────────────────────────────────────────────────────────────────────────────────────────────────────


def rope(x: Tensor, positions: Tensor, theta: float) -> Tensor:
    """Rotary embedding, NeoX layout: x (…, n_heads, T, head_dim), positions (T,)."""
    half = x.shape[-1] // 2
    frequencies = theta ** (-torch.arange(half, dtype=torch.float32) / half)
    angles = positions[:, None].float() * frequencies  # (T, half)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    h = x.float()
    return (h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype) * weight


def layer_norm(x: Tensor, w: Weights, name: str) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], w(f"{name}.weight"), w(f"{name}.bias"), LAYER_NORM_EPS)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """q (…, n_heads, T, head_dim) over k, v (…, n_kv_heads, S, head_dim) → (…, T, n_heads × head_dim)."""
    repeats = q.shape[-3] // k.shape[-3]
    k, v = k.repeat_interleave(repeats, -3), v.repeat_interleave(repeats, -3)
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])  # (…, n_heads, T, S)
    if mask is not None:
        scores = scores + mask
    return (scores.float().softmax(-1).to(v.dtype) @ v).transpose(-2, -3).flatten(-2)


def heads(x: Tensor, n_heads: int) -> Tensor:
    """(…, T, n_heads × head_dim) → (…, n_heads, T, head_dim)."""
    return x.unflatten(-1, (n_heads, -1)).transpose(-2, -3)


# ── audio tokenizer ──────────────────────────────────────────────────────────────────────────────────────────────


def encoder(mel: Tensor, w: Weights, d: AudioTokenizerDims) -> dict[str, Tensor]:
    """(…, frames, n_mels) → the stages tok_conv1 … tok_pool, each (…, time, d_model)."""
    stages = {}
    x = F.gelu(convolution(mel, w, "encoder.conv1", padding=d.kernel_size // 2))
    stages["tok_conv1"] = x
    x = F.gelu(convolution(x, w, "encoder.conv2", stride=d.stride_size, padding=d.kernel_size // 2))
    stages["tok_conv2"] = x

    positions = torch.arange(x.shape[-2])
    for i in range(d.encoder_layers):
        x = encoder_block(x, w, f"encoder.layers.{i}.", d, positions)
        if i == d.skip_layer_id - 1:
            skip = x
    x = layer_norm(x + skip, w, "encoder.layer_norm")
    stages["tok_xfmr"] = x

    x = F.pad(x, (0, 0, 0, -x.shape[-2] % d.avg_pooler))
    x = F.gelu(convolution(x, w, "encoder.down_sample_layer.0", stride=d.avg_pooler, bias=False))
    stages["tok_pool"] = layer_norm(x, w, "encoder.down_sample_norm")
    return stages


def convolution(x: Tensor, w: Weights, name: str, stride: int = 1, padding: int = 0, bias: bool = True) -> Tensor:
    """(…, T, in) → (…, T', out)."""
    kernel = w(f"{name}.weight")
    time_last = x.transpose(-1, -2).to(kernel.dtype)
    y = F.conv1d(time_last, kernel, w(f"{name}.bias") if bias else None, stride=stride, padding=padding)
    return y.transpose(-1, -2)


def encoder_block(x: Tensor, w: Weights, name: str, d: AudioTokenizerDims, positions: Tensor) -> Tensor:
    """A pre-norm block, full attention; keys have no bias: (…, T, d_model) → the same."""
    h = layer_norm(x, w, f"{name}self_attn_layer_norm")
    q, k, v = (
        heads(F.linear(h, w(f"{name}self_attn.{c}_proj.weight"), bias), d.encoder_heads)
        for c, bias in (
            ("q", w(f"{name}self_attn.q_proj.bias")), ("k", None), ("v", w(f"{name}self_attn.v_proj.bias")),
        )
    )  # fmt: skip
    h = attend(rope(q, positions, d.rope_theta), rope(k, positions, d.rope_theta), v, None)
    x = x + F.linear(h, w(f"{name}self_attn.out_proj.weight"), w(f"{name}self_attn.out_proj.bias"))
    h = layer_norm(x, w, f"{name}final_layer_norm")
    h = F.gelu(F.linear(h, w(f"{name}fc1.weight"), w(f"{name}fc1.bias")))
    return x + F.linear(h, w(f"{name}fc2.weight"), w(f"{name}fc2.bias"))


def residual_codes(x: Tensor, w: Weights, n_levels: int) -> Tensor:
    """(…, T, d_model) → (…, T, n_levels) int64: at each level the nearest codebook row, then the rest goes on."""
    codes, x = [], x.float()
    for level in range(n_levels):
        rows = w(f"encoder.quantizer.vq.layers.{level}._codebook.embed").float()  # (codebook size, d_model)
        # ‖x - r‖² without ‖x‖², which is the same for every row
        code = (2 * x @ rows.T - rows.pow(2).sum(-1)).argmax(-1)
        x = x - rows[code]
        codes.append(code)
    return torch.stack(codes, -1)


# ── speech LM ────────────────────────────────────────────────────────────────────────────────────────────────────


def audio_features(codes: Tensor, speech: Tensor, w: Weights, d: SpeechLMDims) -> Tensor:
    """Codes (…, G, group_size, channels) and which groups are speech (…, G) → (…, G, out_hidden_size)."""
    x: Tensor = torch.zeros(())
    for channel, zero in enumerate(d.speech_zeroemb):
        ids = codes[..., channel]
        x = x + w.rows(f"speech_embeddings.{channel}.weight", ids) * (ids != zero)[..., None]
    x = x * speech[..., None, None]  # (…, G, group_size, input_dim)
    positions = torch.arange(d.group_size)
    for i in range(d.input_layers):
        x = block(x, w, f"input_local_transformer.layers.{i}.", d.input_local, positions, None)
    x = rms_norm(x, w("input_local_transformer.norm.weight"), d.rms_norm_eps)
    x = x * speech[..., None, None]
    return F.linear(x.flatten(-2), w("speech_group_downcast.weight"))


def text_embeds(text: Tensor, speech: Tensor, w: Weights) -> Tensor:
    """Text ids (…, G) → (…, G, hidden_size), zero where the group is speech."""
    return w.rows("model.embed_tokens.weight", text) * ~speech[..., None]


Cache = dict[int, tuple[Tensor, Tensor]]  # layer → its keys and values so far, (…, n_kv_heads, positions, head_dim)


def block(
    x: Tensor, w: Weights, name: str, d: BlockDims, positions: Tensor, mask: Tensor | None,
    cache: Cache | None = None, layer: int = 0,
) -> Tensor:  # fmt: skip
    """A Qwen2 block: (…, T, hidden_size) → the same. With a cache, T new positions attend to all before them."""
    h = rms_norm(x, w(f"{name}input_layernorm.weight"), d.rms_norm_eps)
    q, k, v = (
        heads(F.linear(h, w(f"{name}self_attn.{c}_proj.weight"), w(f"{name}self_attn.{c}_proj.bias")), n)
        for c, n in (("q", d.n_heads), ("k", d.n_kv_heads), ("v", d.n_kv_heads))
    )
    q, k = rope(q, positions, d.rope_theta), rope(k, positions, d.rope_theta)
    if cache is not None:
        if layer in cache:
            k, v = (torch.cat([old, new], -2) for old, new in zip(cache[layer], (k, v), strict=True))
        cache[layer] = (k, v)
    x = x + F.linear(attend(q, k, v, mask), w(f"{name}self_attn.o_proj.weight"))
    h = rms_norm(x, w(f"{name}post_attention_layernorm.weight"), d.rms_norm_eps)
    gate, up = F.linear(h, w(f"{name}mlp.gate_proj.weight")), F.linear(h, w(f"{name}mlp.up_proj.weight"))
    return x + F.linear(F.silu(gate) * up, w(f"{name}mlp.down_proj.weight"))


def language_model(
    x: Tensor, w: Weights, d: SpeechLMDims, cache: Cache | None = None, past: int = 0
) -> tuple[list[Tensor], Tensor]:
    """Inputs embeds (…, T, hidden_size) at positions past … past + T → every block's output, and the final norm's."""
    T = x.shape[-2]
    positions = torch.arange(past, past + T)
    mask = torch.full((T, past + T), -torch.inf).triu(past + 1)
    layers = []
    for i in range(d.num_layers):
        x = block(x, w, f"model.layers.{i}.", d.llm, positions, mask, cache, i)
        layers.append(x)
    return layers, rms_norm(x, w("model.norm.weight"), d.rms_norm_eps)


# ── the whole line ───────────────────────────────────────────────────────────────────────────────────────────────


def run(
    lm: Checkpoint | None,
    tokenizer: Checkpoint,
    clip: Clip,
    language: str = "english",
    *,
    answer: Sequence[int] | None = None,
    max_new_tokens: int = 1,
    dtype: str = "f32",
) -> Activations:
    """Every stage of both models on `clip`, in one pass over their shards, computed in `dtype` (of DTYPES).

    With the token ids of an `answer`, or the clip's text, the same pass gives the logits that predict each of its
    tokens. Without, the model's own answer of up to `max_new_tokens` takes one more pass over the speech LM's shards
    for each token after the first. Without `lm`, only the other runs.
    """
    for checkpoint in (lm, tokenizer):
        if checkpoint is not None:
            checkpoint.fetch()
    with torch.no_grad():
        return _run(lm, tokenizer, clip, language, answer, max_new_tokens, dtype)


def _run(
    lm: Checkpoint | None, tokenizer: Checkpoint, clip: Clip, language: str, answer: Sequence[int] | None,
    max_new_tokens: int, dtype: str,
) -> Activations:  # fmt: skip
    n_levels = DEFAULT_LEVELS if lm is None else mimo_asr.dimensions(lm.config).channels
    stages = encode(tokenizer, clip, n_levels, DTYPES[dtype])
    transcript = ""
    if lm is not None:
        d = mimo_asr.dimensions(lm.config)
        text = TextTokenizer.from_checkpoint(lm.folder, d.vocab_size)
        codes = stages[CODES].numpy().astype(np.int32)
        prompt = build_prompt(codes, text.encode, d, language)
        if answer is None and clip.text is not None:
            answer = text.answer(clip.text)
        weights = CheckpointWeights(lm, DTYPES[dtype])
        if answer is None:
            stages |= decode(weights, prompt, d, text, max_new_tokens)
        else:
            stages |= follow(weights, prompt, d, text, answer)
        transcript = text.transcript(stages[GREEDY].tolist())
    names = [checkpoint.name for checkpoint in (lm, tokenizer) if checkpoint is not None]
    for name, stage in stages.items():
        if not stage.isfinite().all():
            raise InputError(
                " and ".join(names),
                f"stage {name} holds NaN or infinity",
                todo="the checkpoint is damaged: download it again",
            )
    origin = Origin(names, clip.path.name, clip.sha256, language, text.sha256 if lm else "", torch.__version__, dtype)
    arrays = {name: (x.float() if x.is_floating_point() else x.int()).numpy() for name, x in stages.items()}
    return Activations(arrays, transcript, origin)


def encode(checkpoint: Checkpoint, clip: Clip, n_levels: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """Sound → the stages tok_mel … tok_codes, each chunk of 30 s on its own."""
    d, w = mimo_tokenizer.dimensions(checkpoint.config), CheckpointWeights(checkpoint, dtype)
    wave = resample(torch.from_numpy(clip.wave), clip.rate, d.sampling_rate)
    runs = []
    for chunk in chunks(wave, d):
        mel = log_mel(chunk, d)
        stages = {"tok_mel": mel, **encoder(mel, w, d)}
        runs.append({**stages, CODES: residual_codes(stages["tok_pool"], w, min(n_levels, d.num_quantizers))})
    return {name: torch.cat([stages[name] for stages in runs]) for name in runs[0]}


def follow(
    w: CheckpointWeights, prompt: Ids, d: SpeechLMDims, text: TextTokenizer, answer: Sequence[int]
) -> dict[str, Tensor]:
    """The stages prompt_ids … of a prompt, (1 + channels, T), and the logits that predict each token of `answer`, in
    one pass over both; GREEDY is the model's own answer, as far as it agrees with `answer`, and its next token."""
    n_groups = prompt.shape[1] // d.group_size
    inputs = inputs_embeds(with_answer(prompt, answer[:-1], d), text, w, d)
    layers, hidden = language_model(inputs["prefill_inputs_embeds"], w, d)
    logits = lm_head(hidden[n_groups - 1 :], w)
    own, given = logits.argmax(-1), torch.tensor(answer)
    differing = (own != given).nonzero()
    agreed = int(differing[0]) if len(differing) else len(answer) - 1
    return {
        PROMPT: torch.from_numpy(prompt),
        **{name: x[:n_groups] for name, x in inputs.items()},
        **{f"layer_{i:02d}": x[:n_groups] for i, x in enumerate(layers)},
        LAST_HIDDEN: hidden[n_groups - 1], FIRST_LOGITS: logits[0],
        ANSWER: given, ANSWER_LOGITS: logits, GREEDY: own[: agreed + 1],
    }  # fmt: skip


def decode(
    w: CheckpointWeights, prompt: Ids, d: SpeechLMDims, text: TextTokenizer, max_new_tokens: int
) -> dict[str, Tensor]:
    """The same stages with the model's own answer, greedily, up to `max_new_tokens`: a pass over the shards a token."""
    inputs = inputs_embeds(prompt, text, w, d)
    cache: Cache = {}
    layers, hidden = language_model(inputs["prefill_inputs_embeds"], w, d, cache)
    logits = [lm_head(hidden[-1:], w)[0]]
    answer = [int(logits[0].argmax())]
    while len(answer) < max_new_tokens and answer[-1] not in text.stops:
        embeds = w.rows("model.embed_tokens.weight", torch.tensor(answer[-1:]))
        past = prompt.shape[1] // d.group_size + len(answer) - 1
        _, next_hidden = language_model(embeds, w, d, cache, past)
        logits.append(lm_head(next_hidden[-1:], w)[0])
        answer.append(int(logits[-1].argmax()))
    ids = torch.tensor(answer)
    return {
        PROMPT: torch.from_numpy(prompt), **inputs, **{f"layer_{i:02d}": x for i, x in enumerate(layers)},
        LAST_HIDDEN: hidden[-1], FIRST_LOGITS: logits[0],
        ANSWER: ids, ANSWER_LOGITS: torch.stack(logits), GREEDY: ids,
    }  # fmt: skip


def inputs_embeds(ids: Ids, text: TextTokenizer, w: Weights, d: SpeechLMDims) -> dict[str, Tensor]:
    """Ids (1 + channels, T) → the stages of the LM's input, each (G, hidden_size)."""
    positions = torch.from_numpy(ids).long()
    words = positions[0, :: d.group_size]  # (G,)
    speech = words == text.encode("<|empty|>")[0]
    codes = positions[1:].T.reshape(-1, d.group_size, d.channels)  # (G, group_size, channels)
    audio, embeds = audio_features(codes, speech, w, d), text_embeds(words, speech, w)
    return {"prefill_audio_features": audio, "prefill_text_embeds": embeds, "prefill_inputs_embeds": audio + embeds}


def lm_head(hidden: Tensor, w: CheckpointWeights) -> Tensor:
    """(T, hidden_size) → logits (T, vocab_size), the head's rows a bounded number at a time."""
    return torch.cat([hidden @ rows.T for rows in w.row_blocks("lm_head.weight")], dim=-1)
