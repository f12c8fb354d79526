"""GGUF files of a command: hashes that are computed beside other work."""

import hashlib
from pathlib import Path

import pytest

from mimo_convert.model.model_file import FileHash
from quantize.errors import InputError


def test_a_hash_that_is_computed_beside_other_work_is_the_files(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 100_000)
    found = FileHash(path, wanted=True)
    assert found.missing
    found.begin()
    assert not found.missing  # nobody else needs to compute it
    assert found.value() == found.known == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_that_cannot_be_hashed_beside_other_work_is_told_when_the_hash_is_needed(tmp_path: Path) -> None:
    found = FileHash(tmp_path / "absent")
    found.begin()
    with pytest.raises(InputError, match="absent: no such file"):
        found.value()
