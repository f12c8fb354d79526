"""A folder of files to publish, and a Hub to publish them to."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mimo_publish.upload.changes import LocalFile
from tests.hub_server import Hub, serve, use

from .uploads import ASR, CARD, SPEECH, TOKEN, local_file, write_gguf


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What is to be published."""
    folder = tmp_path / "files"
    folder.mkdir()
    write_gguf(folder / ASR, 1, 300)
    write_gguf(folder / SPEECH, 2, 100)
    (folder / "README.md").write_bytes(CARD)
    (folder / "SHA256SUMS").write_text("sums\n")
    return folder


@pytest.fixture
def files(folder: Path) -> list[LocalFile]:
    return [local_file(folder / name) for name in (ASR, SPEECH, "README.md", "SHA256SUMS")]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve(tokens={TOKEN: ["alice", "alice-labs"], "hf_Other": ["bob"]}) as running:
        use(running, tmp_path / "home", monkeypatch, TOKEN)
        yield running


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that would have been waited, here or in the Hub's library."""
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    return waited
