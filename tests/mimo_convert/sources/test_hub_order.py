"""Shards of the Hub without a server: what is downloaded when, what is deleted, and what is told of what fails."""

import threading
import time
from pathlib import Path

import pytest

from mimo_convert.sources import hub_shards as module
from mimo_convert.sources.hub_download import full_disk
from mimo_convert.sources.hub_errors import raising_input_error
from mimo_convert.sources.hub_listing import HubFile
from mimo_convert.sources.hub_shards import HubShards
from quantize.errors import InputError
from tests.hub_server import commit

from .conftest import LM, wait_for


class Cache:
    """A snapshot folder, and a Hub that takes its time: each download waits for its event in `go`."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, free: int) -> None:
        self.snapshot = folder / "models--Some--LM" / "snapshots" / commit("main")
        self.snapshot.mkdir(parents=True)
        self.free, self.begun, self.errors = free, list[str](), dict[str, Exception]()
        self.go = {name: threading.Event() for name in "abcd"}
        monkeypatch.setattr(module, "download_to_cache", self.download)
        monkeypatch.setattr(module, "free_bytes", lambda folder: self.free - 100 * len(self.here()))
        monkeypatch.setattr(module, "MARGIN", 0)

    def shards(self, *, stream: bool) -> HubShards:
        shards = HubShards(LM, self.snapshot, stream=stream)
        shards.__dict__["_remote"] = {name: HubFile(name, 100, "", name) for name in "abcd"}
        shards.expect(self.files("abcd"))
        return shards

    def files(self, names: str) -> list[Path]:
        return [self.snapshot / name for name in names]

    def here(self) -> str:
        return "".join(sorted(path.name for path in self.snapshot.glob("?")))

    def download(self, repo: str, snapshot: Path, file: HubFile, *_: object) -> None:
        assert (repo, snapshot) == (LM, self.snapshot)
        name = file.name
        self.begun.append(name)
        assert self.go[name].wait(20)
        with raising_input_error(f"{repo}/{name}", "cannot be downloaded"), full_disk(snapshot / name):
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
        InputError, match=rf"^{LM}/d: cannot be downloaded: the connection failed: again and again; check the network"
    ):
        shards.fetch(cache.files("d")[0])


def test_a_full_disk_and_a_changed_shard_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path, monkeypatch, free=1000)
    shards, (a, b, _, _) = cache.shards(stream=True), cache.files("abcd")
    cache.go["a"].set()
    cache.errors["a"] = OSError(28, "No space left on device")
    with pytest.raises(
        InputError, match=r"No space left on device; make room, and run the command again: it resumes here"
    ):
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
