"""- is standard input or output; -q, -v and -o in every command."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mimo_api import ConvertOptions, convert
from mimo_convert.model.model_file import OpenFiles
from mimo_families.registry import families

COMMANDS = {
    "mimo-convert": [], "mimo-quantize": [], "mimo-publish": [],
    "mimo-check": ["file", "reference", "transcribe", "nightly", "history"],
}  # fmt: skip


def run(command: str, *arguments: object, text: str = "") -> subprocess.CompletedProcess[str]:
    words = [Path(sys.executable).with_name(command), *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, input=text)


def with_nan(file: Path, folder: Path) -> Path:
    """A copy of the file with a NaN in a norm."""
    begin = OpenFiles(families()).header(file).tensors["llm.final_norm.weight"].begin
    content = bytearray(file.read_bytes())
    content[begin : begin + 4] = b"\xff\xff\xff\xff"
    damaged = folder / "damaged.gguf"
    damaged.write_bytes(content)
    return damaged


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("streams")
    convert(ConvertOptions("tiny", types=["q8_0"], out=out, checked=False))
    return out / "mimo-asr-q8_0.gguf"


def test_a_report_on_stdout_is_that_alone_and_the_table_goes_to_stderr(file: Path) -> None:
    found = run("mimo-check", file, "--static", "--json", "-")
    assert json.loads(found.stdout)["passed"] is True
    assert found.stderr.endswith("\nPASS\n")


def test_a_recipe_may_come_from_stdin(file: Path) -> None:
    found = run("mimo-convert", "tiny", "--recipe", "-", "--dry-run", text="lm_head=q6_k\n")
    [line] = [line for line in found.stdout.splitlines() if "lm_head" in line]
    assert "q6_k" in line


def test_the_table_goes_to_a_file_and_a_failure_is_still_said(file: Path, tmp_path: Path) -> None:
    found = run("mimo-check", file, "--static", "-o", tmp_path / "table.txt")
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")
    assert (tmp_path / "table.txt").read_text().endswith("\nPASS\n")
    damaged = with_nan(file, tmp_path)
    found = run("mimo-check", damaged, "--static", "-o", tmp_path / "table.txt")
    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr.startswith(f"FAIL  {damaged}: 1 of the gates: ")
    assert "FAIL: 1 of the rules" in (tmp_path / "table.txt").read_text()


def test_a_quiet_command_says_nothing_but_why_a_file_failed(file: Path, tmp_path: Path) -> None:
    found = run("mimo-check", file, "--static", "-q")
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")
    damaged = with_nan(file, tmp_path)
    found = run("mimo-check", damaged, "--static", "--quiet")
    assert (found.returncode, found.stdout) == (1, "")
    assert len(found.stderr.splitlines()) == 1
    assert found.stderr.startswith(f"FAIL  {damaged}: ")


def test_stdin_cannot_stand_for_a_file_that_is_mapped(file: Path, tmp_path: Path) -> None:
    found = run("mimo-check", "-", "--static")
    expected = "error: -: is standard input, which can only be read once and in order; save it as a file first\n"
    assert (found.returncode, found.stderr) == (2, expected)


@pytest.mark.parametrize("options", [["--json", "-", "--html", "-"], ["--json", "-", "-o", "-"]])
def test_two_outputs_cannot_both_be_stdout(file: Path, options: list[str]) -> None:
    found = run("mimo-check", file, "--static", *options)
    assert (found.returncode, found.stdout) == (2, "")
    assert "are both -, standard output; give one of them a file" in found.stderr


def test_quiet_and_verbose_contradict_each_other(file: Path) -> None:
    found = run("mimo-check", file, "--static", "-q", "-v")
    assert found.returncode == 2
    assert found.stderr == "error: --quiet: and --verbose contradict each other; give one of them\n"


@pytest.mark.parametrize(("command", "sub"), [(name, sub) for name, subs in COMMANDS.items() for sub in subs or [""]])
def test_every_command_has_them(command: str, sub: str) -> None:
    found = run(command, *filter(None, [sub]), "--help").stdout
    for option in ("-q, --quiet", "-v, --verbose", "--color", "-o, --"):
        assert option in found, option
