"""Teacher forcing of generated groups on ggml, and every stage of a generation; the reference is `reference.py`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from runtime_check.ggml.decoder import HIDDEN, LOGITS, Logits
from runtime_check.run.activations import GREEDY, INCREMENTAL_LOGITS, RESPONSE, RESPONSE_LOGITS, Stages

from ..segments import Ids
from ..stages import PROMPT
from .delays import Place
from .generation import Group, group_ids
from .patch_decoder import Decoded
from .sampler import Scores
from .stages import (
    BLOCKS,
    DROPPED,
    FORCED_BLOCKS,
    LAST_HIDDEN,
    LOCAL_HIDDEN,
    LOCAL_INPUT,
    TEXT_IDS,
    code_logits,
    local_logits,
)

if TYPE_CHECKING:
    from ..harness import SpeechLM


MOST_COMPARED = 256  # groups of a generation, 41 s of speech


def groups_of(stages: Stages) -> list[Group]:
    """The groups that a free generation chose, by its stages."""
    columns = (stages[TEXT_IDS].tolist(), stages[BLOCKS], stages[DROPPED].tolist())
    return [Group(*row) for row in zip(*columns, strict=True)]


def chosen(groups: Sequence[Group]) -> Stages:
    """The stages of what a free generation chose."""
    ids = np.array([group.text_id for group in groups], np.int32)
    return {
        GREEDY: ids,
        TEXT_IDS: ids,
        BLOCKS: np.stack([group.block for group in groups]),
        DROPPED: np.array([group.dropped for group in groups], np.int32),
    }


def force(lm: "SpeechLM", prompt: Ids, groups: Sequence[Group]) -> Stages:
    """Every stage of groups behind a prompt, (1 + channels, T), with the logits of each choice: the LM in one pass, the
    patch decoder step by step, as it generates."""
    d, n_prompt, n = lm.d, lm.length(prompt), len(groups)
    ids = np.concatenate([prompt, group_ids(groups[:-1], d)], axis=1) if n > 1 else prompt
    out = lm.decoder(n_prompt + n - 1).read(ids, n, keep_stages=True)
    hidden, logits = out.pop(HIDDEN), out.pop(LOGITS)
    patch, speech = lm.patch_decoder(), [group.text_id == lm.empty_id for group in groups]
    scores = [np.zeros((sum(speech), d.group_size, size), np.float32) for size in d.speech_vocab]
    decoded: list[Decoded] = []
    inputs = np.zeros((n, d.patch_dim), np.float32)
    for i in np.flatnonzero(speech).tolist():

        def given(place: Place, found: Scores, block: Ids = groups[i].block) -> int:
            scores[place.channel][len(decoded), place.frame] = found
            return int(block[place.frame, place.channel])

        decoded.append(patch.decode(hidden[i], given))
        inputs[i] = decoded[-1].input
    stages = {PROMPT: prompt, **{name: x[:n_prompt] for name, x in out.items()}}
    stages |= {
        RESPONSE: np.array([group.text_id for group in groups], np.int32),
        FORCED_BLOCKS: np.stack([group.block for group in groups]),
        LAST_HIDDEN: hidden, RESPONSE_LOGITS: logits, LOCAL_INPUT: inputs,
        INCREMENTAL_LOGITS: incremental_logits(lm, prompt, groups),
    }  # fmt: skip
    if decoded:
        stages[LOCAL_HIDDEN] = decoded[0].hidden
        stages |= {local_logits(c): x[0] for c, x in enumerate(scores)}
        stages |= {code_logits(c): x for c, x in enumerate(scores)}
    return stages


def incremental_logits(lm: "SpeechLM", prompt: Ids, groups: Sequence[Group]) -> Logits:
    """Logits that predict the text id of each group behind a prompt, (N, vocab_size), by incremental decoding."""
    decoder = lm.decoder(lm.length(prompt) + len(groups) - 1)
    first = decoder.read(prompt)[LOGITS][0]
    return np.stack([first, *(decoder.read_one(group_ids([group], lm.d))[LOGITS] for group in groups[:-1])])
