"""What a run of the model leaves behind: every stage by name, and what it was made from; storable without torch."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from mimo_convert.files import write_whole

Stages = dict[str, npt.NDArray[Any]]
# Stages that the code calls by name.
CODES, PROMPT = "tok_codes", "prompt_ids"
LAST_HIDDEN, FIRST_LOGITS = "prefill_last_hidden", "prefill_text_logits_step0"
GREEDY = "greedy_ids"
# An answer, and the logits that predict each of its tokens: in one pass over prompt and answer, and by a KV cache.
ANSWER, ANSWER_LOGITS, CACHED_LOGITS = "answer_ids", "answer_logits", "cached_logits"
FORMAT = "mimo-check reference 1"


def is_of_tokenizer(stage: str) -> bool:
    """Whether a stage is the audio tokenizer's; all others are the speech LM's."""
    return stage.startswith("tok_")


def is_layer(stage: str) -> bool:
    """Whether a stage is the output of a block of the speech LM."""
    return stage.startswith("layer_")


@dataclass(frozen=True)
class Origin:
    """What activations were made from: `checkpoints`, or GGUF files.

    `audio_sha256` is of the sound file's bytes; `dtype` what PyTorch computed in, where it did.
    """

    checkpoints: list[str]
    audio: str
    audio_sha256: str
    language: str
    vocabulary_sha256: str = ""
    torch: str = ""
    dtype: str = ""


@dataclass(frozen=True)
class Activations:
    """Stages by name, as in docs/stages.md; and the transcript they spell. `memory` is in bytes."""

    stages: Stages
    transcript: str
    origin: Origin
    timings: dict[str, float] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write a safetensors file, under its name only when complete. Raises InputError if it cannot be written."""
        metadata = {
            "format": FORMAT,
            "stages": json.dumps(list(self.stages)),  # the format itself sorts tensors by name
            "transcript": self.transcript,
            "origin": json.dumps(asdict(self.origin)),
        }
        write_whole(path, save({name: np.ascontiguousarray(x) for name, x in self.stages.items()}, metadata))
