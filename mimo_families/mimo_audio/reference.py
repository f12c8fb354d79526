"""The speech LM in PyTorch, from its safetensors checkpoint: the reference of `prompt.py` and `harness.py`, function
for function and with the same stage names.

It computes in float32, or in bfloat16 as upstream does: weights and activations are rounded, norms and softmax are
float32 (github.com/XiaomiMiMo/MiMo-Audio; Qwen2 of transformers). Functions take weights from a callable and accept
leading batch dimensions; `tools/train_tiny` trains them.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mimo_convert.model.checkpoint import Checkpoint
from mimo_families.mimo_tokenizer import reference as audio_tokenizer
from mimo_families.mimo_tokenizer.stages import CODES
from mimo_families.mimo_tokenizer.stages import ROLE as TOKENIZER
from runtime_check.audio.clips import Clip
from runtime_check.pytorch.layers import Cache, qwen2_block, rms_norm
from runtime_check.pytorch.run import VERSION, arrays_of, fetch
from runtime_check.pytorch.weights import DTYPES, CheckpointWeights, Weights
from runtime_check.run.activations import GREEDY, RESPONSE, RESPONSE_LOGITS, Activations, Origin
from runtime_check.run.system import AUTO_LANGUAGE, Task
from runtime_check.text.tokenizer import TextTokenizer

from . import layout
from .layout import FAMILY, SpeechLMDims, speaks
from .prompt import build_prompt, clean_transcript, spoken, with_response
from .segments import Ids
from .stages import (
    AUDIO_FEATURES,
    FIRST_LOGITS,
    INPUTS_EMBEDS,
    LAST_HIDDEN,
    PROMPT,
    ROLE,
    TEXT_EMBEDS,
    layer,
)


def audio_features(codes: Tensor, speech: Tensor, w: Weights, d: SpeechLMDims) -> Tensor:
    """Codes (…, G, group_size, channels) and the speech mask (…, G) → (…, G, out_hidden_size)."""
    x = code_embeds(codes, speech, w, d)
    for i in range(d.input_layers):
        x = input_local_block(x, w, d, i)
    return group_features(x, speech, w, d)


def code_embeds(codes: Tensor, speech: Tensor, w: Weights, d: SpeechLMDims) -> Tensor:
    """Codes (…, G, group_size, channels) and the speech mask (…, G) → (…, G, group_size, input_dim): the sum over
    codebooks."""
    x: Tensor = torch.zeros(())
    for channel, zero in enumerate(d.speech_zeroemb):
        ids = codes[..., channel]
        x = x + w.rows(f"speech_embeddings.{channel}.weight", ids) * (ids != zero)[..., None]
    return x * speech[..., None, None]


def input_local_block(x: Tensor, w: Weights, d: SpeechLMDims, layer: int) -> Tensor:
    """A block within each group: (…, G, group_size, input_dim) → (…, G, group_size, input_dim)."""
    mask = torch.full((d.group_size, d.group_size), -torch.inf).triu(1) if d.input_causal else None
    name = f"input_local_transformer.layers.{layer}."
    return qwen2_block(x, w, name, d.input_local, torch.arange(d.group_size), mask)


def group_features(x: Tensor, speech: Tensor, w: Weights, d: SpeechLMDims) -> Tensor:
    """The last block's output (…, G, group_size, input_dim) → (…, G, out_hidden_size), zero-masked by `speech`."""
    x = rms_norm(x, w("input_local_transformer.norm.weight"), d.rms_norm_eps) * speech[..., None, None]
    return w.linear("speech_group_downcast.weight", x.flatten(-2))


def text_embeds(text: Tensor, speech: Tensor, w: Weights) -> Tensor:
    """Text ids (…, G) → (…, G, hidden_size), zero for speech groups."""
    return w.rows("model.embed_tokens.weight", text) * ~speech[..., None]


def language_model(
    x: Tensor, w: Weights, d: SpeechLMDims, cache: Cache | None = None, past: int = 0
) -> tuple[list[Tensor], Tensor]:
    """Input embeddings (…, T, hidden_size) at positions past … past + T → every block's output, and the final
    norm's."""
    layers = []
    for i in range(d.num_layers):
        x = llm_block(x, w, d, i, cache, past)
        layers.append(x)
    return layers, final_norm(x, w, d)


def llm_block(x: Tensor, w: Weights, d: SpeechLMDims, layer: int, cache: Cache | None = None, past: int = 0) -> Tensor:
    """A block of the language model: (…, T, hidden_size) → (…, T, hidden_size)."""
    T = x.shape[-2]
    mask = torch.full((T, past + T), -torch.inf).triu(past + 1)
    name = f"model.layers.{layer}."
    return qwen2_block(x, w, name, d.llm, torch.arange(past, past + T), mask, cache, layer)


def final_norm(x: Tensor, w: Weights, d: SpeechLMDims) -> Tensor:
    """The norm behind the last block: (…, T, hidden_size) → (…, T, hidden_size)."""
    return rms_norm(x, w("model.norm.weight"), d.rms_norm_eps)


def run(
    checkpoints: Mapping[str, Checkpoint], clip: Clip, task: Task, response: Sequence[int] | None, dtype: str
) -> Activations:
    """Compute every stage of both models on `clip` in `dtype` (of DTYPES), in one pass over their shards.

    With the token ids of a `response`, or the clip's text, the pass includes the logits that predict each of its
    tokens. Otherwise the model's own response of up to `max_new_tokens` (1) takes one pass over the speech LM's shards
    per further token.
    """
    fetch(checkpoints.values())
    lm, d = checkpoints[ROLE], layout.dimensions(checkpoints[ROLE].config)
    assert FAMILY.text is not None
    text = TextTokenizer.from_checkpoint(lm, d.vocab_size, FAMILY.text)
    with torch.no_grad():
        whole = speaks(FAMILY.edition_of(lm.config, lm.name))  # as MiMo-Audio, whose prompt names no language
        stages = audio_tokenizer.encode(checkpoints[TOKENIZER], clip, d.channels, DTYPES[dtype], whole=whole)
        language = AUTO_LANGUAGE if whole else task.language
        prompt = build_prompt(stages[CODES].numpy().astype(np.int32), text.encode, d, language)
        if response is None and clip.text is not None:
            response = text.response(spoken(clip.text))
        weights = CheckpointWeights(lm, DTYPES[dtype])
        if response is None:
            stages |= decode(weights, prompt, d, text, task.max_new_tokens or 1)
        else:
            stages |= teacher_force(weights, prompt, d, text, response)
    transcript = clean_transcript(text.decode(stages[GREEDY].tolist()))
    names = [checkpoint.name for checkpoint in checkpoints.values()]
    origin = Origin(names, clip.path.name, clip.sha256, task.language, text.sha256, VERSION, dtype)
    return Activations(arrays_of(stages, names), transcript, origin)


def teacher_force(
    w: CheckpointWeights, prompt: Ids, d: SpeechLMDims, text: TextTokenizer, response: Sequence[int]
) -> dict[str, Tensor]:
    """Stages of a prompt, (1 + channels, T), and the logits that predict each token of `response`, in one pass.

    GREEDY is the model's own response as far as it agrees with `response`, and its next token.
    """
    n_groups = prompt.shape[1] // d.group_size
    inputs = inputs_embeds(with_response(prompt, response[:-1], d), text, w, d)
    layers, hidden = language_model(inputs[INPUTS_EMBEDS], w, d)
    logits = lm_head(hidden[n_groups - 1 :], w)
    own, given = logits.argmax(-1), torch.tensor(response)
    differing = (own != given).nonzero()
    agreed = int(differing[0]) if len(differing) else len(response) - 1
    return {
        PROMPT: torch.from_numpy(prompt),
        **{name: x[:n_groups] for name, x in inputs.items()},
        **{layer(i): x[:n_groups] for i, x in enumerate(layers)},
        LAST_HIDDEN: hidden[n_groups - 1], FIRST_LOGITS: logits[0],
        RESPONSE: given, RESPONSE_LOGITS: logits, GREEDY: own[: agreed + 1],
    }  # fmt: skip


def decode(
    w: CheckpointWeights, prompt: Ids, d: SpeechLMDims, text: TextTokenizer, max_new_tokens: int
) -> dict[str, Tensor]:
    """The same stages with the model's own greedy response of up to `max_new_tokens`: a pass over the shards
    per token."""
    inputs = inputs_embeds(prompt, text, w, d)
    cache: Cache = {}
    layers, hidden = language_model(inputs[INPUTS_EMBEDS], w, d, cache)
    logits = [lm_head(hidden[-1:], w)[0]]
    response = [int(logits[0].argmax())]
    while len(response) < max_new_tokens and response[-1] not in text.stops:
        embeds = w.rows("model.embed_tokens.weight", torch.tensor(response[-1:]))
        past = prompt.shape[1] // d.group_size + len(response) - 1
        _, next_hidden = language_model(embeds, w, d, cache, past)
        logits.append(lm_head(next_hidden[-1:], w)[0])
        response.append(int(logits[-1].argmax()))
    ids = torch.tensor(response)
    return {
        PROMPT: torch.from_numpy(prompt), **inputs, **{layer(i): x for i, x in enumerate(layers)},
        LAST_HIDDEN: hidden[-1], FIRST_LOGITS: logits[0],
        RESPONSE: ids, RESPONSE_LOGITS: torch.stack(logits), GREEDY: ids,
    }  # fmt: skip


def inputs_embeds(ids: Ids, text: TextTokenizer, w: Weights, d: SpeechLMDims) -> dict[str, Tensor]:
    """Ids (1 + channels, T) → the stages of the LM's input, (G, hidden_size) each."""
    groups = groups_of(ids, text, d)
    audio, embeds = audio_features(groups.codes, groups.speech, w, d), text_embeds(groups.text, groups.speech, w)
    return {AUDIO_FEATURES: audio, TEXT_EMBEDS: embeds, INPUTS_EMBEDS: audio + embeds}


class Groups(NamedTuple):
    """The groups of ids: text ids (G,), the speech mask (G,), and codes (G, group_size, channels)."""

    text: Tensor
    speech: Tensor
    codes: Tensor


def groups_of(ids: Ids, text: TextTokenizer, d: SpeechLMDims) -> Groups:
    """Ids (1 + channels, T) → their groups."""
    positions = torch.from_numpy(ids).long()
    text_ids = positions[0, :: d.group_size]
    codes = positions[1:].T.reshape(-1, d.group_size, d.channels)
    return Groups(text_ids, text_ids == text.encode("<|empty|>")[0], codes)


def lm_head(hidden: Tensor, w: Weights) -> Tensor:
    """(T, hidden_size) → logits (T, vocab_size)."""
    return w.linear("lm_head.weight", hidden)
