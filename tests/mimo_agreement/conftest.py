"""Files and clips of real runs."""

from pathlib import Path

import pytest

from tests.system.once import once

from .spoken import cut_clips, tiny_files


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of tiny files (spoken.py)."""
    return tiny_files(tmp_path_factory)


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of the clips (spoken.py). Shared: copy its folder before changing it."""
    return once(tmp_path_factory, "agreement-clips", cut_clips) / "clips.jsonl"
