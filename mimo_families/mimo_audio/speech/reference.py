"""Speech generation in PyTorch, from a checkpoint: the reference of `sampler.py`, `patch_decoder.py` and
`generation.py`, function for function and with the same stage names (MiMo-Audio, modeling_mimo_audio.py).

Draws use the same noise as the harness's, so that both choose the same ids where they compute the same scores.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from runtime_check.pytorch.layers import Cache, qwen2_block, rms_norm
from runtime_check.pytorch.weights import CheckpointWeights, KeptWeights, Weights
from runtime_check.run.activations import GREEDY, RESPONSE, RESPONSE_LOGITS
from runtime_check.text.tokenizer import TextTokenizer

from .. import reference as recognition
from ..layout import NO_TEXT, SpeechLMDims
from ..segments import Ids
from ..stages import INPUTS_EMBEDS, PROMPT, layer
from .generation import MOST_GROUPS, Settings
from .sampler import Noise, Sampler
from .stages import (
    BLOCKS,
    DROPPED,
    FORCED_BLOCKS,
    HISTORY,
    LAST_HIDDEN,
    LOCAL_HIDDEN,
    LOCAL_INPUT,
    TEXT_IDS,
    code_logits,
    local_logits,
)

LOCAL = ("local_transformer.", "local_transformer_lm_heads.", "hidden_states_downcast.", "speech_embeddings")


def choose(scores: Tensor, sampler: Sampler, forbidden: Collection[int], noise: Noise) -> tuple[int, bool]:
    """The id chosen by (vocabulary,) scores, and whether forbidden ids were dropped before filtering, since filters
    left nothing else."""
    allowed = torch.ones(len(scores), dtype=torch.bool)
    allowed[list(forbidden)] = False
    scores = scores.float() / sampler.temperature
    kept = filtered(scores, sampler).masked_fill(~allowed, -torch.inf)
    dropped = not bool((kept > -torch.inf).any())
    if dropped:
        kept = filtered(scores.masked_fill(~allowed, -torch.inf), sampler)
    if not sampler.draws:
        return int(kept.argmax()), dropped
    return int((kept.softmax(-1) / torch.from_numpy(noise(len(kept)))).argmax()), dropped


def filtered(scores: Tensor, sampler: Sampler) -> Tensor:
    """(vocabulary,) scores with those outside of top-k and top-p at -infinity."""
    if 0 < sampler.top_k < len(scores):
        scores = scores.masked_fill(scores < scores.topk(sampler.top_k).values[-1], -torch.inf)
    if 0 < sampler.top_p < 1:
        ascending, order = scores.sort(stable=True)
        small = ascending.softmax(-1).cumsum(-1) <= 1 - sampler.top_p
        small[-1] = False
        scores = scores.index_fill(0, order[small], -torch.inf)
    return scores


class Delays(NamedTuple):
    """The delay of each codebook, and the steps of a group."""

    by_channel: list[int]
    steps: int


def delays_of(d: SpeechLMDims) -> Delays:
    """The delay pattern of the config."""
    delays = [int(part) for part in d.delay_pattern.split("-")]
    return Delays(delays, d.group_size + max(delays))


def local_transformer(x: Tensor, w: Weights, d: SpeechLMDims, cache: Cache | None = None, past: int = 0) -> Tensor:
    """Inputs of steps past … past + T, (…, T, patch_dim) → the final norm's output, (…, T, patch_dim)."""
    T = x.shape[-2]
    positions, mask = torch.arange(past, past + T), torch.full((T, past + T), -torch.inf).triu(past + 1)
    for i in range(d.patch_layers):
        x = qwen2_block(x, w, f"local_transformer.layers.{i}.", d.patch, positions, mask, cache, i)
    return rms_norm(x, w("local_transformer.norm.weight"), d.rms_norm_eps)


def local_input(hidden: Tensor, w: Weights) -> Tensor:
    """The LM's hidden states (…, hidden_size) → inputs of the first step, (…, patch_dim)."""
    return w.linear("hidden_states_downcast.weight", hidden)


def step_input(blocks: Tensor, step: int, w: Weights, d: SpeechLMDims) -> Tensor:
    """Blocks (…, group_size, channels) → the input behind `step`, (…, patch_dim): the sum of the embeddings of the
    codes of that step."""
    x = torch.zeros(())
    for c, delay in enumerate(delays_of(d).by_channel):
        if 0 <= step - delay < d.group_size:
            x = x + w.rows(f"speech_embeddings.{c}.weight", blocks[..., step - delay, c])
    return x if d.input_dim == d.patch_dim else w.linear("speech_embeddings_to_local.weight", x)


def head(hidden: Tensor, channel: int, w: Weights) -> Tensor:
    """(…, patch_dim) → the scores of a codebook, (…, codebook)."""
    return w.linear(f"local_transformer_lm_heads.{channel}.weight", hidden)


def local_forced(first: Tensor, blocks: Tensor, w: Weights, d: SpeechLMDims) -> tuple[Tensor, list[Tensor]]:
    """Teacher forcing of blocks (S, group_size, channels) behind inputs `first`, (S, patch_dim), in one pass: hidden
    states (S, steps, patch_dim), and the scores of each codebook, (S, group_size, codebook)."""
    delays = delays_of(d)
    later = [step_input(blocks, step, w, d) for step in range(delays.steps - 1)]
    hidden = local_transformer(torch.stack([first, *later], dim=-2), w, d)
    frames = [slice(delay, delay + d.group_size) for delay in delays.by_channel]
    return hidden, [head(hidden[:, frames[c]], c, w) for c in range(d.channels)]


def local_chosen(first: Tensor, w: Weights, d: SpeechLMDims, settings: Settings, noise: Noise) -> tuple[Tensor, int]:
    """The block, (group_size, channels), that the sampler chooses behind an input (patch_dim,), and its dropped
    draws."""
    delays, cache, dropped = delays_of(d), Cache(), 0
    block = torch.zeros((d.group_size, d.channels), dtype=torch.long)
    x = first
    for step in range(delays.steps):
        hidden = local_transformer(x[None], w, d, cache, step)[0]
        for c, delay in enumerate(delays.by_channel):
            if 0 <= step - delay < d.group_size:
                code, lacking = choose(head(hidden, c, w), settings.codes, [d.speech_zeroemb[c]], noise)
                block[step - delay, c], dropped = code, dropped + lacking
        x = step_input(block, step, w, d)
    return block, dropped


def choices(
    text_logits: Tensor, code_scores: Sequence[Tensor], speech: Tensor, d: SpeechLMDims, settings: Settings
) -> dict[str, Tensor]:
    """What the samplers choose at every place, given the groups before it: from text logits (N, vocabulary), and the
    scores of groups that were given as `speech`, (N,) bool."""
    noise, delays, n_speech = Noise(settings.seed), delays_of(d), 0
    ids, blocks, drops = [], [], []
    for i, scores in enumerate(text_logits):
        forbidden = settings.stops if i < settings.min_new else ()
        token, lacking = choose(scores, settings.text, forbidden, noise)
        dropped, block = int(lacking), torch.tensor(d.speech_zeroemb).repeat(d.group_size, 1)
        if speech[i]:
            for step in range(delays.steps):
                for c, delay in enumerate(delays.by_channel):
                    if 0 <= step - delay < d.group_size:
                        row = code_scores[c][n_speech, step - delay]
                        block[step - delay, c], lacking = choose(row, settings.codes, [d.speech_zeroemb[c]], noise)
                        dropped += lacking
            n_speech += 1
        ids.append(token)
        blocks.append(block)
        drops.append(dropped)
    return {
        GREEDY: torch.tensor(ids),
        TEXT_IDS: torch.tensor(ids),
        BLOCKS: torch.stack(blocks),
        DROPPED: torch.tensor(drops),
    }


def generate(
    w: CheckpointWeights, prompt: Ids, d: SpeechLMDims, text: TextTokenizer, settings: Settings
) -> tuple[Tensor, Tensor]:
    """Text ids (N,) and blocks (N, group_size, channels) behind a prompt, (1 + channels, T): a pass over the LM's
    weights per group."""
    local, noise, cache, past = KeptWeights(w, LOCAL), Noise(settings.seed), Cache(), 0
    n_prompt, empty = prompt.shape[1] // d.group_size, text.id_of("<|empty|>")
    ids, blocks, new = list[int](), list[Tensor](), prompt
    while True:
        embeds = recognition.inputs_embeds(new, text, w, d)[INPUTS_EMBEDS]
        _, hidden = recognition.language_model(embeds, w, d, cache, past)
        past += len(embeds)
        forbidden = settings.stops if len(ids) < settings.min_new else ()
        token, _ = choose(recognition.lm_head(hidden[-1:], w)[0], settings.text, forbidden, noise)
        block = torch.tensor(d.speech_zeroemb).repeat(d.group_size, 1)
        if token == empty:
            block, _ = local_chosen(local_input(hidden[-1], local), local, d, settings, noise)
        ids.append(token)
        blocks.append(block)
        ended = token in settings.stops and len(ids) >= settings.min_new
        full = n_prompt + len(ids) >= min(MOST_GROUPS, d.max_position_embeddings)
        if ended or full or len(ids) >= settings.max_new:
            return torch.tensor(ids), torch.stack(blocks)
        new = history(np.zeros((1 + d.channels, 0), np.int32), ids[-1:], blocks[-1:], d)


def history(prompt: Ids, ids: Sequence[int], blocks: Sequence[Tensor], d: SpeechLMDims) -> Ids:
    """A prompt with all groups behind it, (1 + channels, T), that with the stop id included: what a next prompt is
    appended to."""
    groups = [prompt]
    for token, block in zip(ids, blocks, strict=True):
        text = np.full((1, d.group_size), NO_TEXT, np.int32)
        text[0, 0] = token
        groups.append(np.concatenate([text, block.T.numpy().astype(np.int32)]))
    return np.concatenate(groups, axis=1)


def force(
    w: CheckpointWeights, prompt: Ids, ids: Tensor, blocks: Tensor, d: SpeechLMDims, text: TextTokenizer,
    settings: Settings,
) -> dict[str, Tensor]:  # fmt: skip
    """Every stage of the groups ids (N,), blocks (N, group_size, channels) behind a prompt, in one pass, and what the
    samplers choose at each place behind the groups before it."""
    local, empty = KeptWeights(w, LOCAL), text.id_of("<|empty|>")
    n_prompt = prompt.shape[1] // d.group_size
    inputs = recognition.inputs_embeds(history(prompt, ids[:-1].tolist(), list(blocks[:-1]), d), text, w, d)
    layers, states = recognition.language_model(inputs[INPUTS_EMBEDS], w, d)
    hidden = states[n_prompt - 1 :]
    logits, speech = recognition.lm_head(hidden, w), ids == empty
    first = local_input(hidden, local) * speech[:, None]
    stages = {
        PROMPT: torch.from_numpy(prompt), **{name: x[:n_prompt] for name, x in inputs.items()},
        **{layer(i): x[:n_prompt] for i, x in enumerate(layers)},
        RESPONSE: ids, FORCED_BLOCKS: blocks, LAST_HIDDEN: hidden, RESPONSE_LOGITS: logits, LOCAL_INPUT: first,
        HISTORY: torch.from_numpy(history(prompt, ids.tolist(), list(blocks), d)),
    }  # fmt: skip
    scores: list[Tensor] = []
    if speech.any():
        local_states, scores = local_forced(first[speech], blocks[speech], local, d)
        stages[LOCAL_HIDDEN] = local_states[0]
        stages |= {local_logits(c): x[0] for c, x in enumerate(scores)}
        stages |= {code_logits(c): x for c, x in enumerate(scores)}
    return stages | choices(logits, scores, speech, d, settings)
