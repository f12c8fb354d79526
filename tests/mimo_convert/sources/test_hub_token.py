"""A token that cannot be sent: every command says that it is the token, and never what it is."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.hub_server import environment, serve

SECRET = "hf_geheim"
BAD = {"not ASCII": f"{SECRET}\u00e9x", "a control character": f"{SECRET}\x1bx", "a space": f"{SECRET} x"}
COMMANDS = {
    "convert": ["from mimo_commands.convert import main; main()", "some/repo", "--out", "{folder}"],
    "publish": ["from mimo_commands.publish import main; main()", "{folder}", "--to", "alice/x", "--yes"],
    "nightly": ["from mimo_commands.check import main; main()", "nightly", "{folder}/nightly.toml"],
    "check": ["from mimo_commands.check import main; main()", "reference", "some/repo", "-o", "{folder}/r.safetensors"],
}
NIGHTLY = '[[target]]\nname = "a"\nrepo = "some/repo"\nfile = "x.gguf"\nreference = "r"\n'


def run(folder: Path, command: str, token: str, in_file: bool) -> tuple[int, str]:
    (folder / "nightly.toml").write_text(NIGHTLY)
    (folder / "x.gguf").write_bytes(b"GGUF")
    with serve({}) as hub:
        known = environment(hub, folder / "home", "" if in_file else token)
        (folder / "home").mkdir()
        if in_file:
            (folder / "home" / "token").write_text(token, encoding="utf-8")
        words = [word.format(folder=folder) for word in COMMANDS[command]]
        ended = subprocess.run([sys.executable, "-c", *words], env=known, capture_output=True, text=True, timeout=60)
        assert hub.asked == []
    return ended.returncode, ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("command", "wrong", "in_file"),
    [*((command, "not ASCII", False) for command in COMMANDS), ("convert", "a space", True),
     ("publish", "a control character", False), ("nightly", "a control character", True), ("check", "not ASCII", True)],
)  # fmt: skip
def test_a_token_that_cannot_be_sent(tmp_path: Path, command: str, wrong: str, in_file: bool) -> None:
    status, said = run(tmp_path, command, BAD[wrong], in_file)
    where = str(tmp_path / "home" / "token") if in_file else "HF_TOKEN"
    assert status == 2, said
    assert f"{where}: holds a token that cannot be sent: character 10 of 11 is {wrong}" in said
    assert SECRET not in said + "".join(path.read_text() for path in tmp_path.rglob("*.log"))
    assert "Traceback" not in said
