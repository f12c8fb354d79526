"""Checkpoints from the Hub, by a real server on this machine: what arrives when, what is kept, what goes wrong."""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from mimo_convert import hub as module
from mimo_convert.hub import HubShards, delete_from_cache
from mimo_convert.hub_listing import HubFile
from quantize.errors import InputError
from runtime_check import bundled
from runtime_check.reference_file import load_reference

from ..conftest import SMALL_LM
from ..hub_server import Asked, Fault, Hub, commit, serve
from ..readers import gguf_metadata, gguf_tensors
from ..synthetic import write_speech_lm

SHARDS = [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
TOKENIZER_SHARD = "model.safetensors"
LM, TOKENIZER = "Some/Speech-LM", "Some/Audio-Tokenizer"
NAMES = ["mimo-asr-q8_0.gguf", "mimo-tokenizer-q8_0.gguf"]

# mimo-convert, with journals that are written after every chunk, and as much room on the disk as the test says
PATCHED = """
import os, signal, sys
import mimo_convert.flusher, mimo_convert.hub, mimo_convert.cli
signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs the tests may have told us not to heed it
mimo_convert.flusher.FLUSH_BYTES = 1
if "FREE" in os.environ:
    mimo_convert.hub.free_bytes = lambda folder: int(os.environ["FREE"])
mimo_convert.cli.main(sys.argv[1:])
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
        assert gguf_tensors(out / name) == gguf_tensors(local / name)
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


def test_shards_are_converted_while_the_next_arrives(user: User, local: Path) -> None:
    journal, seen = user.folder / "out" / f"{NAMES[0]}.part.journal", []

    def before(asked: Asked) -> int:
        if asked.file == SHARDS[1] and user.hub.whole() == SHARDS[:2]:
            # it is kept back until some of the first is converted, journaled
            seen.append(wait_for(lambda: journal.exists() and "done" in journal.read_text()))
        return 0

    user.hub.before = before
    assert user.convert() == (0, "")
    assert seen == [True]
    assert user.hub.whole() == [*SHARDS, TOKENIZER_SHARD]
    kinds = [(a.file, bool(a.range)) for a in user.hub.asked if a.method == "GET" and a.file in user.hub.whole()]
    assert kinds[:4] == [(file, True) for file in [*SHARDS, TOKENIZER_SHARD]], "all headers first"
    assert user.shards() == [*SHARDS, TOKENIZER_SHARD], "a cache keeps what it got"
    check_same(user.folder / "out", local, "main")

    user.hub.asked.clear()
    assert user.convert("--force", HF_HUB_OFFLINE="1") == (0, "")
    assert user.hub.asked == []
    check_same(user.folder / "out", local, "main")


def test_stream_leaves_no_shard_and_the_users_other_files(user: User, local: Path) -> None:
    other = user.cache / "models--Some--Speech-LM" / "snapshots" / commit("other") / "other.safetensors"
    other.parent.mkdir(parents=True)
    other.write_text("precious")
    assert user.convert("--stream", model=f"{LM}@v1") == (0, "")
    assert user.shards() == [other.name]
    assert user.contents() == 0
    assert other.read_text() == "precious"
    assert (other.parent.with_name(commit("v1")) / "config.json").is_file()
    check_same(user.folder / "out", local, "v1")


def test_stream_holds_one_shard_where_there_is_no_room_for_more(user: User, local: Path) -> None:
    held = []

    def before(asked: Asked) -> int:
        if asked.method == "GET" and asked.file.startswith("model-") and not asked.range:
            held.append((user.shards(), user.contents()))
        return 0

    user.hub.before = before
    assert user.convert("--stream", FREE="0") == (0, "")
    assert held[:3] == [([], 0)] * 3, "each arrives when the one before is gone"
    assert user.hub.whole() == [*SHARDS, TOKENIZER_SHARD]
    assert user.shards() == []
    check_same(user.folder / "out", local, "main")


@pytest.mark.parametrize("stream", [[], ["--stream"]])
def test_a_run_whose_download_failed_goes_on_where_it_stopped(user: User, local: Path, stream: list[str]) -> None:
    journal = user.folder / "out" / f"{NAMES[0]}.part.journal"

    def fail(asked: Asked) -> int:
        if asked.file == SHARDS[1] and asked.method == "GET" and not asked.range:
            return 403 if wait_for(lambda: journal.exists() and "done" in journal.read_text()) else 404
        return 0

    user.hub.before = fail
    status, said = user.convert(*stream)
    assert status == 2
    assert re.fullmatch(
        rf"error: {LM}/{SHARDS[1]}: cannot be downloaded: .*403.*; check the name and the network, or give a folder\n",
        said,
    )
    assert journal.exists()

    user.hub.before, _ = lambda asked: 0, user.hub.asked.clear()
    status, said = user.convert(*stream)
    assert (status, len(said.splitlines())) == (0, 1)
    assert "going on where an earlier run stopped" in said
    assert user.hub.whole() == [*SHARDS[1:], TOKENIZER_SHARD], "what was here is not downloaded again"
    assert user.shards() == ([] if stream else [*SHARDS, TOKENIZER_SHARD])
    check_same(user.folder / "out", local, "main")


@pytest.mark.parametrize("stream", [[], ["--stream"]])
def test_a_shard_that_was_damaged_on_the_way_is_in_no_file(
    user: User, lm: Path, local: Path, stream: list[str]
) -> None:
    """A bit of a weight is another one: of the size and form that it should be, and not what the Hub has."""
    damaged = bytearray((lm / SHARDS[1]).read_bytes())
    damaged[-3] ^= 1

    def damage(asked: Asked) -> Fault | None:
        whole = asked.file == SHARDS[1] and asked.method == "GET" and not asked.range
        return Fault(content=bytes(damaged)) if whole else None

    user.hub.before = damage
    status, said = user.convert(*stream)
    assert status == 2
    found, expected = (hashlib.sha256(data).hexdigest() for data in (damaged, (lm / SHARDS[1]).read_bytes()))
    assert re.search(rf"{SHARDS[1]}: has the sha256 {found}; expected {expected}, by the Hub; it was damaged", said)
    assert not (user.folder / "out").exists(), "nothing made of it is gone on with"

    user.hub.before = lambda asked: None
    for shard in user.cache.glob(f"*/snapshots/*/{SHARDS[1]}"):  # as the message says
        shard.resolve().unlink()
        shard.unlink()
    assert user.convert(*stream) == (0, "")
    check_same(user.folder / "out", local, "main")


@pytest.mark.parametrize("kept_back", SHARDS[:2])
def test_an_interrupt_need_not_wait_for_a_download(user: User, local: Path, kept_back: str) -> None:
    coming, go_on = threading.Event(), threading.Event()

    def before(asked: Asked) -> int:
        if asked.file == kept_back and asked.method == "GET" and not asked.range:
            coming.set()
            go_on.wait(20)
        return 0

    user.hub.before = before
    process = user.start(LM, "--tokenizer", TOKENIZER, *OPTIONS, "--out", "out", "--stream")
    assert coming.wait(20)
    if kept_back != SHARDS[0]:
        journal = user.folder / "out" / f"{NAMES[0]}.part.journal"
        assert wait_for(lambda: journal.exists() and journal.read_text().count("done") > 5)
    time.sleep(0.2)
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    took = time.monotonic() - begin
    go_on.set()
    assert process.returncode == 130
    assert took < 2, took
    assert re.fullmatch(r"interrupted: .*\n", said)
    assert list(user.cache.glob("*/blobs/*.*.incomplete")) == [], "those that nobody would go on with"

    user.hub.before = lambda asked: 0
    assert user.convert("--stream")[0] == 0
    assert user.shards() == []
    check_same(user.folder / "out", local, "main")


def test_a_dry_run_downloads_no_shard(user: User, lm: Path, small_tokenizer: Path) -> None:
    def plan(model: object, tokenizer: object) -> tuple[list[str], str]:
        process = user.start(model, "--tokenizer", tokenizer, *OPTIONS, "--out", "out", "--dry-run")
        printed, said = process.communicate(timeout=60)
        assert process.returncode == 0
        return printed.splitlines(), said

    (printed, said), (expected, nothing) = plan(LM, TOKENIZER), plan(lm, small_tokenizer)
    assert nothing == ""
    assert re.fullmatch(r"Speech-LM and Audio-Tokenizer: .* no weight was read: a tensor that needs f32 is .*\n", said)
    assert [line for line in printed if "bytes" not in line] == [line for line in expected if "bytes" not in line]
    assert user.hub.whole() == []
    assert user.shards() == []


@pytest.mark.parametrize(("model", "reason"), [("Some/Absent", "404"), (f"{LM}@v7", "404"), ("Some", "no such folder")])
def test_what_is_not_there_is_one_line(user: User, model: str, reason: str) -> None:
    status, said = user.convert(model=model)
    assert status == 2
    assert re.fullmatch(rf"error: {model}: .*{reason}.*\n", said)


def test_a_server_that_does_not_answer_is_one_line(user: User) -> None:
    status, said = user.convert(HF_ENDPOINT="http://127.0.0.1:9")
    assert status == 2
    assert re.fullmatch(rf"error: {LM}: cannot be downloaded: .*; check the name and the network.*\n", said)


def test_a_shard_that_is_neither_here_nor_there_is_one_line(user: User, lm: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(lm, tmp_path / "incomplete")
    (folder / SHARDS[2]).unlink()
    user.hub.repos = {**user.hub.repos, LM: {"main": folder}}
    status, said = user.convert()
    assert status == 2
    assert re.fullmatch(rf"error: .*/{SHARDS[2]}: missing shard, named by .*\n", said)


def test_a_single_shard_may_have_any_name(user: User, small_tokenizer: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(small_tokenizer, tmp_path / "odd")
    (folder / TOKENIZER_SHARD).rename(folder / "odd.safetensors")
    user.hub.repos = {TOKENIZER: {"main": folder}}
    for environment in ({}, {"HF_HUB_OFFLINE": "1"}):
        process = user.start(TOKENIZER, *OPTIONS, "--force", **environment)
        assert process.communicate(timeout=60)[1] == ""
        assert process.returncode == 0
    assert user.hub.whole() == user.shards() == ["odd.safetensors"]


def test_stream_and_a_check_against_the_checkpoint_exclude_each_other(user: User) -> None:
    process = user.start(LM, "--tokenizer", TOKENIZER, "--stream")
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert said == (
        "error: --stream: the check would need the shards that it deletes; expected --no-check or --reference FILE\n"
    )
    assert user.hub.asked == []


def test_a_reference_is_made_from_the_hub(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "clip.wav", np.random.default_rng(0).normal(0, 0.1, 4000).astype(np.float32), 16000)
    with serve({LM: {"main": bundled.TINY_ASR}, TOKENIZER: {"main": bundled.TINY_TOKENIZER}}) as hub:
        user = User(tmp_path, hub)
        command = [Path(sys.executable).with_name("mimo-check"), "reference", LM, "--tokenizer", TOKENIZER]
        command += ["--audio", "clip.wav", "-o", "stages"]
        subprocess.run(command, env=user.environment, cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    assert load_reference(tmp_path / "stages").origin.checkpoints == ["Speech-LM", "Audio-Tokenizer"]


# Without a server: what is downloaded when, and what is deleted.


class Cache:
    """A snapshot folder, and a Hub that takes its time: each download waits for its event in `go`."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, free: int) -> None:
        self.snapshot = folder / "models--Some--LM" / "snapshots" / commit("main")
        self.snapshot.mkdir(parents=True)
        self.free, self.begun, self.errors = free, list[str](), dict[str, Exception]()
        self.go = {name: threading.Event() for name in "abcd"}
        monkeypatch.setattr(module, "hf_hub_download", self.download)
        monkeypatch.setattr(module, "free_bytes", lambda folder: self.free - 100 * len(self.here()))
        monkeypatch.setattr(module, "MARGIN", 0)

    def shards(self, *, stream: bool) -> HubShards:
        shards = HubShards(LM, self.snapshot, stream=stream)
        shards.__dict__["_remote"] = dict.fromkeys("abcd", HubFile("", 100, "", ""))
        shards.expect(self.files("abcd"))
        return shards

    def files(self, names: str) -> list[Path]:
        return [self.snapshot / name for name in names]

    def here(self) -> str:
        return "".join(sorted(path.name for path in self.snapshot.glob("?")))

    def download(self, repo: str, name: str, *, revision: str, cache_dir: Path) -> None:
        assert (revision, cache_dir) == (commit("main"), self.snapshot.parents[2])
        self.begun.append(name)
        assert self.go[name].wait(20)
        if name in self.errors:
            raise self.errors.pop(name)
        assert self.free_bytes() >= 100, "the disk is full"
        (self.snapshot / f"{name}.incomplete").write_bytes(bytes(100))
        (self.snapshot / f"{name}.incomplete").rename(self.snapshot / name)

    def free_bytes(self) -> int:
        return self.free - 100 * len(self.here())


def test_the_next_is_downloaded_ahead_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path, monkeypatch, free=0)
    monkeypatch.setattr(Cache, "free_bytes", lambda self: 1000)
    shards, (a, b, _, _) = cache.shards(stream=False), cache.files("abcd")
    cache.go["a"].set()
    cache.go["b"].set()
    shards.fetch(a)
    assert wait_for(lambda: cache.here() == "ab")
    shards.release(a)
    time.sleep(0.05)
    assert (cache.begun, cache.here()) == (["a", "b"], "ab"), "nothing is deleted without --stream"
    cache.go["c"].set()
    shards.fetch(b)
    assert wait_for(lambda: cache.here() == "abc")
    assert cache.begun == ["a", "b", "c"]


def test_room_is_asked_for_what_is_to_arrive_on_the_same_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path, monkeypatch, free=1000)
    (cache.snapshot / "b").write_bytes(bytes(100))
    files = cache.files("abcd")
    assert cache.shards(stream=False).room(files, tmp_path / "not" / "yet") == 300
    assert cache.shards(stream=True).room(files, tmp_path) == 100, "one at a time"
    assert cache.shards(stream=False).room(files, Path("/proc")) == 0, "another disk"
    (cache.snapshot / "b").unlink()


@pytest.mark.parametrize("room", [1, 2, 4])
def test_no_order_of_events_stops_a_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    """A file that was used is released only after more was fetched, as by a conversion that flushes late."""
    cache = Cache(tmp_path, monkeypatch, free=100 * room)
    for event in cache.go.values():
        event.set()
    shards, files = cache.shards(stream=True), cache.files("abcd")
    most = 0
    for i, file in enumerate(files):
        shards.fetch(file)
        most = max(most, len(cache.here()))
        if i:
            shards.release(files[i - 1])
    shards.release(files[-1])
    assert most <= room
    assert cache.begun == list("abcd")
    assert cache.here() == ""


def test_a_release_makes_room_for_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path, monkeypatch, free=200)
    shards, (a, b, _, _) = cache.shards(stream=True), cache.files("abcd")
    for event in cache.go.values():
        event.set()
    shards.fetch(a)
    assert wait_for(lambda: cache.here() == "ab")
    shards.fetch(b)
    time.sleep(0.05)
    assert cache.begun == ["a", "b"], "no room for c"
    shards.release(a)
    assert wait_for(lambda: cache.here() == "bc")


def test_a_run_that_begins_in_the_middle_deletes_what_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path, monkeypatch, free=200)
    shards, files = cache.shards(stream=True), cache.files("abcd")
    files[0].write_bytes(bytes(100))
    for event in cache.go.values():
        event.set()
    shards.expect([])
    shards.release(files[0])
    shards.release(files[1])
    shards.expect(files[2:])
    shards.fetch(files[2])
    assert wait_for(lambda: cache.here() == "cd")
    assert cache.begun == ["c", "d"]


@pytest.mark.parametrize("room", [1, 2, 4])
def test_another_than_the_next_may_be_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    """As after a weight was found that is too large for its type: all begins again, while the next is on its way."""
    cache = Cache(tmp_path, monkeypatch, free=100 * room)
    shards, files = cache.shards(stream=True), cache.files("abcd")
    cache.go["a"].set()
    shards.fetch(files[0])
    shards.release(files[0])
    assert wait_for(lambda: cache.begun == ["a", "b"])
    for event in cache.go.values():
        event.set()
    shards.expect(files)
    for file in files:
        shards.fetch(file)
        assert file.exists()
        assert len(cache.here()) <= room
    for file in files:
        shards.release(file)
    assert cache.here() == ""


def test_a_download_that_failed_ahead_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path, monkeypatch, free=1000)
    shards, (a, b, c, _) = cache.shards(stream=True), cache.files("abcd")
    cache.errors["b"] = ConnectionError("a cable was pulled")
    for event in cache.go.values():
        event.set()
    shards.fetch(a)
    assert wait_for(lambda: not cache.errors and shards.download and shards.download.over.is_set())
    shards.fetch(b)
    assert cache.begun[:3] == ["a", "b", "b"]

    cache.errors["d"] = ConnectionError("again\nand again")
    shards.expect([c, cache.files("d")[0]])
    cache.go["d"].clear()
    shards.fetch(c)
    threading.Timer(0.1, cache.go["d"].set).start()
    with pytest.raises(
        InputError, match=rf"^{LM}/d: cannot be downloaded: the connection failed: again and again; check the name"
    ):
        shards.fetch(cache.files("d")[0])


def test_a_full_disk_and_a_changed_shard_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path, monkeypatch, free=1000)
    shards, (a, b, _, _) = cache.shards(stream=True), cache.files("abcd")
    cache.go["a"].set()
    cache.errors["a"] = OSError(28, "No space left on device")
    with pytest.raises(InputError, match=r"No space left on device; make room, and the same command goes on"):
        shards.fetch(a)
    assert shards.size(b) == 100
    b.write_bytes(bytes(99))
    with pytest.raises(InputError, match=r"b: has 99 bytes, and has changed; expected 100; run the command again"):
        shards.fetch(b)


def test_identity_is_the_same_wherever_the_file_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path, monkeypatch, free=1000)
    file = cache.files("a")[0]
    absent = cache.shards(stream=False).identity(file)
    file.write_bytes(bytes(100))
    assert cache.shards(stream=False).identity(file) == absent == f"a 100 {commit('main')}"


def link(path: Path, to: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(os.path.relpath(to, path.parent))
    return path


@pytest.fixture
def snapshots(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Two snapshots' files that lead to one blob, and the blob."""
    repo = tmp_path / "cache" / "models--Some--LM"
    (repo / "blobs").mkdir(parents=True)
    (repo / "blobs" / "123").write_text("weights")
    blob = repo / "blobs" / "123"
    first, second = (link(repo / "snapshots" / commit(r) / "x.safetensors", blob) for r in ("v1", "v2"))
    return first, second, blob


def test_a_blob_goes_with_the_last_name_that_leads_to_it(snapshots: tuple[Path, Path, Path]) -> None:
    first, second, blob = snapshots
    delete_from_cache(first)
    assert not first.is_symlink()
    assert second.read_text() == "weights"
    delete_from_cache(first)  # again: nothing is there
    delete_from_cache(second)
    assert not second.is_symlink()
    assert not blob.exists()


def test_content_that_repositories_share_goes_with_the_last(snapshots: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """As huggingface_hub 2 stores it: a repository's blob is itself a link."""
    first, second, blob = snapshots
    store = tmp_path / "cache" / "blobs" / "ab" / "abcd"
    store.parent.mkdir(parents=True)
    blob.rename(store)
    link(blob, store)
    other = link(tmp_path / "cache" / "models--Some--Copy" / "blobs" / "456", store)
    delete_from_cache(first)
    assert second.read_text() == "weights"
    delete_from_cache(second)
    assert not blob.is_symlink()
    assert other.read_text() == "weights"
    copy = link(tmp_path / "cache" / "models--Some--Copy" / "snapshots" / commit("v1") / "x.safetensors", other)
    delete_from_cache(copy)
    assert not store.exists()


def test_what_leads_out_of_the_cache_stays(snapshots: tuple[Path, Path, Path], tmp_path: Path) -> None:
    mine = tmp_path / "mine.safetensors"
    mine.write_text("my weights")
    name = link(snapshots[0].with_name("mine.safetensors"), mine)
    delete_from_cache(name)
    assert name.read_text() == "my weights"


def test_a_cache_without_links_is_emptied_too(snapshots: tuple[Path, Path, Path]) -> None:
    file = snapshots[0].with_name("plain.safetensors")
    file.write_text("weights")
    delete_from_cache(file)
    assert not file.exists()
    assert snapshots[0].exists()
