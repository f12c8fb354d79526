"""Pipes, sockets and devices where a file belongs, and names that are no text: one line, at once, in every command."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from mimo_commands.check import main as mimo_check
from mimo_commands.convert import main as mimo_convert
from runtime_check.audio.jfk import JFK, JFK_TEXT
from runtime_check.audio.manifests import find_clips
from tests.opened import TINY_ASR
from tests.system.special_files import a_device, a_pipe, a_socket


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    result = CliRunner().invoke(mimo_convert, ["tiny", "--no-check", "--out", str(folder)])
    assert result.exit_code == 0, result.output
    return folder


KINDS = {"a pipe": a_pipe, "a socket": a_socket, "a character device": a_device}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json"]
)
def test_a_checkpoint_with_something_else_than_files_is_refused(tmp_path: Path, kind: str, name: str) -> None:
    shutil.copytree(TINY_ASR, tmp_path / "asr")
    (tmp_path / "asr" / name).unlink()
    KINDS[kind](tmp_path / "asr" / name)
    arguments = [tmp_path / "asr", "--tokenizer", "tiny", "--no-check", "--out", tmp_path / "out"]
    result = CliRunner().invoke(mimo_convert, list(map(str, arguments)))
    assert result.exit_code == 2, result.output
    assert f"{name}: is {kind}; expected a " in result.stderr


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("x.gguf", lambda path, lm: [path, "--static"]),
        ("x.gguf", lambda path, lm: [path]),
        ("x.wav", lambda path, lm: [lm, "--audio", path]),
        ("x.jsonl", lambda path, lm: [lm, "--audio", path]),
        ("x.gguf", lambda path, lm: [lm, "--tokenizer", path]),
        ("x.gguf", lambda path, lm: [lm, "--against", path]),
        ("x.toml", lambda path, lm: ["nightly", path]),
        ("x.toml", lambda path, lm: ["history", path]),
    ],
)
def test_a_check_of_something_else_than_a_file_is_refused(
    made: Path, tmp_path: Path, kind: str, name: str, options: Callable[[Path, Path], list[object]]
) -> None:
    KINDS[kind](tmp_path / name)
    result = CliRunner().invoke(mimo_check, list(map(str, options(tmp_path / name, made / "mimo-asr-f16.gguf"))))
    assert result.exit_code == 2, result.output
    assert f"{name}: is {kind}; expected a " in result.stderr


def test_a_reference_that_is_a_pipe_is_refused(made: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "r.safetensors")
    result = CliRunner().invoke(
        mimo_check, [str(made / "mimo-asr-f16.gguf"), "--reference", str(tmp_path / "r.safetensors")]
    )
    assert result.exit_code == 2, result.output
    assert len(result.stderr.splitlines()) == 1


def test_raw_samples_are_no_sound_file_alone_and_none_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "x.raw").write_bytes(b"12" * 1000)
    with pytest.raises(
        Exception, match=r"x.raw: cannot be decoded as audio \(.*\); expected a wav, flac, ogg or mp3 file"
    ):
        find_clips([tmp_path / "x.raw"])
    shutil.copy(JFK, tmp_path / "jfk.wav")
    assert [sound.path.name for sound in find_clips([tmp_path])] == ["jfk.wav"]


def test_a_sound_whose_name_is_not_utf_8_is_transcribed(made: Path, tmp_path: Path) -> None:
    """As a process: what it prints must be printable."""
    clip = os.fsencode(tmp_path / "jfk") + b"\xff\x1b[2J.wav"
    shutil.copy(os.fsencode(JFK), clip)
    report = tmp_path / "r.json"
    code = "from mimo_commands.entry import check; check()"
    command = [sys.executable, "-c", code, made / "mimo-asr-f16.gguf", "--audio", clip, "--json", report]
    found = subprocess.run(command, capture_output=True, check=True)
    assert b"jfk\\udcff\\x1b[2J.wav  11.0 s" in found.stdout
    assert JFK_TEXT.encode() in found.stdout
    assert report.exists()
