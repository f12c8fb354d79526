"""Qwen3-ASR step by step, for its calibration: the functions of `reference.py`, for one clip after the other."""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from mimo_convert.model.checkpoint import Checkpoint
from quantize.errors import InputError
from runtime_check.audio.clips import Clip
from runtime_check.calibrate.forward import Forward, Forwards, Step
from runtime_check.choices import FULL
from runtime_check.pytorch.run import fetch
from runtime_check.pytorch.weights import CheckpointWeights, Weights
from runtime_check.run.system import AUTO_LANGUAGE, Task
from runtime_check.text.tokenizer import TextTokenizer

from .front_end import n_tokens
from .layout import ENCODER, FAMILY
from .prompt import AUDIO, build_prompt, check_room
from .reference import (
    Prompt,
    chunks,
    convolutions,
    decoder_block,
    encoder_block,
    final_norm,
    inputs_embeds,
    lm_head,
    log_mel,
    projection,
    samples,
)
from .sizes import dimensions
from .stages import AUDIO_EMBEDS, INPUT, ROLE

CHUNKS_AT_ONCE = 8  # of the convolutions, 6 MB each at the real size


class Qwen3ASRForwards(Forwards):
    """Forwards of encoder and decoder."""

    def __init__(self, checkpoints: Mapping[str, Checkpoint], task: Task) -> None:
        assert FAMILY.text is not None
        self.checkpoint, self.task = checkpoints[ROLE].renamed(FAMILY.canonical), task
        self.d = dimensions(self.checkpoint.config)
        self.text = TextTokenizer.from_checkpoint(self.checkpoint, self.d.vocab_size, FAMILY.text)
        self.weights: Weights = CheckpointWeights(self.checkpoint, torch.float32)
        self.window = None if task.attention == FULL else self.d.window_tokens

    def response(self, text: str) -> list[int]:
        """The tokens with which the model answers if it hears `text`. Raises InputError without the task's language,
        which the model would say first."""
        if self.task.language == AUTO_LANGUAGE:
            what = "is not given, and the model says the language before a text"
            raise InputError("--language", what, expected="that of the texts", todo="or leave out texts: --answers")
        return self.text.response(text.strip())

    def features(self, clip: Clip) -> Tensor:
        """The clip's mel spectrogram, (frames, n_mels)."""
        return log_mel(samples(clip, self.d), self.d)

    def forward_of(self, features: Tensor, response: Sequence[int]) -> Forward:
        """The forward of mel frames, (T, n_mels). Raises InputError if the model's context does not hold it."""
        d, n_audio = self.d, n_tokens(len(features), self.d)
        ids = build_prompt(n_audio, self.text.encode, d, self.task)
        check_room(len(ids) + len(response) - 2, d)  # the last token is not read
        audio_id, n_prompt = self.text.id_of(AUDIO), len(ids)

        def convolve(x: Tensor, w: Weights) -> Tensor:
            parts = chunks(x, d).split(CHUNKS_AT_ONCE)
            return torch.cat([convolutions(part, w, d)[INPUT] for part in parts])[:n_audio]

        def encode(x: Tensor, w: Weights, layer: int) -> Tensor:
            return encoder_block(x, w, f"{ENCODER}.layers.{layer}.", self.window or n_audio, d)

        def join(x: Tensor, w: Weights) -> Tensor:
            return inputs_embeds(Prompt(ids, projection(x, w)[AUDIO_EMBEDS], audio_id), response[:-1], w)

        def head(x: Tensor, w: Weights) -> Tensor:
            return lm_head(final_norm(x[n_prompt - 1 :], w, d), w)

        encoder: list[Step] = [partial(encode, layer=i) for i in range(d.audio_layers)]
        decoder: list[Step] = [partial(decoder_block, d=d, i=i) for i in range(d.num_layers)]
        return Forward(features, [convolve, *encoder, join, *decoder, head], response)


def open_forwards(checkpoints: Mapping[str, Checkpoint], task: Task) -> Qwen3ASRForwards:
    """Wait until the checkpoint can be read; its forwards for `task`."""
    fetch(checkpoints.values())
    return Qwen3ASRForwards(checkpoints, task)
