"""A user with a Hub of his own, and what the checkpoints on it become."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SMALL_LM
from tests.hub_server import Hub, commit, serve
from tests.readers import ggml_tensors, gguf_metadata
from tests.synthetic import write_speech_lm

SHARDS = [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
TOKENIZER_SHARD = "model.safetensors"
LM, TOKENIZER = "Some/Speech-LM", "Some/Audio-Tokenizer"
NAMES = ["mimo-asr-q8_0.gguf", "mimo-tokenizer-q8_0.gguf"]

# mimo-convert, with journals that are written after every chunk, downloads in small blocks, and as much room on the
# disk as the test says
PATCHED = """
import gc, os, signal, sys
gc.set_threshold(20_000)  # as the console script does
import mimo_convert.write.flusher, mimo_convert.sources.hub_download, mimo_convert.sources.hub_errors
import mimo_convert.sources.hub_shards
import mimo_commands.convert
signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs the tests may have told us not to heed it
mimo_convert.write.flusher.FLUSH_BYTES = 1
mimo_convert.sources.hub_download.BLOCK = 1 << 14
mimo_convert.sources.hub_errors.FIRST_WAIT = 0.05
if "FREE" in os.environ:
    mimo_convert.sources.hub_shards.free_bytes = lambda folder: int(os.environ["FREE"])
mimo_commands.convert.main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_speech_lm(tmp_path_factory.mktemp("hub") / "lm", n_shards=3, **SMALL_LM)


@pytest.fixture(scope="module")
def local(lm: Path, small_tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the checkpoints become from local folders."""
    out = tmp_path_factory.mktemp("local")
    command = [sys.executable, "-c", PATCHED, lm, "--tokenizer", small_tokenizer, *OPTIONS, "--out", out]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return out


OPTIONS = ["--outtype", "q8_0", "--no-check", "--threads", "2"]


class User:
    """Somebody who runs commands in `folder`, with a Hub of his own and nothing else on the network."""

    def __init__(self, folder: Path, hub: Hub) -> None:
        self.folder, self.hub, self.cache = folder, hub, folder / "cache"
        self.environment = {
            **os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(self.cache), "HF_HOME": str(folder / "home")
        }  # fmt: skip

    def start(self, *arguments: object, **environment: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", PATCHED, *map(str, arguments)]
        both = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env=self.environment | environment, cwd=self.folder, **both)  # type: ignore[call-overload, no-any-return]

    def convert(self, *options: object, model: str = LM, **environment: str) -> tuple[int, str]:
        """Exit status and what was said on stderr."""
        process = self.start(model, "--tokenizer", TOKENIZER, *OPTIONS, "--out", "out", *options, **environment)
        _, said = process.communicate(timeout=60)
        return process.returncode, said

    def shards(self) -> list[str]:
        """Names of the shards in the cache's snapshots."""
        return sorted(path.name for path in self.cache.glob("*/snapshots/*/*.safetensors"))

    def contents(self) -> int:
        """Bytes of everything large in the cache."""
        return sum(path.stat().st_size for path in self.cache.glob("*/blobs/*") if path.stat().st_size > 200_000)


@pytest.fixture
def hub(lm: Path, small_tokenizer: Path) -> Iterator[Hub]:
    with serve({LM: {"main": lm, "v1": lm}, TOKENIZER: {"main": small_tokenizer}}) as running:
        yield running


@pytest.fixture
def user(tmp_path: Path, hub: Hub) -> User:
    return User(tmp_path, hub)


def check_same(out: Path, local: Path, revision: str) -> None:
    """Every byte as from the local folder, but for the names in the metadata."""
    for name in NAMES:
        assert ggml_tensors(out / name) == ggml_tensors(local / name)
        about, expected = gguf_metadata(out / name), gguf_metadata(local / name)
        assert {key for key in about if about[key] != expected.get(key)} == {
            "general.name", "general.base_model.0.name", "general.base_model.0.organization",
            "general.base_model.0.repo_url", "general.base_model.0.version",
        }  # fmt: skip
    assert gguf_metadata(out / NAMES[0])["general.base_model.0.version"] == commit(revision)
    assert sorted(path.name for path in out.iterdir()) == NAMES


def wait_for(what: Callable[[], Any]) -> bool:
    """Whether it becomes true within ten seconds."""
    for _ in range(1000):
        if what():
            return True
        time.sleep(0.01)
    return False
