"""The examples of docs/examples, by those who will read them: our parsers, YAML's, and systemd."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from mimo_commands.check import main
from mimo_nightly.config import Notify, read_config

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
COMMAND = re.compile(r"mimo-check (nightly [^>|\n]*)")  # without what the shell makes of its output


def commands(name: str) -> list[list[str]]:
    """The arguments of every `mimo-check nightly` in an example, but for comments."""
    lines = [line for line in (EXAMPLES / name).read_text().splitlines() if not line.lstrip().startswith("#")]
    return [shlex.split(found) for line in lines for found in COMMAND.findall(line)]


@pytest.mark.parametrize("name", ["github-actions.yml", "gitlab-ci.yml", "mimo-nightly.service", "crontab"])
def test_its_command_is_one(name: str) -> None:
    [[command, *arguments]] = commands(name)
    context = main.commands[command].make_context(command, arguments)
    assert context.params["config"].name == "nightly.toml"


def test_an_option_that_does_not_exist_would_be_found() -> None:
    with pytest.raises(click.UsageError, match="No such option"):
        main.commands["nightly"].make_context("nightly", ["nightly.toml", "--sumary", "x"])


def test_the_config_is_one() -> None:
    config = read_config(EXAMPLES / "nightly.toml")
    assert [(target.name, bool(target.repo), target.timeout) for target in config.targets] == [
        ("q4_k", True, 2700), ("q4_k-calibrated", True, 2700), ("q8_0-v1", True, 2700), ("qwen3-q4_k_m", True, 2700),
        ("local-f16", False, 10800),
    ]  # fmt: skip
    assert config.targets[0].gates["transcript"] == {"error_rate": 0.05}
    assert [target.agreement.baseline for target in config.targets if target.agreement] == ["mimo-asr-f16.gguf"]
    assert [target.imatrix for target in config.targets if target.rows] == ["calibrated/calibration.gguf"]
    assert config.notify == Notify((), "MIMO_WEBHOOK", transcripts=False)


def in_yaml(name: str) -> Any:
    return yaml.safe_load((EXAMPLES / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["github-actions.yml", "gitlab-ci.yml", "mimo-nightly.service", "crontab"])
def test_it_says_where_the_secrets_come_from(name: str) -> None:
    text = (EXAMPLES / name).read_text()
    config = read_config(EXAMPLES / "nightly.toml")
    assert config.notify
    for variable in ("HF_TOKEN", config.notify.webhook_env):
        assert variable in text


def test_github_keeps_the_history_of_bad_nights_too() -> None:
    workflow = in_yaml("github-actions.yml")
    steps = workflow["jobs"]["check"]["steps"]
    [night] = [number for number, step in enumerate(steps) if "mimo-check" in step.get("run", "")]
    assert '--summary "$GITHUB_STEP_SUMMARY"' in steps[night]["run"]
    before, after = steps[:night], steps[night + 1 :]
    assert all(step["if"].startswith("always()") for step in after)
    restored, saved = ([step for step in part if "cache" in step.get("uses", "")] for part in (before, after))
    config = read_config(EXAMPLES / "nightly.toml")
    kept = {config.history.name, config.pages.name, config.cache.name}
    for part in (restored, saved):
        assert {path for step in part for path in step["with"]["path"].split()} == kept
    assert [step["with"]["key"] for step in restored] == [step["with"]["key"] for step in saved]


def test_gitlab_keeps_the_history_of_bad_nights_too() -> None:
    job = in_yaml("gitlab-ci.yml")["nightly"]
    config = read_config(EXAMPLES / "nightly.toml")
    assert {*job["cache"]["paths"]} == {config.history.name, config.pages.name, config.cache.name}
    assert job["cache"]["when"] == job["artifacts"]["when"] == "always"
    [[_, *arguments]] = commands("gitlab-ci.yml")
    assert arguments[arguments.index("--junit") + 1] == job["artifacts"]["reports"]["junit"]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    for name in ("mimo-nightly.service", "mimo-nightly.timer"):
        text = (EXAMPLES / name).read_text()
        (tmp_path / name).write_text(text.replace("/opt/mimo/bin/mimo-check", str(shutil.which("true"))))
    units = [str(tmp_path / name) for name in ("mimo-nightly.service", "mimo-nightly.timer")]
    ended = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True)
    about_ours = [line for line in ended.stderr.splitlines() if "mimo-nightly" in line]
    assert (ended.returncode, about_ours) == (0, [])
