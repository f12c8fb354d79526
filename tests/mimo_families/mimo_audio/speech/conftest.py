"""A small random checkpoint that speaks, and its files, made once for all workers. Shared: copy one before changing
anything."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mimo_convert.model.checkpoint import Checkpoint, open_checkpoint
from mimo_convert.write.convert import convert
from mimo_families.mimo_audio.harness import SpeechLM
from quantize.types import TYPES
from runtime_check.ggml.graph import Backend
from tests.opened import make_request, model_file
from tests.system.once import once

from .speaking import write_speaking_lm

Opener = Callable[[str], SpeechLM]


@pytest.fixture(scope="session")
def speaking(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return open_checkpoint(str(once(tmp_path_factory, "speaking-lm", write_speaking_lm)))


@pytest.fixture(scope="session")
def speaking_file(speaking: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes, once, the file of a type."""

    def make(outtype: str) -> Path:
        folder = once(
            tmp_path_factory, f"speaking-{outtype}",
            lambda out: convert([make_request(speaking, [TYPES[outtype]])], out, threads=1),
        )  # fmt: skip
        [path] = folder.glob("*.gguf")
        return path

    return make


@pytest.fixture(scope="session")
def speaker(speaking_file: Callable[[str], Path]) -> Opener:
    """Opens the file of a type."""
    return lambda outtype: SpeechLM(model_file(speaking_file(outtype)), Backend(2))
