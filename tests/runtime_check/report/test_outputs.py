"""Outputs that are inputs, devices or other outputs, in every command: refused before anything is lost."""

import hashlib
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from mimo_commands.check import main as mimo_check
from mimo_commands.convert import main as mimo_convert
from mimo_commands.paths import Folder, Reads, Source, Writes
from mimo_commands.publish import main as mimo_publish
from mimo_commands.quantize import main as mimo_quantize
from runtime_check.audio.jfk import JFK
from tests.opened import TINY_ASR, TINY_REFERENCE, TINY_TOKENIZER


def run(command: Any, *arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny pair in F16, its checkpoints, and the JFK clip."""
    folder = tmp_path_factory.mktemp("made")
    result = run(mimo_convert, "tiny", "--out", folder / "out", "--no-check")
    assert result.exit_code == 0, result.output
    shutil.copytree(TINY_ASR, folder / "asr")
    shutil.copytree(TINY_TOKENIZER, folder / "tokenizer")
    shutil.copy(JFK, folder / "jfk.wav")
    shutil.copy(TINY_REFERENCE, folder / "reference.safetensors")
    (folder / "list.jsonl").write_text('{"audio": "jfk.wav"}\n')
    (folder / "recipe.txt").write_text("ffn=q8_0\n")
    (folder / "nightly.toml").write_text('[[target]]\nname = "x"\nfile = "out/mimo-asr-f16.gguf"\nreference = "r"\n')
    (folder / "pages").mkdir()
    (folder / "link.gguf").symlink_to("out/mimo-asr-f16.gguf")
    return folder


def hashes(folder: Path) -> dict[str, str]:
    """What every file under a folder is: of a link, where it leads."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[str(path.relative_to(folder))] = f"→ {os.readlink(path)}"
        elif path.is_file():
            found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


LM, TOKENIZER = "out/mimo-asr-f16.gguf", "out/mimo-tokenizer-f16.gguf"
CONVERT = [mimo_convert, "asr", "--tokenizer", "tokenizer", "--no-check", "--outtype", "q8_0"]
CLASHES: list[list[Any]] = [
    [mimo_check, LM, "--static", "--json", LM],
    [mimo_check, LM, "--static", "--json", "link.gguf"],
    [mimo_check, LM, "--static", "--html", "out/../" + LM],
    [mimo_check, "link.gguf", "--static", "--junit", LM],
    [mimo_check, LM, "--json", TOKENIZER, "--reference", "tiny"],
    [mimo_check, LM, "--audio", "jfk.wav", "--html", "jfk.wav"],
    [mimo_check, LM, "--audio", "list.jsonl", "--html", "jfk.wav"],
    [mimo_check, LM, "--audio", "list.jsonl", "--html", "list.jsonl"],
    [mimo_check, LM, "--reference", "reference.safetensors", "--json", "reference.safetensors"],
    [mimo_check, LM, "--checkpoint", "asr", "--json", "asr/config.json"],
    [mimo_check, LM, "--static", "--json", "new", "--html", "new"],
    [mimo_check, LM, "--static", "--json", "new", "--html", "out/../new", "--junit", "other"],
    [mimo_check, "reference", "tiny", "--audio", "jfk.wav", "-o", "jfk.wav"],
    [mimo_check, "reference", "asr", "--tokenizer", "tokenizer", "-o", "tokenizer/model.safetensors"],
    [mimo_check, "nightly", "nightly.toml", "--junit", "nightly.toml"],
    [mimo_check, "nightly", "nightly.toml", "--junit", "new", "--summary", "new"],
    [mimo_check, "nightly", "nightly.toml", "--junit", "history.sqlite"],
    [mimo_check, "nightly", "nightly.toml", "--summary", "pages/../pages/index.html"],
    [mimo_check, "nightly", "nightly.toml", "--summary", LM],
    [*CONVERT, "--out", "new", "--json", "asr/tokenizer.json"],
    [*CONVERT, "--out", "new", "--recipe", "recipe.txt", "--json", "recipe.txt"],
    [*CONVERT, "--out", "out", "--force", "--json", "out/mimo-asr-q8_0.gguf"],
    [*CONVERT, "--out", "out", "--force", "--json", "out/mimo-asr-q8_0.gguf.part"],
    [*CONVERT, "--out", "out", "--force", "--json", "out/mimo-asr-q8_0.gguf.part.journal"],
    [mimo_quantize, LM, LM, "--outtype", "q8_0", "--force"],
    [mimo_quantize, LM, "link.gguf", "--outtype", "q8_0", "--force"],
    [mimo_quantize, LM, "recipe.txt", "--recipe", "recipe.txt", "--force"],
    [mimo_publish, "out", "--to", "a/b", "--dry-run", "--reference", "tiny", "--json", LM],
    [mimo_publish, "out", "--to", "a/b", "--dry-run", "--reference", "tiny", "--json", "out/README.md"],
    [mimo_publish, "out", "--to", "a/b", "--dry-run", "--card-template", "list.jsonl", "--html", "list.jsonl"],
]


@pytest.mark.parametrize("arguments", CLASHES, ids=lambda arguments: " ".join(map(str, arguments[1:])))
def test_no_output_is_an_input_or_another_output(
    made: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[Any]
) -> None:
    monkeypatch.chdir(made)
    before = hashes(made)
    command, *rest = arguments
    result = run(command, *rest)
    assert result.exit_code == 2, result.output
    assert "would replace" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert hashes(made) == before


def test_a_report_may_lie_beside_what_it_is_about(made: Path) -> None:
    report = made / "asr" / "report.json"
    assert run(mimo_check, made / LM, "--checkpoint", made / "asr", "--json", report).exit_code == 0
    report.unlink()


def test_a_link_in_the_place_of_a_file_that_is_made_stays(made: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "disk").mkdir()
    link = tmp_path / "out" / "mimo-asr-q8_0.gguf"
    link.symlink_to("../disk/q8.gguf")
    assert run(mimo_quantize, made / LM, link, "--outtype", "q8_0").exit_code == 0
    assert link.is_symlink()
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["q8.gguf"]
    assert run(mimo_check, link, "--static", "--json", tmp_path / "out" / "r.json").exit_code == 0


@pytest.mark.parametrize("name", ["mimo-asr-q8_0.gguf.part", "mimo-asr-q8_0.gguf.part.journal"])
def test_a_part_or_journal_that_is_a_link_is_not_followed(made: Path, tmp_path: Path, name: str) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (tmp_path / name).symlink_to(precious)
    result = run(mimo_quantize, made / LM, tmp_path / "mimo-asr-q8_0.gguf", "--outtype", "q8_0")
    assert result.exit_code == 2, result.output
    assert "is a symbolic link" in result.stderr
    assert precious.read_text() == "mine"
    assert (tmp_path / name).is_symlink()
    assert not (tmp_path / "mimo-asr-q8_0.gguf").exists()


@pytest.mark.parametrize("kind", ["another name", "content", "pipe"])
def test_what_is_called_like_a_part_and_is_none_is_left_alone(made: Path, tmp_path: Path, kind: str) -> None:
    part, target = tmp_path / "mimo-asr-q8_0.gguf.part", tmp_path / "mimo-asr-q8_0.gguf"
    if kind == "pipe":
        os.mkfifo(part)
    else:
        part.write_bytes(b"GGUF, of a browser's download")
    if kind == "another name":
        os.link(part, tmp_path / "backup")
    result = run(mimo_quantize, made / LM, target, "--outtype", "q8_0")
    assert result.exit_code == 2, result.output
    assert "expected a file of an earlier run's, or none; move it away" in result.stderr
    assert stat.S_ISFIFO(part.stat().st_mode) if kind == "pipe" else part.read_bytes().startswith(b"GGUF, of")
    assert not target.exists()


def test_a_device_stays_a_device(made: Path) -> None:
    result = run(mimo_check, made / LM, "--static", "--json", "/dev/null", "--html", "/dev/null")
    assert result.exit_code == 0, result.output
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_report_can_go_down_a_pipe(made: Path) -> None:
    """`--json /dev/stdout | jq`: behind what is printed."""
    code = "from mimo_commands.entry import check; check()"
    command = [sys.executable, "-c", code, str(made / LM), "--static", "--junit", "/dev/stdout"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert found.stdout.index("\nPASS\n") < found.stdout.index("<?xml")


def test_stages_are_dumped_whole_or_not_at_all(made: Path, tmp_path: Path) -> None:
    """A disk that is full: no file may be longer than 100 kB, and a signal says so."""
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000));"
        "from mimo_commands.entry import check; check()"
    )
    command = [sys.executable, "-c", code, str(made / TOKENIZER), "--dump", str(tmp_path / "stages")]
    found = subprocess.run(command, capture_output=True, text=True)
    assert (found.returncode, found.stderr) == (
        2,
        f"error: {tmp_path}/stages/tok_mel.npy: cannot be written: File too large\n",
    )
    for file in (tmp_path / "stages").iterdir():
        np.load(file)


def test_stages_of_clips_of_one_name_are_kept_apart(made: Path, tmp_path: Path) -> None:
    wave, rate = soundfile.read(JFK)
    for name, samples in (("a", wave[: 2 * rate]), ("b", wave[: 3 * rate])):
        (tmp_path / name).mkdir()
        soundfile.write(tmp_path / name / "clip.wav", samples, rate)
    clips = [option for name in "ab" for option in ("--audio", tmp_path / name / "clip.wav")]
    result = run(mimo_check, made / TOKENIZER, *clips, "--dump", tmp_path / "stages")
    assert result.exit_code == 0, result.output
    lengths = [len(np.load(tmp_path / "stages" / name / "tok_mel.npy")) for name in ("clip.wav", "clip.wav (2)")]
    assert lengths == [201, 301]


def commands() -> Iterator[click.Command]:
    for command in (mimo_convert, mimo_quantize, mimo_publish, mimo_check):
        yield from command.commands.values() if isinstance(command, click.Group) else [command]


def test_every_parameter_that_names_a_file_says_whether_it_is_read_or_written() -> None:
    """So that none can be forgotten in the comparison."""
    known = {"--base-model", "--tokenizer-base-model", "--publish", "--to"}  # names on the Hub
    for command in commands():
        for param in command.params:
            is_text = param.type.name == "text" and not {*param.opts} & known
            metavar = str(param.metavar or "")
            assert not (is_text and any(word in metavar for word in ("FILE", "DIR", "CKPT", ".gguf"))), param.opts
            if isinstance(param.type, click.Path):
                assert isinstance(param.type, (Reads, Writes, Folder, Source)), param.opts
