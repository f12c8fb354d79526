"""A shard that somebody edits while it is converted, or before an interrupted run is gone on with: never unnoticed."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mimo_convert.model.checkpoint import open_checkpoint
from mimo_convert.plan.request import Request
from mimo_convert.write import chunks, flusher
from mimo_convert.write import convert as convert_module
from mimo_convert.write.convert import InterruptedRunError, convert
from quantize.errors import InputError, WorthlessError
from quantize.types import TYPES
from tests.opened import make_request, model_of_file

Edit = Callable[[Path], None]


def flip(path: Path, at: int = -5) -> None:
    """Change one bit of a file, as it lies."""
    with path.open("r+b") as file:
        file.seek(at, os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(at, os.SEEK_END)
        file.write(bytes([byte ^ 1]))


def in_place(path: Path) -> None:
    """An edit that keeps the size, and sets the time back."""
    status = path.stat()
    flip(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def by_another_file(path: Path) -> None:
    """Another file of the same size and times gets the name."""
    status = path.stat()
    other = path.with_name("other")
    shutil.copy(path, other)
    flip(other)
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)


EDITS = [flip, in_place, by_another_file]


@pytest.fixture
def folder(small_lm: Path, tmp_path: Path) -> Path:
    shutil.copytree(small_lm, tmp_path / "lm")
    return tmp_path / "lm"


def when_half_done(monkeypatch: pytest.MonkeyPatch, do: Callable[[], None]) -> None:
    """`do` as the chunk in the middle of a conversion is written."""
    monkeypatch.setattr(chunks, "CHUNK_WEIGHTS", 20_000)
    monkeypatch.setattr(flusher, "FLUSH_BYTES", 50_000)
    write, n = convert_module.write_chunk, 0

    def counted(*arguments: Any) -> int:
        nonlocal n
        n += 1
        if n == 60:
            do()
        return write(*arguments)

    monkeypatch.setattr(convert_module, "write_chunk", counted)


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("shard", [0, 1])
def test_a_shard_edited_while_it_is_converted_ends_the_conversion(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edit: Edit, shard: int
) -> None:
    path = sorted(folder.glob("*.safetensors"))[shard]
    when_half_done(monkeypatch, lambda: edit(path))
    with pytest.raises(WorthlessError, match="was changed while it was being read; let nothing write to it") as caught:
        convert([make_request(open_checkpoint(str(folder)), [TYPES["q8_0"]])], tmp_path / "out", threads=1)
    assert caught.value.where == str(path)
    assert not (tmp_path / "out").exists(), "what was made of two contents is worth nothing"


@pytest.mark.parametrize("edit", EDITS)
def test_a_file_edited_while_another_is_made_of_it_ends_that(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edit: Edit
) -> None:
    convert([make_request(open_checkpoint(str(folder)), [TYPES["f16"]])], tmp_path, threads=1)
    path = tmp_path / "mimo-asr-f16.gguf"
    when_half_done(monkeypatch, lambda: edit(path))
    again = Request(model_of_file(path), [TYPES["q8_0"]], file_name="q8.gguf")
    with pytest.raises(WorthlessError, match=f"^{path}: was changed while it was being read"):
        convert([again], tmp_path, threads=1)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["lm", "mimo-asr-f16.gguf"]


@pytest.mark.parametrize("edit", EDITS)
def test_a_shard_edited_between_an_interrupt_and_its_resume_begins_anew(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edit: Edit
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    def run(out: str, told: list[str]) -> bytes:
        requests = [make_request(open_checkpoint(str(folder)), [TYPES["q8_0"]])]
        convert(requests, tmp_path / out, threads=1, tell=told.append)
        return (tmp_path / out / "mimo-asr-q8_0.gguf").read_bytes()

    with monkeypatch.context() as patch:
        when_half_done(patch, interrupt)
        with pytest.raises(InterruptedRunError, match="the same command resumes here"):
            run("out", [])
        edit(sorted(folder.glob("*.safetensors"))[0])
        told: list[str] = []
        found = run("out", told)
    [line] = told
    assert "was begun from a checkpoint that has changed since: starting over" in line
    assert found == run("fresh", [])


def test_a_shard_that_is_gone_meanwhile_is_one_clear_error(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sorted(folder.glob("*.safetensors"))[0]
    when_half_done(monkeypatch, path.unlink)
    with pytest.raises(InputError, match=f"^{path}: "):
        convert([make_request(open_checkpoint(str(folder)), [TYPES["q8_0"]])], tmp_path / "out", threads=1)
