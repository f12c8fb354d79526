"""The other family's environments, checkpoint and files, made once for all workers."""

from pathlib import Path

import pytest

from tests.system.once import once

from .checkpoint import write_checkpoint
from .installed import Environment, environment, install

TYPES = ("f32", "f16", "bf16", "q8_0", "q6_k", "q5_k", "q4_k", "q3_k", "q2_k", "q4_0", "q5_1", "iq4_nl", "iq4_xs")


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return once(tmp_path_factory, "installed", install)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return once(tmp_path_factory, "murmur", write_checkpoint)


@pytest.fixture(scope="session")
def files(installed: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`separate/` and `fused/`: the checkpoint in every type, not yet validated."""

    def make(folder: Path) -> None:
        types = [word for name in TYPES for word in ("--outtype", name)]
        for layout, option in (("separate", "--no-fuse-qkv"), ("fused", "--fuse-qkv")):
            arguments = [checkpoint, *types, option, "--no-check", "--out", folder / layout]
            ended = environment(installed, "with", folder).run("convert", *arguments)
            assert ended.status == 0, ended.stderr

    return once(tmp_path_factory, "murmur-files", make)


@pytest.fixture
def murmur(installed: Path, tmp_path: Path) -> Environment:
    """Where the family is installed."""
    return environment(installed, "with", tmp_path)


@pytest.fixture
def nothing(installed: Path, tmp_path: Path) -> Environment:
    """Where its registry line is missing."""
    return environment(installed, "without", tmp_path)
