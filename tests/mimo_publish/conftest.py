"""Files that were checked, and a Hub of this machine to publish them to."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from mimo_commands.convert import main as mimo_convert
from tests.hub_server import Hub, serve, use
from tests.opened import TINY_ASR, TINY_TOKENIZER

from .publishing import LM, TOKEN, TOKENIZER


@pytest.fixture(scope="session")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two types of tiny with their report, as a publisher has them. Shared: copy it before changing anything."""
    folder = tmp_path_factory.mktemp("checked") / "files"
    bases = ["--base-model", LM, "--tokenizer-base-model", TOKENIZER]
    arguments = ["tiny", "--fuse-qkv", "--outtype", "q4_k", "--outtype", "q8_0", "--out", str(folder), *bases]
    arguments += ["--tokenizer-outtype", "q4_k"]  # one for both, by the name that CrispASR finds
    result = CliRunner().invoke(mimo_convert, [*arguments, "--json", str(folder.parent / "report.json")])
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def folder(checked: Path, tmp_path: Path) -> Path:
    shutil.copytree(checked, tmp_path / "files")
    shutil.copy(checked.parent / "report.json", tmp_path / "report.json")
    return tmp_path / "files"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    checkpoints = {LM: {"main": TINY_ASR}, TOKENIZER: {"main": TINY_TOKENIZER}}
    with serve(checkpoints, tokens={TOKEN: ["alice"]}) as running:
        use(running, tmp_path / "home", monkeypatch, TOKEN)
        yield running
