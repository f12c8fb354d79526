"""Deleting from the Hub's cache: a blob goes with the last name that leads to it."""

import os
from pathlib import Path

import pytest

from mimo_convert.sources.hub_cache import delete_from_cache
from tests.hub_server import commit


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
