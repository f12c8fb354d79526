"""The lock of a nightly run: nobody else's file is written to."""

import os
from pathlib import Path

import pytest

from mimo_nightly.files.lock import locked
from quantize.errors import InputError


def test_one_at_a_time(tmp_path: Path) -> None:
    with locked(tmp_path / "h", "now"):
        assert (tmp_path / "h.lock").read_text() == f"process {os.getpid()} since now\n"
        with (
            pytest.raises(InputError, match=rf"h: is in use by process {os.getpid()} since now"),
            locked(tmp_path / "h", ""),
        ):
            pass
    with locked(tmp_path / "h", "later"):
        assert "later" in (tmp_path / "h.lock").read_text()


def test_a_file_that_is_somebody_elses_stays(tmp_path: Path) -> None:
    (tmp_path / "h.lock").write_text("my notes")
    with pytest.raises(InputError, match=r"h\.lock: holds something else"), locked(tmp_path / "h", ""):
        pass
    assert (tmp_path / "h.lock").read_text() == "my notes"


@pytest.mark.parametrize("target", ["mine", "none"])
def test_a_link_is_not_followed(tmp_path: Path, target: str) -> None:
    (tmp_path / "mine").write_text("process of mine")
    (tmp_path / "h.lock").symlink_to(tmp_path / target)
    with pytest.raises(InputError, match=r"h\.lock: is a symbolic link"), locked(tmp_path / "h", ""):
        pass
    assert (tmp_path / "mine").read_text() == "process of mine"
    assert not (tmp_path / "none").exists()


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "h.lock")
    with pytest.raises(InputError, match=r"h\.lock: is a pipe"), locked(tmp_path / "h", ""):
        pass
