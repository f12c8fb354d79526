"""A command gets the message and no secret, has its time, and says why it could not."""

import json
import os
import sys
import time
from pathlib import Path

import pytest

from mimo_nightly.notify import command
from mimo_nightly.notify.channel import NotSentError
from mimo_nightly.notify.command import Command, environment
from tests.mimo_nightly.nightly_runs import is_running, wait_for

WRITE = """
import json, os, sys
from pathlib import Path
Path("got.json").write_text(json.dumps([sys.argv[1:], sys.stdin.read(), os.getcwd(), dict(os.environ)]))
"""


def of(code: str, folder: Path, *arguments: str) -> Command:
    return Command([sys.executable, "-c", code, *arguments], folder)


def failure(channel: Command) -> str:
    with pytest.raises(NotSentError) as error:
        channel.send("hello")
    said = str(error.value)
    assert said.isprintable()
    return said.removeprefix(f"{channel.name} ")


def test_it_gets_the_message_and_its_arguments_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_abc")
    monkeypatch.setenv("KEPT", "here")
    of(WRITE, tmp_path, "$HOME; *", "", "two words").send("asr: PASS → FAIL\n")
    arguments, text, folder, variables = json.loads((tmp_path / "got.json").read_text())
    assert arguments == ["$HOME; *", "", "two words"], "there is no shell"
    assert text == "asr: PASS → FAIL\n"
    assert folder == str(tmp_path)
    assert "HF_TOKEN" not in variables
    assert (variables["KEPT"], variables["PATH"]) == ("here", os.environ["PATH"])


def test_a_program_is_sought_on_the_path_or_beside_the_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("bin/tell", "here.sh"):
        (tmp_path / name).write_text(f"#!/bin/sh\ntouch got-{Path(name).name}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    for name in ("tell", "./here.sh"):
        channel = Command([name], tmp_path)
        assert (channel.about(), channel.missing) == (f"runs {Path(name).name}", "")
        channel.send("hello")
        assert (tmp_path / f"got-{Path(name).name}").exists()
    for missing in ("no-such-program", "./tell", str(tmp_path / "gone")):
        channel = Command([missing], tmp_path)
        assert channel.missing == f"there is no program {Path(missing).name}"
        assert failure(channel) == "cannot be started: No such file or directory"


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("raise SystemExit(3)", "ended with exit status 3"),
        ("import os; os.kill(os.getpid(), 9)", "was killed by SIGKILL"),
        ("print('one'); print('two\\n'); raise SystemExit(1)", "ended with exit status 1; its last line: two"),
        ("import sys; sys.exit('\\x1b[31mno\\u202e')", "ended with exit status 1; its last line: \\x1b[31mno\\u202e"),
        ("import sys; sys.exit('bad token hf_abcDEF')", "ended with exit status 1; its last line: bad token ***"),
        ("import sys; sys.exit('x' * 3_000_000)", f"ended with exit status 1; its last line: {'x' * 300}"),
    ],
)
def test_how_it_failed_is_one_line(tmp_path: Path, code: str, says: str) -> None:
    assert failure(of(code, tmp_path)) == says


def test_at_the_end_of_its_time_it_is_killed_with_what_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "SECONDS", 0.5)
    begin = time.monotonic()
    said = failure(Command(["sh", "-c", "sleep 60 & echo $! > child; echo waiting; sleep 60"], tmp_path))
    assert said == "was killed after 0 s; its last line: waiting"
    assert time.monotonic() - begin < 10
    wait_for(lambda: not is_running(int((tmp_path / "child").read_text())))


def test_what_it_leaves_in_the_background_is_not_waited_for(tmp_path: Path) -> None:
    begin = time.monotonic()
    Command(["sh", "-c", "sleep 5 & echo started"], tmp_path).send("hello")
    assert time.monotonic() - begin < 4


def test_one_that_does_not_read_its_message_is_none_the_worse(tmp_path: Path) -> None:
    Command(["true"], tmp_path).send("x" * 200_000)


def test_no_variable_looks_like_a_secret() -> None:
    secrets = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "GITHUB_TOKEN", "SLACK_WEBHOOK_URL", "MIMO_WEBHOOK", "API_KEY",
               "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "DB_PASSWORD", "PGPASSWORD", "my_secret", "OpenAI_ApiKey",
               "CI_JOB_JWT", "GH_PAT", "GOOGLE_APPLICATION_CREDENTIALS", "DOCKER_AUTH_CONFIG", "MY_PASSPHRASE",
               ]  # fmt: skip
    others = ["PATH", "HOME", "LANG", "SSH_AUTH_SOCK", "https_proxy", "KEYBOARD", "MAILTO", "TZ", "PATTERN"]
    values = dict.fromkeys([*secrets, *others], "x") | {"INNOCENT": "see hf_abcdef"}
    assert environment(values) == dict.fromkeys(others, "x")
