"""Small random checkpoints of the family, and files of one, made once for all workers. Shared: copy one before changing
anything."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mimo_convert.model.checkpoint import Checkpoint, open_checkpoint
from mimo_convert.write.convert import convert
from quantize.types import TYPES
from tests.opened import make_request
from tests.qwen3_checkpoint import write_qwen3_asr
from tests.system.once import once

Converter = Callable[[str], Path]


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in the published layout, in one file."""
    return once(tmp_path_factory, "random-qwen3-asr", write_qwen3_asr)


@pytest.fixture(scope="session")
def hf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights in the layout of `-hf` repositories, in two shards, without a stored head."""

    def make(folder: Path) -> None:
        write_qwen3_asr(folder, hf=True, n_shards=2, with_head=False)

    return once(tmp_path_factory, "random-qwen3-asr-hf", make)


@pytest.fixture(scope="session")
def qwen3_asr(published: Path) -> Checkpoint:
    return open_checkpoint(published)


@pytest.fixture(scope="session")
def qwen3_file(qwen3_asr: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Converter:
    """Makes, once, the file of a type."""

    def make(outtype: str) -> Path:
        folder = once(
            tmp_path_factory, f"random-qwen3-asr-{outtype}",
            lambda out: convert([make_request(qwen3_asr, [TYPES[outtype]])], out, threads=1),
        )  # fmt: skip
        [path] = folder.glob("*.gguf")
        return path

    return make
