"""Clips that a worker fetches from a dataset of the Hub: by their hashes, at one commit, each once."""

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from mimo_agreement.cluster.datasets import LOG, HubDataset, parse_dataset
from mimo_agreement.cluster.places import FileFacts, HashedPlaces
from quantize.errors import InputError
from tests.hub_server import Hub, commit, serve, use

NAME = "datasets/some/clips"
COMMIT = commit("main")
STORED = {"test/a.flac": b"of a large file", "test/b.wav": b"of a small file", "b.wav": b"of another one."}
HASHES = {name: hashlib.sha256(data).hexdigest() for name, data in STORED.items()}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    for name, data in STORED.items():
        (tmp_path / "hub" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "hub" / name).write_bytes(data)
    with serve({NAME: {"main": tmp_path / "hub"}}) as hub:
        use(hub, tmp_path, monkeypatch)
        yield hub


def places(folder: Path, commit: str = COMMIT) -> HashedPlaces:
    """Those of a worker, of a run in which the files have names of the client."""
    facts = {HASHES[name]: FileFacts(Path(name).name, len(data)) for name, data in STORED.items()}
    facts[HASHES["test/a.flac"]] = FileFacts("renamed.flac", len(STORED["test/a.flac"]))
    return HashedPlaces((), folder / "cache", facts, (HubDataset("some/clips", commit),))


def test_a_file_is_fetched_once_by_its_hash_and_verified(hub: Hub, tmp_path: Path) -> None:
    here = places(tmp_path)
    assert here.lacking(HASHES.values()) == []
    for name, data in STORED.items():
        assert here.path(HASHES[name]) == tmp_path / "cache" / HASHES[name]
        assert here.path(HASHES[name]).read_bytes() == data
    assert places(tmp_path).lacking(HASHES.values()) == []
    assert len(hub.of_kind("tree")) == 1
    downloads = [asked.file for asked in hub.asked if asked.is_download]
    assert downloads.count("test/a.flac") == 1
    assert all(path.suffix in ("", ".json", ".lock") for path in (tmp_path / "cache").iterdir())


def test_what_is_not_in_the_dataset_is_lacking(hub: Hub, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    here, other = places(tmp_path), hashlib.sha256(b"of some other f").hexdigest()
    here.files = {other: FileFacts("b.wav", 15)}
    assert here.lacking([other]) == [other]
    assert not caplog.records


def test_a_dataset_out_of_reach_is_told_in_the_log_and_done_without(
    hub: Hub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, LOG.name)  # a client in this process has silenced Dask
    here = places(tmp_path, "f" * 40)
    assert here.lacking(HASHES.values()) == list(HASHES.values())
    [record] = caplog.records
    assert record.getMessage().startswith(f"some/clips@{'f' * 40}: cannot be listed")


def test_a_file_that_is_damaged_on_the_way_is_lacking(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.hub_server import Fault

    monkeypatch.setattr(hub, "before", lambda asked: Fault(content=b"of a other file") if asked.is_download else None)
    wanted = HASHES["test/a.flac"]
    assert places(tmp_path).lacking([wanted]) == [wanted]


def test_a_dataset_is_named_at_a_commit() -> None:
    assert parse_dataset(f"some/clips@{COMMIT}") == HubDataset("some/clips", COMMIT)


@pytest.mark.parametrize(
    "text", ["some/clips", "some/clips@main", f"clips@{COMMIT}", f"../clips@{COMMIT}", "a/b@" + "F" * 40]
)
def test_a_revision_that_may_move_is_refused(text: str) -> None:
    with pytest.raises(
        InputError, match=r"--dataset: .* is not a dataset at a commit; expected OWNER/NAME@COMMIT, the"
    ):
        parse_dataset(text)
