"""A repository of the Hub that holds a base and its adapter, each in a folder of its own."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mimo_convert.numbers_text import size
from mimo_convert.sources.hub_folder import repository_of
from tests.hub_server import Fault, Hub, commit, serve
from tests.mimo_commands.invoked import invoke
from tests.qwen3_checkpoint import write_mega_asr
from tests.readers import gguf_metadata, gguf_tensors

from .conftest import User

REPO, NAME = "Some/Mega-ASR", "mega-asr-q8_0.gguf"
WEIGHTS = {"Qwen3-ASR-1.7B": "model.safetensors", "mega-asr-merged": "adapter_model.safetensors"}
OPTIONS = ["--outtype", "q8_0", "--no-check", "--out", "out"]


@pytest.fixture(scope="module")
def mega(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mega_asr(tmp_path_factory.mktemp("hub") / "Mega-ASR")


@pytest.fixture
def hub(mega: Path) -> Iterator[Hub]:
    with serve({REPO: {"main": mega}}) as running:
        yield running


def convert(user: User, *options: str, **environment: str) -> tuple[int, str]:
    process = user.start(REPO, *OPTIONS, *options, **environment)
    _, said = process.communicate(timeout=60)
    return process.returncode, said


@pytest.mark.parametrize("options", [[], ["--stream"]])
def test_base_and_adapter_come_from_their_folders(user: User, mega: Path, tmp_path: Path, options: list[str]) -> None:
    assert convert(user, *options) == (0, "")
    assert invoke(mega, "--outtype", "q8_0", "--out", tmp_path / "local").exit_code == 0
    made = user.folder / "out" / NAME
    assert gguf_tensors(made) == gguf_tensors(tmp_path / "local" / NAME)
    about = gguf_metadata(made)
    assert about["general.base_model.0.repo_url"] == f"https://huggingface.co/{REPO}"
    assert about["general.base_model.0.version"] == commit("main")
    assert about["general.name"] == "Mega-ASR"
    assert about["mimo_convert.adapter"] == gguf_metadata(tmp_path / "local" / NAME)["mimo_convert.adapter"]
    assert not [asked.file for asked in user.hub.asked if "router" in asked.file and asked.is_download]
    kept = {str(path.relative_to(path.parents[1])) for path in user.cache.glob("*/snapshots/*/*/*.safetensors")}
    adapter = "mega-asr-merged/adapter_model.safetensors"
    assert kept == ({adapter} if options else {adapter, "Qwen3-ASR-1.7B/model.safetensors"})


def test_a_snapshot_of_the_cache_is_enough_and_is_known(user: User) -> None:
    assert convert(user) == (0, "")
    first = (user.folder / "out" / NAME).read_bytes()
    user.hub.asked.clear()
    assert convert(user, "--force", HF_HUB_OFFLINE="1") == (0, "")
    assert user.hub.asked == []
    assert (user.folder / "out" / NAME).read_bytes() == first
    [base] = user.cache.glob("*/snapshots/*/Qwen3-ASR-1.7B")
    assert repository_of(base, list(base.iterdir())) == (REPO, commit("main"))


@pytest.mark.parametrize("runtime", [[], ["--runtime", "llama.cpp"]])
def test_a_dry_run_reads_only_headers(user: User, mega: Path, runtime: list[str]) -> None:
    process = user.start(REPO, *OPTIONS, *runtime, "--dry-run", "-v")
    planned, said = process.communicate(timeout=60)
    assert (process.returncode, said.count("not all files are local")) == (0, 1)
    assert not [asked for asked in user.hub.asked if asked.is_download and asked.file.endswith(".safetensors")]
    sizes = {folder: size((mega / folder / file).stat().st_size) for folder, file in WEIGHTS.items()}
    base, adapter = sizes.values()
    assert f"downloads {base} of Mega-ASR and {adapter} of mega-asr-merged; writes" in planned, "each file once"


def test_the_hash_of_an_adapter_is_that_of_what_was_downloaded(user: User, mega: Path) -> None:
    other = (mega / "mega-asr-merged" / "adapter_model.safetensors").read_bytes()[:-1] + b"\x7f"
    user.hub.before = lambda asked: (
        Fault(content=other) if asked.is_download and "adapter_model" in asked.file else None
    )
    status, said = convert(user)
    assert status == 2
    assert re.search(r"adapter_model.safetensors: .*sha256", said)
    assert not (user.folder / "out").exists()


def test_the_base_alone_needs_no_adapter(user: User) -> None:
    user.hub.before = lambda asked: 404 if "adapter" in asked.file else 0
    assert convert(user, "--adapter", "none") == (0, "")
    [file] = (user.folder / "out").iterdir()
    assert file.name == "qwen3-asr-q8_0.gguf"
    about = gguf_metadata(file)
    assert (about["general.name"], about["mimo_convert.adapter.omitted"]) == ("Qwen3-ASR-1.7B", "mega-asr-merged")


def test_a_folder_that_was_downloaded_into_knows_the_commit_of_its_parts(mega: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(mega, tmp_path / "Mega-ASR")
    base = folder / "Qwen3-ASR-1.7B"
    notes = folder / ".cache" / "huggingface" / "download" / base.name
    notes.mkdir(parents=True)
    for file in base.iterdir():
        (notes / f"{file.name}.metadata").write_text(f"{'a' * 40}\n{'b' * 64}\n{file.stat().st_mtime + 5}\n")
    assert repository_of(base, list(base.iterdir())) == ("", "a" * 40)
    assert invoke(folder, "--out", tmp_path / "out").exit_code == 2, "the recorded hash is another one"
    result = invoke(folder, "--out", tmp_path / "out")
    assert re.search(r"has the sha256 [0-9a-f]{64}; expected b{64}, by the Hub", result.stderr)
