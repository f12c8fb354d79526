"""How a command ends, as a shell sees it."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from mimo_commands.console import handle_errors
from mimo_convert.command.outcome import exit_status
from quantize.errors import InputError
from tests.system.signals import heed_interrupts

COMMANDS = ["mimo_commands.convert", "mimo_commands.quantize", "mimo_commands.check", "mimo_commands.publish"]


def start(code: str, *arguments: str, env: dict[str, str] | None = None, **options: object) -> "subprocess.Popen[str]":
    """Python with `code`, which has the entry's `run`; a process that heeds Ctrl-C."""
    return subprocess.Popen(
        [sys.executable, "-c", f"from mimo_commands.entry import run\n{code}", *arguments],
        text=True, stderr=subprocess.PIPE, preexec_fn=heed_interrupts, env={**os.environ, **(env or {})}, **options,
    )  # type: ignore[call-overload, no-any-return]  # fmt: skip


def command_that(does: str, folder: Path) -> str:
    """Code that runs a command, `mimo_made_up`, whose body is `does`."""
    (folder / "mimo_made_up.py").write_text(
        "import click\nfrom mimo_commands.console import handle_errors\nfrom mimo_convert.terminal import show\n"
        f"@click.command()\n@handle_errors\ndef main():\n    {does}\n"
    )
    return f"import sys; sys.path.insert(0, {str(folder)!r}); run('mimo_made_up')"


@pytest.mark.parametrize(
    ("passed", "status"),
    [([], 0), ([True], 0), ([None], 0), ([True, None], 0), ([False], 1), ([True, False, None], 1)],
)
def test_the_exit_status_is_1_only_for_a_check_that_failed(passed: list[bool | None], status: int) -> None:
    assert exit_status(iter(passed)) == status


@pytest.mark.parametrize(
    ("error", "status", "stderr"),
    [
        (InputError("x.gguf", "is odd", expected="even", todo="ask"), 2, "error: x.gguf: is odd; expected even; ask\n"),
        (OSError(36, "File name too long", "xxx"), 2, "error: xxx: File name too long\n"),
        (MemoryError(), 2, "error: memory: there is not enough; use a machine with more, or a smaller file\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_what_a_user_can_cause_is_one_line(error: BaseException, status: int, stderr: str) -> None:
    @click.command()
    @handle_errors
    def command() -> None:
        raise error

    result = CliRunner().invoke(command)
    assert (result.exit_code, result.stdout, result.stderr) == (status, "", stderr)


def test_what_nobody_foresaw_is_one_line_with_a_file_to_send_and_no_gate_that_failed(tmp_path: Path) -> None:
    does = "token = 'hf_' + 'Sec' + 'ret123'; raise ZeroDivisionError(f'with {token} and other words')"
    env = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HF_TOKEN": "other"}
    process = start(command_that(does, tmp_path), env=env)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 3
    [line] = stderr.splitlines()
    [file] = (tmp_path / "cache" / "mimo-convert").iterdir()
    assert line.startswith("error: internal error in ")
    assert line.endswith(f"this is a bug in mimo-convert: please report it, with {file}")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    text = file.read_text()
    assert "Traceback (most recent call last)" in text
    assert "ZeroDivisionError: with *** and *** words" in text
    assert "Secret123" not in text + stderr


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    process = start(command_that("1 / 0", tmp_path), "--debug", env={"XDG_CACHE_HOME": str(tmp_path / "cache")})
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "Traceback (most recent call last)" in stderr
    assert stderr.splitlines()[-1].startswith("error: internal error in ")


def test_where_no_file_can_be_written_the_line_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    process = start(command_that("1 / 0", tmp_path), env={"XDG_CACHE_HOME": str(tmp_path / "cache")})
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 3
    assert stderr.endswith("please report it, with what --debug shows\n")


@pytest.mark.parametrize("module", COMMANDS)
def test_ctrl_c_during_the_imports_is_an_interrupt(module: str, tmp_path: Path) -> None:
    """A module that every command imports waits there for the signal, which Python may get at any moment."""
    code = (
        "import sys, time, importlib.abc\n"
        "class Slow(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == sys.argv[1]:\n"
        "            print('here', flush=True)\n"
        "            time.sleep(60)\n"
        "sys.meta_path.insert(0, Slow())\n"
        "module = sys.argv.pop(2); run(module)"
    )
    for awaited in ("click", "re2"):
        process = start(code, awaited, module, stdout=subprocess.PIPE)
        assert process.stdout
        assert process.stdout.readline() == "here\n"
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
        assert (process.returncode, stderr) == (130, "interrupted\n")


@pytest.mark.parametrize("does", ["[show('x' * 1000) for _ in range(1000)]", None])
def test_a_pipe_that_nobody_reads_ends_a_command_quietly_as_in_a_shell(does: str | None, tmp_path: Path) -> None:
    """While it prints, and while it prints its help."""
    reading, writing = os.pipe()
    os.close(reading)
    code = command_that(does, tmp_path) if does else "run('mimo_commands.convert')"
    process = start(code, *([] if does else ["--help"]), stdout=writing)
    os.close(writing)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (141, "")


def test_a_full_disk_under_stdout_is_named(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        process = start(command_that("show('x' * 100_000)", tmp_path), stdout=full)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 2
    assert stderr == "error: standard output: cannot be written: No space left on device\n"


@pytest.mark.parametrize("module", COMMANDS)
def test_a_usage_error_is_told_and_escaped(module: str) -> None:
    process = start(f"run({module!r})", "file", "--no-such-\x1b[2J")
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "\x1b" not in stderr
    assert "No such option" in stderr


def test_a_terminal_that_knows_few_characters_gets_the_others_as_numbers(tmp_path: Path) -> None:
    env = {"PYTHONIOENCODING": "latin-1"}
    process = start(command_that("show('✓ great')", tmp_path), stdout=subprocess.PIPE, env=env)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout, stderr) == (0, "\\u2713 great\n", "")
