"""Folders as huggingface_hub leaves them say which repository they are of; others say nothing."""

import os
from pathlib import Path

import pytest

from mimo_convert.sources.hub_folder import Downloaded, downloaded, repository_of

COMMIT, OTHER = "0123456789" * 4, "f" * 40
SHA256 = "ab" * 32


def note(file: Path, commit: str = COMMIT, etag: str = SHA256, later: float = 0.5) -> Path:
    """A file as `hf download --local-dir` leaves it, noted some seconds after it was written."""
    file.write_text("weights")
    notes = file.parent / ".cache" / "huggingface" / "download"
    notes.mkdir(parents=True, exist_ok=True)
    (notes / f"{file.name}.metadata").write_text(f"{commit}\n{etag}\n{file.stat().st_mtime + later}\n")
    return file


def test_a_folder_that_was_downloaded_into_knows_its_commit(tmp_path: Path) -> None:
    shard, config = note(tmp_path / "model.safetensors"), note(tmp_path / "config.json", etag="c" * 40)
    assert repository_of(tmp_path, [shard, config]) == ("", COMMIT)
    assert downloaded(shard) == Downloaded(COMMIT, SHA256)
    assert downloaded(config) == Downloaded(COMMIT, "")  # a small file's hash is git's


def test_a_snapshot_of_the_cache_knows_its_repository_too(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--Some--Speech--LM" / "snapshots" / COMMIT
    blobs = snapshot.parents[1] / "blobs"
    for folder in (snapshot, blobs):
        folder.mkdir(parents=True)
    (blobs / SHA256).write_text("weights")
    shard = snapshot / "model.safetensors"
    shard.symlink_to(os.path.relpath(blobs / SHA256, snapshot))
    assert repository_of(snapshot, [shard]) == ("Some/Speech--LM", COMMIT)
    assert downloaded(shard) == Downloaded(COMMIT, SHA256)


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: os.utime(folder / "model.safetensors", (2e9, 2e9)),
        lambda folder: note(folder / "config.json", OTHER),
        lambda folder: note(folder / "config.json", "main"),
        lambda folder: (folder / ".cache/huggingface/download/config.json.metadata").write_text("nonsense"),
        lambda folder: (folder / ".cache/huggingface/download/config.json.metadata").unlink(),
    ],
    ids=["edited", "of two commits", "no commit", "nonsense", "not noted"],
)
def test_a_folder_that_was_changed_since_knows_nothing(tmp_path: Path, change: object) -> None:
    files = [note(tmp_path / "model.safetensors"), note(tmp_path / "config.json")]
    change(tmp_path)  # type: ignore[operator]
    assert repository_of(tmp_path, files) == ("", "")
