"""What a command shows: quietly, in colour, on a terminal and without one."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from mimo_convert.command import console
from mimo_convert.command.console import ALWAYS, NEVER, QUIET, VERBOSE, Console
from mimo_convert.listener import listening, phase
from mimo_convert.terminal import show, tell, warn

TABLE = "tok_mel  1101×128  ok\ntok_conv1  1101×256  FAIL\n\nFAIL: 1 of the gates"


def test_quiet_says_nothing_but_warnings_and_why_a_file_failed(capsys: pytest.CaptureFixture[str]) -> None:
    with listening(Console(QUIET)):
        show("PASS")
        show(TABLE, "FAIL  x.gguf: 1 of the gates: tok_conv1")
        tell("resuming")
        warn("a bad recipe")
    assert capsys.readouterr() == ("", "FAIL  x.gguf: 1 of the gates: tok_conv1\nwarning: a bad recipe\n")


def test_results_make_way_for_an_output_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    with listening(Console(to_stderr=True)):
        show("PASS")
    assert capsys.readouterr() == ("", "PASS\n")


def test_verdicts_are_coloured_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    with listening(Console(color=ALWAYS)):
        show(TABLE)
    coloured = capsys.readouterr().out
    assert re.findall(r"\x1b\[3(\d)m\x1b\[1m(\w+)\x1b\[0m", coloured) == [("2", "ok"), ("1", "FAIL"), ("1", "FAIL")]
    assert re.sub(r"\x1b\[\d+m", "", coloured) == f"{TABLE}\n"


def test_without_a_terminal_nothing_is_coloured(capsys: pytest.CaptureFixture[str]) -> None:
    for color in ("auto", NEVER):
        with listening(Console(color=color)):
            show(TABLE)
        assert capsys.readouterr().out == f"{TABLE}\n"


def test_without_a_terminal_a_line_is_told_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(console.time, "monotonic", lambda: float(next(clock)))
    with listening(Console()), phase("converting", 16e9) as progress:
        for _ in range(8):
            progress.advance(2e9)
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["converting: 6.00 GB of 16.00 GB, 38%; about 50 s left",
                     "converting: 12.00 GB of 16.00 GB, 75%; about 20 s left"]  # fmt: skip


def test_a_bar_has_whole_numbers(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(console, "DELAY", 0)
    with listening(Console()), phase("audio features", 643.8532426303855, "s of audio") as progress:
        time.sleep(0.2)  # tqdm draws ten times a second
        progress.advance(58.2021768707483)
    assert re.search(r"audio features: .* 58/644 \[[^]]* s of audio/s", capsys.readouterr().err)


def test_verbose_says_how_long_each_phase_took(capsys: pytest.CaptureFixture[str]) -> None:
    with listening(Console(VERBOSE)), phase("decode", 27, "tokens") as progress:
        progress.advance(27)
    assert re.fullmatch(r"decode: 27 of 27 tokens, 100%; \d+\.\d s\n", capsys.readouterr().err)


PROGRAM = """
import time
from mimo_convert.command.console import Console
from mimo_convert.listener import listening, phase
from mimo_convert.terminal import show, tell
with listening(Console()), phase("converting", 4e9) as progress:
    for i in range(4):
        time.sleep(0.2)
        progress.advance(1e9, f"blk.{i}.weight")
    tell("resuming")
show("PASS")
"""


@pytest.mark.parametrize("no_color", ["", "1"])
def test_on_a_terminal_there_is_a_bar_with_its_name_and_it_goes(no_color: str, tmp_path: Path) -> None:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=slave, stderr=slave, env={**os.environ, "NO_COLOR": no_color}
    )
    os.close(slave)
    said = bytearray()
    try:
        while block := os.read(master, 4096):
            said += block
    except OSError:  # the other end is closed
        pass
    assert process.wait() == 0
    text = said.decode()
    for part in ("converting:", "blk.3.weight", "4.00G"):
        assert part in text
    assert text.endswith("PASS\r\n")  # said by nobody's listener, plainly
