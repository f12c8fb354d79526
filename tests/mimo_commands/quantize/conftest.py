"""Files for mimo-quantize. Shared: copy a file before changing it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from quantize.types import TYPES
from tests.system.once import once

from .quantized import Files, written


@pytest.fixture(scope="session")
def lm(small_lm_files: Files) -> Files:
    """The small speech LM as mimo-convert writes it, by layout and type."""
    return small_lm_files


@pytest.fixture(scope="session")
def tokenizer(small_tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The small audio tokenizer as mimo-convert writes it, by type."""
    folder = once(tmp_path_factory, "small-tokenizer-files", lambda out: written(small_tokenizer, out, *TYPES))
    return lambda name: folder / f"mimo-tokenizer-{name}.gguf"


@pytest.fixture(scope="session")
def exact(small_lm: Path, small_tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Both checkpoints with weights that F16 holds exactly: steps of 1/64, up to 2."""
    folders = []
    for folder in (small_lm, small_tokenizer):
        folders.append(shutil.copytree(folder, tmp_path_factory.mktemp("exact") / folder.name))
        for shard in folders[-1].glob("*.safetensors"):
            rounded = {n: (t.float().clamp(-2, 2) * 64).round() / 64 for n, t in load_file(shard).items()}
            save_file({name: tensor.bfloat16() for name, tensor in rounded.items()}, shard)
    return folders
