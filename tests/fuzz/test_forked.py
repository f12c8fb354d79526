"""A forked command is the command."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fuzz.case import Case, Folders
from tests.fuzz.forked import SCRIPTS, Ended, Forks
from tests.fuzz.seeds import run_case


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    with Forks(tmp_path_factory.mktemp("forks")) as made:
        yield made


@pytest.mark.parametrize(
    "command",
    [
        ["mimo-check", "--version"],
        ["mimo-check", "bad.gguf", "--static"],
        ["mimo-check", "history", "nowhere.toml"],
        ["mimo-convert", "nowhere/at/all"],
        ["mimo-convert", "--no-such-option"],
        ["mimo-quantize", "bad.gguf", "out.gguf"],
        ["mimo-publish", ".", "--to", "x"],
    ],
)
def test_it_ends_and_speaks_alike(forks: Forks, tmp_path: Path, command: list[str]) -> None:
    folders = Folders(tmp_path / "case")
    ended = run_case(Case(command[0], command[1:], {"bad.gguf": b"GGUF" * 99}, True), folders, forks)
    module, _, function = SCRIPTS[command[0]].partition(":")
    code = f"import sys; sys.argv[0] = {command[0]!r}; from {module} import {function}; sys.exit({function}())"
    real = subprocess.run(
        [sys.executable, "-c", code, *command[1:]], cwd=folders.work, capture_output=True, check=False
    )
    assert (ended.status, folders.stream("stdout")) == (real.returncode, real.stdout)
    assert folders.stream("stderr") == real.stderr


def test_each_run_begins_anew(forks: Forks, tmp_path: Path) -> None:
    case = Case("mimo-check", ["bad.gguf", "--static"], {"bad.gguf": b"GGUF" * 99}, True)
    first, second = (run_case(case, Folders(tmp_path / name), forks) for name in "ab")
    assert same(first) == same(second)
    assert (tmp_path / "a/told/stderr").read_bytes() == (tmp_path / "b/told/stderr").read_bytes()


def same(ended: Ended) -> Ended:
    return replace(ended, seconds=0, cpu_seconds=0, memory=0)
