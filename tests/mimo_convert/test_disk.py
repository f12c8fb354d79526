"""What the disk is asked, on a real one."""

import os
from pathlib import Path

import pytest

from mimo_convert.disk import flush_folder, forget, free_bytes, reserve


def test_free_bytes_of_a_folder_that_is_not_there_are_those_of_its_disk(tmp_path: Path) -> None:
    status = os.statvfs(tmp_path)
    close = pytest.approx(status.f_bavail * status.f_frsize, rel=0.05)
    assert free_bytes(tmp_path) == close
    assert free_bytes(tmp_path / "not" / "yet") == close


def test_room_is_set_aside_and_reads_as_zeros(tmp_path: Path) -> None:
    with (tmp_path / "x").open("w+b") as file:
        reserve(file.fileno(), 100_000)
        assert os.fstat(file.fileno()).st_blocks * 512 >= 100_000
        assert file.read() == bytes(100_000)


@pytest.mark.parametrize("end", [0, 1, 5000, 100_000, 1 << 40])
def test_what_was_forgotten_is_read_again_the_same(tmp_path: Path, end: int) -> None:
    content = os.urandom(100_000)
    (tmp_path / "x").write_bytes(content)
    forget(tmp_path / "x", end)
    assert (tmp_path / "x").read_bytes() == content


def test_forgetting_what_is_gone_and_flushing_a_folder_do_no_harm(tmp_path: Path) -> None:
    forget(tmp_path / "gone", 100)
    flush_folder(tmp_path)
    assert list(tmp_path.iterdir()) == []
