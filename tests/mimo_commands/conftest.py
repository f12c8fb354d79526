"""Checkpoints for the commands."""

import shutil
from pathlib import Path

import pytest

from tests.runtime_check.conftest import converted, jfk, lm_checkpoint, tokenizer_checkpoint  # noqa: F401


@pytest.fixture
def lm(small_lm: Path, tmp_path: Path) -> Path:
    return shutil.copytree(small_lm, tmp_path / "lm")


@pytest.fixture
def tokenizer(small_tokenizer: Path, tmp_path: Path) -> Path:
    return shutil.copytree(small_tokenizer, tmp_path / "tokenizer")
