"""Files for nightly runs: the tiny model, converted once."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from mimo_commands.convert import main
from tests.mimo_families.qwen3_asr.tiny_clips import ADAPTER

from .nightly_runs import Files


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny pair in Q8_0 and Q4_K. Shared: copy a file before changing it."""
    folder = tmp_path_factory.mktemp("tiny")
    options = ["tiny", "--fuse-qkv", "--outtype", "q8_0", "--outtype", "q4_k", "--no-check", "--out", str(folder)]
    assert CliRunner().invoke(main, options).exit_code == 0
    return folder


@pytest.fixture(scope="session")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of tiny-qwen3 with its adapter."""
    folder = tmp_path_factory.mktemp("adapted")
    options = ["tiny-qwen3", "--adapter", str(ADAPTER), "--outtype", "q8_0", "--no-check", "--out", str(folder)]
    assert CliRunner().invoke(main, options).exit_code == 0
    [file] = folder.iterdir()
    return file


@pytest.fixture(scope="session")
def q8_0(tiny_folder: Path) -> Files:
    return Files(tiny_folder / "mimo-asr-q8_0.gguf", tiny_folder / "mimo-tokenizer-q8_0.gguf")


@pytest.fixture(scope="session")
def q4_k(tiny_folder: Path) -> Files:
    """A smaller speech LM, with the same audio tokenizer."""
    return Files(tiny_folder / "mimo-asr-q4_k.gguf", tiny_folder / "mimo-tokenizer-q8_0.gguf")
