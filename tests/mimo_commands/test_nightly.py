"""`mimo-check nightly` and `mimo-check history`: what is said of a request, and the exit status."""

import json
import re
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mimo_commands.check import main
from mimo_commands.nightly import line
from mimo_nightly.history import FAILED, HEADER, PASSED, UNCHECKED, WHOLE, History, Problem, TargetResult
from mimo_nightly.show.state import status_of
from runtime_check.audio.jfk import JFK
from tests.mimo_nightly.nightly_runs import of_tokenizer, write_config


def check(*arguments: Any) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def result(state: str, problems: list[str], scope: str = WHOLE, run: int = 1) -> TargetResult:
    return TargetResult(run, "asr", "2026-11-21T03:00:00Z", 12.34, state, scope, [Problem(text) for text in problems])


def test_other_commands_need_nothing_of_nightly_runs() -> None:
    """Nor does any help."""
    program = """
import sys
from click.testing import CliRunner
from mimo_commands.check import main
for arguments in (["--help"], ["nightly", "--help"], ["history", "--help"], ["none.gguf", "--static"]):
    CliRunner().invoke(main, arguments)
print([name for name in sys.modules if name.split(".")[0] == "mimo_nightly"])
"""
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.parametrize(
    ("states", "status"),
    [([], 0), ([PASSED, PASSED], 0), ([PASSED, FAILED, UNCHECKED], 1), ([UNCHECKED, PASSED], 2)],
)
def test_a_failure_weighs_more_than_what_could_not_be_checked(states: list[str], status: int) -> None:
    assert status_of([result(state, []) for state in states]) == status


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (result(PASSED, []), "asr   PASS            12.3 s"),
        (result(PASSED, [], HEADER), "asr   HEADER ONLY     12.3 s"),
        (result(FAILED, ["a: b"]), "asr   FAIL            12.3 s  a: b"),
        (result(UNCHECKED, ["a\x1b[1m", "b", "c"]), "asr   NOT CHECKED     12.3 s  a\\x1b[1m (and 2 more)"),
    ],
)
def test_a_target_is_one_line(found: TargetResult, says: str) -> None:
    assert line(found, 4) == says


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nightly", "none.toml"], "none.toml: no such file; expected a TOML file"),
        (["nightly", "nightly.toml", "--target", "b"], "--target: 'b' is not in nightly.toml; expected one of a"),
        (["nightly", "nightly.toml", "--junit", "no/j.xml"], "no/j.xml: cannot be written: its folder does not exist"),
        (["nightly", "nightly.toml", "--summary", "."], ".: is a folder; expected a file's name"),
        (["nightly", "pages.toml"], "jfk.wav/runs/1: cannot be made: Not a directory"),
        (["nightly", "history.toml"], "pages.toml: cannot be used as a history: it is not a database"),
        (["history", "none.toml"], "none.toml: no such file; expected a config, or a"),
        (["history", "nightly.toml"], "history.sqlite: there is no history yet; run `mimo-check nightly` first"),
        (["history", "jfk.wav"], "jfk.wav: is not TOML"),
    ],
)
def test_a_bad_request_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("jfk.wav").write_bytes(JFK.read_bytes()[:1000])
    target = of_tokenizer("a", tmp_path / "a.gguf")
    write_config(tmp_path, target)
    Path("pages.toml").write_text("pages = 'jfk.wav'\nhistory = 'other.sqlite'\n" + target)
    Path("history.toml").write_text("history = 'pages.toml'\n" + target)
    ended = check(*arguments)
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert ended.stderr.startswith("error: ")
    assert says in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_the_history_is_found_by_the_config_or_by_itself(tmp_path: Path) -> None:
    config = write_config(tmp_path, of_tokenizer("asr", tmp_path / "a.gguf"))
    with closing(History(tmp_path / "history.sqlite")) as history:
        history.begin("2026-11-21T03:00:00Z", "")
        history.record(result(FAILED, ["tok_pool: far off"]))
    for place in (config, tmp_path / "history.sqlite"):
        shown = check("history", place, "--target", "asr")
        assert (shown.exit_code, shown.stderr) == (1, ""), "it failed"
        assert "tok_pool: far off" in shown.stdout
    assert "has no target 'as'" in check("history", config, "--target", "as").stderr


def test_the_history_is_a_dead_mans_switch(tmp_path: Path) -> None:
    """A target that passed long ago, or never ran, is not known to be good."""
    config = write_config(tmp_path, of_tokenizer("asr", tmp_path / "a.gguf"), of_tokenizer("new", tmp_path / "b.gguf"))
    long_ago, just_now = "2026-11-21T03:00:00Z", datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    with closing(History(tmp_path / "history.sqlite")) as history:
        history.begin(long_ago, "")
        history.record(result(PASSED, []))
    assert check("history", config, "--target", "asr").exit_code == 0
    late = check("history", config, "--target", "asr", "--max-age", "36h")
    assert late.exit_code == 2
    assert re.fullmatch(r"asr: last PASS \d+ h \d\d min ago; expected within 36 h 00 min\n", late.stderr)
    never = check("history", config, "--max-age", "36h")
    assert never.exit_code == 2
    assert "new: never ran; expected within 36 h 00 min\n" in never.stderr
    with closing(History(tmp_path / "history.sqlite")) as history:
        run = history.begin(just_now, "")
        history.record(replace(result(PASSED, [], run=run), started=just_now))
    now = check("history", config, "--target", "asr", "--max-age", "2 d")
    assert (now.exit_code, now.stderr) == (0, "")
    wrong = check("history", config, "--max-age", "soon")
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert wrong.stderr == "error: --max-age: 'soon'; expected a time such as 36h, 90 min or 2 d\n"


def test_the_history_as_json_has_every_problem_whole(tmp_path: Path) -> None:
    problem = "layer_01: " + "far off " * 500 + "\x1b[31m"
    with closing(History(tmp_path / "history.sqlite")) as history:
        history.begin("2026-11-21T03:00:00Z", "")
        history.record(result(FAILED, [problem] * 9))
    shown = check("history", tmp_path / "history.sqlite", "--json")
    assert shown.exit_code == 1
    [target] = json.loads(shown.stdout)["targets"]
    assert (target["target"], target["state"], target["runs_in_state"]) == ("asr", "FAIL", 1)
    assert [one["text"] for one in target["last"]["problems"]] == [problem] * 9
    assert target["last_good"] is None
    piped = check("history", tmp_path / "history.sqlite", "--target", "asr").stdout
    assert piped.count("far off " * 499) == 9, "what is piped is not cut"
    assert "\x1b" not in piped


def test_a_config_is_checked_without_running_anything(tmp_path: Path) -> None:
    config = write_config(tmp_path, of_tokenizer("asr", tmp_path / "a.gguf"))
    found = check("nightly", config, "--check-config")
    assert (found.exit_code, found.stderr) == (0, "")
    first, last = found.stdout.splitlines()
    assert first.startswith(f"asr: {tmp_path / 'a.gguf'}, compared with ")
    assert first.endswith("; at most 45 min 00 s")
    assert last == f"{config}: 1 target, nothing was run"
    assert list(tmp_path.iterdir()) == [config]
    agreement = {"audio": "set.jsonl", "baseline": "f16.gguf", "conditions": ["clean", "speed:1.1"], "tolerance": 0.5}
    write_config(tmp_path, of_tokenizer("asr", tmp_path / "a.gguf", agreement=agreement))
    for option in ("--check-config", "--dry-run"):
        line = check("nightly", config, option).stdout.splitlines()[1]
        files = f"{tmp_path}/set.jsonl (clean, speed:1.1), at most +0.5 points from {tmp_path}/f16.gguf"
        assert line == f"asr: agreement on {files}"
    config.write_text("[[target]]\nname = 3\n")
    assert check("nightly", config, "--check-config").exit_code == 2
