"""Qwen3-ASR in PyTorch, from its safetensors checkpoint: the reference of `front_end.py`, `prompt.py` and `harness.py`,
function for function and with the same stage names.

It computes in float32, or in bfloat16 as upstream does: weights and activations are rounded; norms and softmax are
float32 (github.com/QwenLM/Qwen3-ASR). Functions take weights from a callable.
"""

import math
from collections.abc import Mapping, Sequence, Set
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mimo_convert.model.checkpoint import Checkpoint
from runtime_check.audio.clips import Clip
from runtime_check.choices import FULL
from runtime_check.pytorch.audio import resample
from runtime_check.pytorch.layers import (
    Cache,
    attend_windows,
    convolution_2d,
    heads,
    layer_norm,
    qwen3_block,
    rms_norm,
)
from runtime_check.pytorch.run import VERSION, arrays_of, fetch
from runtime_check.pytorch.weights import DTYPES, CheckpointWeights, Weights
from runtime_check.run.activations import GREEDY, RESPONSE, RESPONSE_LOGITS, Activations, Origin
from runtime_check.run.system import AUTO_LANGUAGE, Task
from runtime_check.text.tokenizer import TextTokenizer

from .front_end import FRONT_ENDS, UPSTREAM, FrontEnd, n_frames, n_tokens
from .layout import DECODER, EMBEDDING, ENCODER, FAMILY
from .prompt import AUDIO, TAG, Ids, build_prompt, parse
from .sizes import Qwen3ASRDims, dimensions, halved
from .stages import (
    AUDIO_EMBEDS,
    CONV_OUT,
    CONVOLUTIONS,
    FIRST_LOGITS,
    INPUT,
    INPUTS_EMBEDS,
    LAST_HIDDEN,
    MEL,
    NORM,
    PROJECTION,
    PROMPT,
    ROLE,
    encoder_layer,
    layer,
)

MOST_HEAD_TOKENS = 12  # of `language NAME<asr_text>`


def samples(clip: Clip, d: Qwen3ASRDims, of: FrontEnd = UPSTREAM) -> Tensor:
    """(samples,) at the model's rate; louder audio than ±1 is scaled to its peak."""
    wave = resample(torch.from_numpy(clip.wave), clip.rate, d.sample_rate)
    if not of.scaled:
        return wave
    return (wave / wave.abs().max().clamp(min=1)).clamp(-1, 1)


def mel_filters(d: Qwen3ASRDims) -> Tensor:
    """Mel filter bank, (n_fft / 2 + 1, n_mels): Slaney's mel scale, triangles of equal area (librosa.filters.mel)."""
    linear = 3 / 200  # mels per Hz, up to 1 kHz; above, 27 mels are a factor of 6.4
    top = 15 + 27 * math.log(d.sample_rate / 2000) / math.log(6.4)
    mels = torch.linspace(0, top, d.n_mels + 2, dtype=torch.float64)
    edges = torch.where(mels < 15, mels / linear, 1000 * 6.4 ** ((mels - 15) / 27))
    bins = torch.linspace(0, d.sample_rate / 2, d.n_fft // 2 + 1, dtype=torch.float64)
    distance = edges[None] - bins[:, None]  # (bins, n_mels + 2)
    width = edges[1:] - edges[:-1]
    rising, falling = -distance[:, :-2] / width[:-1], distance[:, 2:] / width[1:]
    return (torch.minimum(rising, falling).clamp(min=0) * 2 / (edges[2:] - edges[:-2])).float()


def log_mel(wave: Tensor, d: Qwen3ASRDims, of: FrontEnd = UPSTREAM) -> Tensor:
    """Log-mel features as Whisper's: (samples,) at the model's rate → (frames, n_mels)."""
    wave = F.pad(wave, (0, max(0, d.n_fft - len(wave))))
    window = torch.hann_window(d.win_length)
    spectrum = torch.stft(
        wave, d.n_fft, d.hop_length, d.win_length, window, center=True, pad_mode="reflect", return_complex=True
    )
    power = spectrum[:, : n_frames(len(wave), d, of)].abs().pow(2).T  # (frames, bins)
    log = (power @ mel_filters(d)).clamp(min=of.least_power).log10()
    return (torch.maximum(log, log.max() - 8) + 4) / 4


def chunks(mel: Tensor, d: Qwen3ASRDims, of: FrontEnd = UPSTREAM) -> Tensor:
    """Cut (T, n_mels) into chunks, (n, frames, n_mels): a shorter last one is padded with zeros; if it is the only one,
    it is as long as it is, unless chunks are always whole."""
    if len(mel) < d.chunk_frames and not of.whole_chunks:
        return mel[None]
    return F.pad(mel, (0, 0, 0, -len(mel) % d.chunk_frames)).unflatten(0, (-1, d.chunk_frames))


def sinusoids(n_rows: int, width: int) -> Tensor:
    """Positions of the rows of a chunk, (n_rows, width): sines, then cosines."""
    half = width // 2
    scales = torch.exp(-torch.arange(half) * (math.log(10_000) / (half - 1)))
    angles = torch.arange(n_rows)[:, None] * scales
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def convolutions(images: Tensor, w: Weights, d: Qwen3ASRDims) -> dict[str, Tensor]:
    """Chunks (n, frames, n_mels) → the stages enc_conv1 … enc_input, with the rows of every chunk."""
    stages, x = {}, images.transpose(1, 2)[:, None]  # (n, channels, mel bins, frames)
    for i, name in enumerate(CONVOLUTIONS, 1):
        x = F.gelu(convolution_2d(x, w, f"{ENCODER}.conv2d{i}", stride=2, padding=1))
        stages[name] = x.permute(0, 3, 1, 2).flatten(2).flatten(0, 1)  # (n × steps, channels × mel bins)
    x = w.linear(f"{ENCODER}.conv_out.weight", stages[CONVOLUTIONS[-1]])
    positions = sinusoids(halved(images.shape[1]), d.audio_dim).to(x.dtype)
    return {**stages, CONV_OUT: x, INPUT: x + positions.repeat(len(images), 1)}


def encoder(x: Tensor, window: int, w: Weights, d: Qwen3ASRDims) -> dict[str, Tensor]:
    """(A, audio_dim) → the stages enc_layer_00 … audio_embeds; attention is within windows of `window` positions."""
    stages = {}
    for i in range(d.audio_layers):
        x = stages[encoder_layer(i)] = encoder_block(x, w, f"{ENCODER}.layers.{i}.", window, d)
    return stages | projection(x, w)


def projection(x: Tensor, w: Weights) -> dict[str, Tensor]:
    """The last block's output (A, audio_dim) → the stages behind it, to audio_embeds (A, hidden_size)."""
    stages = {NORM: layer_norm(x, w, f"{ENCODER}.ln_post")}
    x = stages[PROJECTION] = F.gelu(w.linear(f"{ENCODER}.proj1.weight", stages[NORM], f"{ENCODER}.proj1.bias"))
    stages[AUDIO_EMBEDS] = w.linear(f"{ENCODER}.proj2.weight", x, f"{ENCODER}.proj2.bias")
    return stages


def encoder_block(x: Tensor, w: Weights, name: str, window: int, d: Qwen3ASRDims) -> Tensor:
    """A pre-norm transformer block with attention within windows: (T, audio_dim) → (T, audio_dim)."""

    def linear(x: Tensor, layer: str) -> Tensor:
        return w.linear(f"{name}{layer}.weight", x, f"{name}{layer}.bias")

    h = layer_norm(x, w, f"{name}self_attn_layer_norm")
    q, k, v = (heads(linear(h, f"self_attn.{c}_proj"), d.audio_heads) for c in "qkv")
    x = x + linear(attend_windows(q, k, v, window), "self_attn.out_proj")
    h = layer_norm(x, w, f"{name}final_layer_norm")
    return x + linear(F.gelu(linear(h, "fc1")), "fc2")


def encode(mel: Tensor, w: Weights, d: Qwen3ASRDims, window: int | None, of: FrontEnd = UPSTREAM) -> dict[str, Tensor]:
    """(T, n_mels) → the stages enc_conv1 … audio_embeds; attention is within windows of `window` audio tokens, None:
    over all."""
    stages = convolutions(chunks(mel, d, of), w, d)
    x = stages[INPUT] = stages[INPUT][: n_tokens(len(mel), d, of)]  # without the rows of the padding
    return stages | encoder(x, window or len(x), w, d)


class Prompt(NamedTuple):
    """Ids (positions,), audio embeddings (A, hidden_size), and the id of the tokens in whose places they are."""

    ids: Ids
    embeds: Tensor
    audio_id: int


def inputs_embeds(prompt: Prompt, response: Sequence[int], w: Weights) -> Tensor:
    """A prompt and a response behind it → (positions, hidden_size). A response may hold any token: audio is where the
    prompt has its token."""
    ids, n = torch.tensor([*prompt.ids.tolist(), *response]), len(prompt.ids)
    embeds = w.rows(EMBEDDING, ids).clone()
    embeds[:n][ids[:n] == prompt.audio_id] = prompt.embeds.to(embeds.dtype)
    return embeds


def language_model(
    x: Tensor, w: Weights, d: Qwen3ASRDims, cache: Cache | None = None, past: int = 0
) -> tuple[list[Tensor], Tensor]:
    """Input embeddings (T, hidden_size) at positions past … past + T → every block's output, and the final norm's."""
    layers = []
    for i in range(d.num_layers):
        x = decoder_block(x, w, d, i, cache, past)
        layers.append(x)
    return layers, final_norm(x, w, d)


def decoder_block(x: Tensor, w: Weights, d: Qwen3ASRDims, i: int, cache: Cache | None = None, past: int = 0) -> Tensor:
    """Block `i` of the decoder: (T, hidden_size) → (T, hidden_size)."""
    n = len(x)
    mask = torch.full((n, past + n), -torch.inf).triu(past + 1)
    return qwen3_block(x, w, f"{DECODER}.layers.{i}.", d.llm, torch.arange(past, past + n), mask, cache, i)


def final_norm(x: Tensor, w: Weights, d: Qwen3ASRDims) -> Tensor:
    """The norm behind the last block: (T, hidden_size) → (T, hidden_size)."""
    return rms_norm(x, w(f"{DECODER}.norm.weight"), d.rms_norm_eps)


def lm_head(hidden: Tensor, w: Weights) -> Tensor:
    """(T, hidden_size) → logits (T, vocab_size), by the embedding."""
    return w.linear(EMBEDDING, hidden)


def run(
    checkpoints: Mapping[str, Checkpoint], clip: Clip, task: Task, response: Sequence[int] | None, dtype: str
) -> Activations:
    """Compute every stage on `clip` in `dtype` (of DTYPES), in one pass over the shards.

    With the token ids of a `response`, or the clip's text, the pass includes the logits that predict each of its
    tokens; if the language is to be detected, what the model says of it before the text takes one pass per token more.
    Otherwise the model's own response of up to `max_new_tokens` (1) takes one pass over the decoder per further token.
    """
    fetch(checkpoints.values())
    checkpoint = checkpoints[ROLE].renamed(FAMILY.canonical)
    d, w = dimensions(checkpoint.config), CheckpointWeights(checkpoint, DTYPES[dtype])
    assert FAMILY.text is not None
    text = TextTokenizer.from_checkpoint(checkpoint, d.vocab_size, FAMILY.text)
    with torch.no_grad():
        of, window = FRONT_ENDS[task.runtime], None if task.attention == FULL else d.window_tokens
        mel = log_mel(samples(clip, d, of), d, of)
        stages = {MEL: mel, **encode(mel.to(w.dtype), w, d, window, of)}
        ids = build_prompt(len(stages[AUDIO_EMBEDS]), text.encode, d, task)
        prompt = Prompt(ids, stages[AUDIO_EMBEDS], text.id_of(AUDIO))
        if response is None and clip.text is not None:
            response = [*head_of(w, prompt, d, text, task), *text.response(clip.text.strip())]
        if response is None:
            stages |= decode(w, prompt, d, task.max_new_tokens or 1, text.stops)
        else:
            stages |= teacher_force(w, prompt, d, response)
    transcript = parse(text.decode(stages[GREEDY].tolist(), skip_special=True), task).text
    origin = Origin(
        [checkpoint.name], clip.path.name, clip.sha256, task.language, text.sha256, VERSION, dtype, task.context,
        task.attention, task.runtime,
    )  # fmt: skip
    return Activations(arrays_of(stages, [checkpoint.name]), transcript, origin)


def teacher_force(w: CheckpointWeights, prompt: Prompt, d: Qwen3ASRDims, response: Sequence[int]) -> dict[str, Tensor]:
    """Stages of a prompt, and the logits that predict each token of `response`, in one pass.

    GREEDY is the model's own response as far as it agrees with `response`, and its next token.
    """
    n, x = len(prompt.ids), inputs_embeds(prompt, response[:-1], w)
    layers, hidden = language_model(x, w, d)
    logits = lm_head(hidden[n - 1 :], w)
    own, given = logits.argmax(-1), torch.tensor(list(response))
    differing = (own != given).nonzero()
    agreed = int(differing[0]) if len(differing) else len(given) - 1
    return {
        **prompt_stages(prompt, x[:n], [y[:n] for y in layers], hidden[n - 1], logits[0]),
        RESPONSE: given, RESPONSE_LOGITS: logits, GREEDY: own[: agreed + 1],
    }  # fmt: skip


def decode(
    w: CheckpointWeights, prompt: Prompt, d: Qwen3ASRDims, max_new_tokens: int, stops: Set[int]
) -> dict[str, Tensor]:
    """The same stages with the model's own greedy response of up to `max_new_tokens`, or to a token of `stops`: a pass
    over the shards per token."""
    cache: Cache = {}
    x = inputs_embeds(prompt, [], w)
    layers, hidden = language_model(x, w, d, cache)
    logits = [lm_head(hidden[-1:], w)[0]]
    response = [int(logits[0].argmax())]
    while len(response) < max_new_tokens and response[-1] not in stops:
        embeds = w.rows(EMBEDDING, torch.tensor(response[-1:]))
        _, next_hidden = language_model(embeds, w, d, cache, len(prompt.ids) + len(response) - 1)
        logits.append(lm_head(next_hidden, w)[0])
        response.append(int(logits[-1].argmax()))
    ids = torch.tensor(response)
    return {
        **prompt_stages(prompt, x, layers, hidden[-1], logits[0]),
        RESPONSE: ids, RESPONSE_LOGITS: torch.stack(logits), GREEDY: ids,
    }  # fmt: skip


def prompt_stages(
    prompt: Prompt, x: Tensor, layers: Sequence[Tensor], last: Tensor, logits: Tensor
) -> dict[str, Tensor]:
    """The decoder's stages of a prompt."""
    return {
        PROMPT: torch.from_numpy(prompt.ids), INPUTS_EMBEDS: x, **{layer(i): y for i, y in enumerate(layers)},
        LAST_HIDDEN: last, FIRST_LOGITS: logits,
    }  # fmt: skip


def head_of(w: CheckpointWeights, prompt: Prompt, d: Qwen3ASRDims, text: TextTokenizer, task: Task) -> list[int]:
    """What the model says of the language before a text: `language NAME<asr_text>`; nothing if the prompt says it, or
    the model does not."""
    if task.language != AUTO_LANGUAGE:
        return []
    tag = text.id_of(TAG)
    response: list[int] = decode(w, prompt, d, MOST_HEAD_TOKENS, {tag, *text.stops})[GREEDY].tolist()
    return response if response[-1] == tag else []
