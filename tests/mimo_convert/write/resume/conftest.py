"""Small checkpoints, servers of runs, and whole runs. Shared: copy a checkpoint before changing anything."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.conftest import SMALL_LM, SMALL_TOKENIZER
from tests.synthetic import write_audio_tokenizer, write_speech_lm

from .killed import Runs
from .whole import TYPES_OF_NAMES, Whole, counted

SMALLER_LM = SMALL_LM | {"vocab_size": 400, "num_hidden_layers": 1, "intermediate_size": 256, "n_shards": 1}
SMALLER_TOKENIZER = SMALL_TOKENIZER | {"d_model": 32, "encoder_ffn_dim": 64, "num_quantizers": 1}
LEAST_TOKENIZER = SMALLER_TOKENIZER | {"encoder_layers": 1, "encoder_skip_layer_id": 1}


@pytest.fixture(scope="session")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that no disk is behind, where there is one: thousands of flushes need not wait for it.

    What a power loss takes is chosen by the tests themselves, in any folder.
    """
    shared = Path("/dev/shm")
    if not shared.is_dir() or shutil.disk_usage(shared).free < 1 << 30:
        yield tmp_path_factory.mktemp("resume")
        return
    with TemporaryDirectory(dir=shared) as folder:
        yield Path(folder)


@pytest.fixture
def tmp_path(memory: Path) -> Iterator[Path]:
    with TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A speech LM and its audio tokenizer, as small as they come. Shared: copy before changing anything."""
    folder = tmp_path_factory.mktemp("smaller")
    return (
        write_speech_lm(folder / "lm", **SMALLER_LM),
        write_audio_tokenizer(folder / "tokenizer", **SMALLER_TOKENIZER),
    )


@pytest.fixture(scope="session")
def both(memory: Path) -> Iterator[list[Runs]]:
    """Servers of runs: as many as are tried at once."""
    with ExitStack() as stack:
        yield [stack.enter_context(Runs(memory)) for _ in range(2)]


@pytest.fixture
def runs(both: list[Runs]) -> Runs:
    return both[0]


@pytest.fixture(scope="session")
def whole(checkpoints: tuple[Path, Path], both: list[Runs], memory: Path) -> Whole:
    """Both models, the speech LM in two types."""
    lm, tokenizer = checkpoints
    arguments = [lm, "--tokenizer", tokenizer, *TYPES_OF_NAMES, "--fuse-qkv", "--threads", 1]
    return counted(both[0], memory / "whole", arguments)


@pytest.fixture(scope="session")
def whole_tokenizer(both: list[Runs], memory: Path) -> Whole:
    """The least there is to convert, in two types: few enough calls to try every one."""
    folder = memory / "least"
    tokenizer = write_audio_tokenizer(folder / "tokenizer", **LEAST_TOKENIZER)
    arguments = [tokenizer, "--outtype", "f16", "--outtype", "q8_0", "--threads", 1]
    return counted(both[0], folder, arguments, flush_bytes=60_000)
