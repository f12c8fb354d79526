"""The speech LM step by step, for its calibration: the functions of `reference.py`, for one clip after the other."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from mimo_convert.model.checkpoint import Checkpoint
from mimo_families.mimo_tokenizer import reference as audio_tokenizer
from mimo_families.mimo_tokenizer.stages import CODES
from mimo_families.mimo_tokenizer.stages import ROLE as TOKENIZER
from runtime_check.audio.clips import Clip
from runtime_check.calibrate.forward import Forward, Forwards, Step
from runtime_check.pytorch.run import fetch
from runtime_check.pytorch.weights import CheckpointWeights, Weights
from runtime_check.run.system import AUTO_LANGUAGE, Task
from runtime_check.text.tokenizer import TextTokenizer

from .layout import FAMILY, SpeechLMDims, dimensions, speaks
from .prompt import build_prompt, check_room, spoken, with_response
from .reference import (
    code_embeds,
    final_norm,
    group_features,
    groups_of,
    input_local_block,
    llm_block,
    lm_head,
    text_embeds,
)
from .segments import Ids
from .stages import ROLE


class SpeechLMForwards(Forwards):
    """Forwards of the speech LM, on the codes that the audio tokenizer's reference computes."""

    def __init__(self, checkpoints: Mapping[str, Checkpoint], task: Task) -> None:
        assert FAMILY.text is not None
        self.checkpoint, self.tokenizer = checkpoints[ROLE], checkpoints[TOKENIZER]
        self.d = dimensions(self.checkpoint.config)
        self.text = TextTokenizer.from_checkpoint(self.checkpoint, self.d.vocab_size, FAMILY.text)
        self.weights: Weights = CheckpointWeights(self.checkpoint, torch.float32)
        self.whole = speaks(FAMILY.edition_of(self.checkpoint.config, self.checkpoint.name))
        self.language = AUTO_LANGUAGE if self.whole else task.language

    def response(self, text: str) -> list[int]:
        """The tokens with which the model answers if it hears `text`."""
        return self.text.response(spoken(text))

    def features(self, clip: Clip) -> Tensor:
        """The clip's codes, (frames, channels)."""
        with torch.no_grad():
            stages = audio_tokenizer.encode(self.tokenizer, clip, self.d.channels, torch.float32, whole=self.whole)
        return stages[CODES]

    def forward_of(self, features: Tensor, response: Sequence[int]) -> Forward:
        """The forward of codes, (frames, channels). Raises InputError if the model's context does not hold it."""
        prompt = build_prompt(features.numpy().astype(np.int32), self.text.encode, self.d, self.language)
        return forward_of(prompt, response, self.text, self.d)


def forward_of(prompt: Ids, response: Sequence[int], text: TextTokenizer, d: SpeechLMDims) -> Forward:
    """The forward of a prompt, (1 + channels, T), and the response behind it.

    Groups of text are not taken through the local blocks: what these would give is not used.
    """
    n_groups = prompt.shape[1] // d.group_size
    check_room(n_groups + len(response) - 2, d)  # the last token is not read
    groups = groups_of(with_response(prompt, response[:-1], d), text, d)
    codes = groups.codes[groups.speech]
    every = torch.ones(len(codes), dtype=torch.bool)

    def embed(x: Tensor, w: Weights) -> Tensor:
        return code_embeds(x, every, w, d)

    def join(x: Tensor, w: Weights) -> Tensor:
        audio = torch.zeros(len(groups.text), d.hidden_size).index_put((groups.speech,), group_features(x, every, w, d))
        return audio + text_embeds(groups.text, groups.speech, w)

    def head(x: Tensor, w: Weights) -> Tensor:
        return lm_head(final_norm(x[n_groups - 1 :], w, d), w)

    local: list[Step] = [partial(input_local_block, d=d, layer=i) for i in range(d.input_layers)]
    llm: list[Step] = [partial(llm_block, d=d, layer=i) for i in range(d.num_layers)]
    return Forward(codes, [embed, *local, join, *llm, head], response)


def open_forwards(checkpoints: Mapping[str, Checkpoint], task: Task) -> SpeechLMForwards:
    """Wait until the checkpoints can be read; the forwards of the speech LM for `task`."""
    fetch(checkpoints.values())
    return SpeechLMForwards(checkpoints, task)
