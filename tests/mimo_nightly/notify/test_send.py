"""Nightly runs that tell somebody: once a change, whatever happens in between, and with no say in the result."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mimo_nightly import run as nightly_run
from mimo_nightly.config import read_config
from mimo_nightly.files.lock import locked
from mimo_nightly.history import FAILED, PASSED, UNCHECKED, History
from mimo_nightly.notify import webhook
from mimo_nightly.notify.outbox import Outbox
from mimo_nightly.notify.send import channel_of, notify
from mimo_nightly.process import Found, Job
from tests.mimo_nightly.nightly_runs import Ended, end, is_running, of_tokenizer, run, wait_for
from tests.system.signals import heed_interrupts

from .receiver import SECRET, Receiver, receiving

VARIABLE = "MIMO_WEBHOOK"
Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "FIRST_WAIT", 0.01)


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with receiving() as found:
        monkeypatch.setenv(VARIABLE, found.url)
        yield found


@pytest.fixture
def states(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the next run finds of each target, in the place of a process."""
    found: dict[str, str] = {}

    def check(job: Job) -> Found:
        state = found[job.target.name]
        return Found(state, problems=[] if state == PASSED else [f"{job.target.name} is {state}"])

    monkeypatch.setattr(nightly_run, "check_in_subprocess", check)
    return found


def write(folder: Path, how: str, *names: str) -> Path:
    path = folder / "nightly.toml"
    targets = [of_tokenizer(name, folder / f"{name}.gguf") for name in names or ("asr",)]
    path.write_text("".join([f"[notify]\n{how}\n\n", *targets]))
    return path


WEBHOOK = f"webhook_env = '{VARIABLE}'"


def test_one_message_a_run_tells_every_change(receiver: Receiver, states: dict[str, str], tmp_path: Path) -> None:
    config = write(tmp_path, WEBHOOK, "one", "two", "three")
    states.update(one=PASSED, two=PASSED, three=UNCHECKED)
    assert run("nightly", config).status == 2
    assert [line for line in receiver.texts[0].splitlines() if line.startswith(("one", "two", "three"))] == [
        "three: NOT CHECKED"
    ]
    assert run("nightly", config).status == 2
    assert len(receiver.texts) == 1, "nothing changed"
    states.update(one=FAILED, three=PASSED)
    ended = run("nightly", config)
    assert (ended.status, ended.stderr) == (1, "notify: told 127.0.0.1 of 2 changes of state\n")
    lines = receiver.texts[1].splitlines()
    assert lines[0] == "✗ FAIL: 1 of 3 targets failed"
    assert [line for line in lines if "→" in line] == ["one: PASS → FAIL", "three: NOT CHECKED → PASS"]
    assert "  one is failed" in lines
    assert len(receiver.texts) == 2


def test_a_failure_is_shown_and_told_next_time(receiver: Receiver, states: dict[str, str], tmp_path: Path) -> None:
    """The run's exit status is what it would be."""
    config, summary = write(tmp_path, WEBHOOK), tmp_path / "summary.md"
    states["asr"] = FAILED
    receiver.answers = [404]
    ended = run("nightly", config)
    assert ended.status == 1
    assert ended.stderr == "notify: 127.0.0.1: HTTP 404 Not Found; the next run tells 1 change of state\n"
    assert "Notification failed" in (tmp_path / "pages/index.html").read_text()
    shown = run("history", config)
    assert shown.status == 1
    assert "UTC: 127.0.0.1: HTTP 404 Not Found" in shown.stdout
    assert "the next run tells it: asr FAIL (run 1)" in shown.stdout
    [change] = json.loads(run("history", config, "--json").stdout)["notifications"]
    assert (change["target"], change["failure"], change["sent"]) == ("asr", "127.0.0.1: HTTP 404 Not Found", "")
    assert "Notification failed" in run("nightly", config, "--dry-run").stdout

    states["asr"] = PASSED
    ended = run("nightly", config, "--summary", summary)
    assert ended.status == 0
    assert ended.stderr.splitlines()[0].startswith("Notification failed on ")
    assert "Notification failed on" in summary.read_text()
    lines = receiver.texts[1].splitlines()
    assert [line.partition(" (run")[0] for line in lines if line.startswith("asr")] == ["asr: FAIL → PASS", "asr: FAIL"]

    run("nightly", config, "--summary", summary)
    for text in (summary.read_text(), (tmp_path / "pages/index.html").read_text(), run("history", config).stdout):
        assert "Notification failed" not in text
    told = json.loads(run("history", config, "--json").stdout)["notifications"]
    assert all(one["sent"] for one in told)


def test_nobody_learns_the_url(receiver: Receiver, states: dict[str, str], tmp_path: Path) -> None:
    config = write(tmp_path, WEBHOOK)
    states["asr"] = FAILED
    receiver.answers = [404]
    outputs = ("--summary", tmp_path / "summary.md", "--junit", tmp_path / "junit.xml")
    for arguments in (("nightly", config, *outputs), ("nightly", config, "--check-config"), ("history", config),
                      ("nightly", config, "--test-notify"), ("nightly", config, "--dry-run")):  # fmt: skip
        ended = run(*arguments)
        assert "verySecretPart" not in ended.stdout + ended.stderr
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or b"verySecretPart" not in path.read_bytes(), path


@pytest.mark.parametrize(
    ("how", "says", "missing"),
    [("command = ['false']", "false ended with exit status 1", ""),
     ("command = ['no-such-program']", "no-such-program cannot be started: No such file", "there is no program"),
     ("webhook_env = 'NO_SUCH_VARIABLE'", "NO_SUCH_VARIABLE is not set", "NO_SUCH_VARIABLE is not set")],
)  # fmt: skip
def test_what_fails_does_not_change_the_exit_status(
    states: dict[str, str], tmp_path: Path, how: str, says: str, missing: str
) -> None:
    """What is known to fail is told before the run, too."""
    config, told = write(tmp_path, how), ""
    for state, status in ((PASSED, 0), (FAILED, 1), (UNCHECKED, 2), (PASSED, 0)):
        states["asr"] = state
        ended = run("nightly", config)
        assert ended.status == status
        assert ended.stderr.startswith(f"notify: {missing}" if missing else "Notification" if says in told else "")
        told = ended.stderr
    assert f"notify: {says}" in told
    assert missing in run("nightly", config, "--check-config").stdout.splitlines()[1]


def test_a_command_is_told(states: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "tell.py").write_text("import sys; open('told', 'a').write(sys.stdin.read() + '\\n')")
    config = write(tmp_path, f"command = ['{sys.executable}', 'tell.py']")
    states["asr"] = FAILED
    assert run("nightly", config).status == 1
    assert (tmp_path / "told").read_text().startswith("✗ FAIL: 1 of 1 target failed\n")


def test_a_run_that_was_killed_before_it_told_is_told_by_the_next(
    receiver: Receiver, states: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write(tmp_path, WEBHOOK)
    states["asr"] = FAILED
    with monkeypatch.context() as patched:
        patched.setattr("mimo_commands.nightly.notify", lambda *_: None)
        assert run("nightly", config).status == 1
    assert receiver.texts == []
    assert run("nightly", config).status == 1
    assert "asr: FAIL (run 1, " in receiver.texts[0]


def test_another_run_under_way_tells_for_this_one(receiver: Receiver, states: dict[str, str], tmp_path: Path) -> None:
    path = write(tmp_path, WEBHOOK)
    config, told = read_config(path), list[str]()
    channel = channel_of(config)
    assert channel
    with locked(config.history, "now"):
        notify(config, channel, told.append)
    assert "is in use by process" in told[0]
    assert receiver.texts == []


UNREACHABLE = """
from mimo_nightly import process, run
run.check_in_subprocess = lambda job: process.Found()
from mimo_commands.check import main
main()
"""


def test_an_interrupt_loses_nothing(tmp_path: Path) -> None:
    """Neither the message, nor what else the run writes."""
    code = "import os, time; open('began', 'w').write(str(os.getpid())); time.sleep(60)"
    config, summary = write(tmp_path, f'command = [\'{sys.executable}\', "-c", "{code}"]'), tmp_path / "summary.md"
    process = subprocess.Popen(
        [sys.executable, "-c", UNREACHABLE, "nightly", str(config), "--summary", str(summary)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts,
    )  # fmt: skip
    wait_for(lambda: (tmp_path / "began").exists() and (tmp_path / "began").read_text())
    process.send_signal(signal.SIGINT)
    ended = end(process)
    assert (ended.status, ended.stderr) == (130, "interrupted; what nobody was told of is sent with the next run\n")
    assert "NOT CHECKED" in summary.read_text()
    with closing(History(tmp_path / "history.sqlite")) as history:
        assert [(one.after, one.failure) for one in Outbox(history).pending()] == [("NOT CHECKED", "")]
        assert history.runs()[-1].finished
    wait_for(lambda: not is_running(int((tmp_path / "began").read_text())))


# ── trying it ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_test_message_is_marked_as_one(receiver: Receiver, tmp_path: Path) -> None:
    config = write(tmp_path, WEBHOOK)
    ended = run("nightly", config, "--test-notify")
    assert ended == Ended(0, f"a test message was sent: posts to 127.0.0.1 ({VARIABLE})\n", "")
    assert receiver.texts == [f"mimo-check nightly {config}: this is a test of [notify]. Nothing has changed."]
    receiver.answers = [403]
    ended = run("nightly", config, "--test-notify")
    assert ended == Ended(1, "", "notify: 127.0.0.1: HTTP 403 Forbidden\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nightly.toml"], "nothing is recorded"


def test_without_notify_there_is_nothing_to_try(tmp_path: Path) -> None:
    config = tmp_path / "nightly.toml"
    config.write_text(of_tokenizer("asr", tmp_path / "a.gguf"))
    ended = run("nightly", config, "--test-notify")
    assert ended.status == 2
    assert ended.stderr == f"error: {config}: has no [notify]; expected a table with command or webhook_env\n"


@pytest.mark.parametrize("option", ["--check-config", "--dry-run", "--test-notify", None])
def test_a_url_that_cannot_be_used_is_told_before_anything_is_run(
    states: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str | None
) -> None:
    monkeypatch.setenv(VARIABLE, f"http://hooks.example.org{SECRET}")
    config = write(tmp_path, WEBHOOK)
    ended = run("nightly", config, *[option] if option else [])
    assert (ended.status, ended.stdout) == (2, "")
    says = f"error: {config}: [notify]: {VARIABLE}: holds an http:// URL of hooks.example.org, where others can read"
    assert ended.stderr.startswith(says)
    assert [path.name for path in tmp_path.iterdir()] == ["nightly.toml"]
