"""Activations of a run by stage, with their origin; stored without torch."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from mimo_convert.files import write_whole
from runtime_check.choices import AUTO
from runtime_check.gate import IDS, LOGITS

from .stages import Stage

Stages = dict[str, npt.NDArray[Any]]
# The greedy response; the response that a run is given (teacher forcing), and the logits that predict each of its
# tokens: in one pass over prompt and response, and by incremental decoding.
GREEDY, RESPONSE, RESPONSE_LOGITS, INCREMENTAL_LOGITS = "greedy_ids", "answer_ids", "answer_logits", "cached_logits"
RESPONSE_STAGES = (  # of every system with a text model; compared step by step (steps.py)
    Stage(GREEDY, "", IDS, ("generated tokens",)),
    Stage(RESPONSE, "", IDS, ("response tokens",)),
    Stage(RESPONSE_LOGITS, "", LOGITS, ("response tokens", "vocabulary")),
    Stage(INCREMENTAL_LOGITS, "", LOGITS, ("response tokens", "vocabulary")),
)
FORMAT = "mimo-check reference 1"


@dataclass(frozen=True)
class Origin:
    """The origin of activations: `checkpoints`, or GGUF files.

    `audio_sha256` is the hash of the audio file; `dtype` the dtype that PyTorch computed in, empty for ggml; `context`,
    `attention` and `runtime` are those of the task.
    """

    checkpoints: list[str]
    audio: str
    audio_sha256: str
    language: str
    vocabulary_sha256: str = ""
    torch: str = ""
    dtype: str = ""
    context: str = ""
    attention: str = AUTO
    runtime: str = ""


@dataclass(frozen=True)
class Activations:
    """Activations by stage (docs/stages.md), and the transcript. `memory` is in bytes, `timings` in seconds;
    `products` are the types of weights that each code multiplied with; `language` is the one that the response names,
    empty if it names none."""

    stages: Stages
    transcript: str
    origin: Origin
    timings: dict[str, float] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    products: dict[str, tuple[str, ...]] = field(default_factory=dict)
    language: str = ""

    def save(self, path: Path) -> None:
        """Write a safetensors file atomically. Raises InputError if it cannot be written."""
        metadata = {
            "format": FORMAT,
            "stages": json.dumps(list(self.stages)),  # the format itself sorts tensors by name
            "transcript": self.transcript,
            "origin": json.dumps(asdict(self.origin)),
        }
        write_whole(path, save({name: np.ascontiguousarray(x) for name, x in self.stages.items()}, metadata))
