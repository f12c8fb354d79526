"""Small random checkpoints of the family, made once for all workers. Shared: copy one before changing anything."""

from pathlib import Path

import pytest

from tests.qwen3_checkpoint import write_mega_asr, write_qwen3_asr
from tests.system.once import once


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in the published layout, in one file."""
    return once(tmp_path_factory, "qwen3-asr", write_qwen3_asr)


@pytest.fixture(scope="session")
def hf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights in the layout of `-hf` repositories, in two shards, without a stored head."""

    def make(folder: Path) -> None:
        write_qwen3_asr(folder, hf=True, n_shards=2, with_head=False)

    return once(tmp_path_factory, "qwen3-asr-hf", make)


@pytest.fixture(scope="session")
def mega(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository like Mega-ASR's."""
    return once(tmp_path_factory, "Mega-ASR", write_mega_asr)
