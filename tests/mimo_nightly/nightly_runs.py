"""Nightly runs as processes of their own: their config, their files, and what becomes of them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from click.testing import CliRunner

from mimo_commands.check import main
from mimo_nightly.history import History, TargetResult
from tests.opened import TINY_REFERENCE
from tests.system.signals import heed_interrupts

NOWHERE = "http://127.0.0.1:9"  # a port that refuses
GRACE = 0.5  # seconds that a child may take to end: those that are stopped here never do
MIMO_CHECK = [
    sys.executable, "-c",
    f"from mimo_nightly import process; process.GRACE = {GRACE}; from mimo_commands.check import main; main()",
]  # fmt: skip
ENVIRONMENT = {"HF_ENDPOINT": NOWHERE, "HF_HUB_OFFLINE": "0"}
PATIENCE = 60  # seconds that a process may take for what the test waits for


class Files(NamedTuple):
    """A pair of GGUF files."""

    lm: Path
    tokenizer: Path


def toml(values: dict[str, Any]) -> str:
    """A target's keys; JSON's texts, numbers and lists are TOML's, too."""
    return "\n".join(["[[target]]", *(f"{key} = {value(x)}" for key, x in values.items())]) + "\n\n"


def value(x: Any) -> str:
    if isinstance(x, dict):
        return "{ " + ", ".join(f"{key} = {value(inner)}" for key, inner in x.items()) + " }"
    return f"'{x}'" if isinstance(x, str | Path) else str(x)


def of_pair(name: str, files: Files, **more: Any) -> str:
    """A target for a pair of local files of the tiny model."""
    reference = TINY_REFERENCE
    return toml({"name": name, "file": files.lm, "tokenizer": files.tokenizer, "reference": reference, **more})


def of_tokenizer(name: str, file: Path, **more: Any) -> str:
    """A target for an audio tokenizer alone, which is sooner done."""
    return toml({"name": name, "file": file, "reference": TINY_REFERENCE, **more})


def write_config(folder: Path, *targets: str) -> Path:
    path = folder / "nightly.toml"
    path.write_text("threads = 2\n\n" + "".join(targets), encoding="utf-8")
    return path


class Ended(NamedTuple):
    """How a command ended."""

    status: int
    stdout: str
    stderr: str

    def of(self, target: str) -> str:
        """The line on a target."""
        [line] = [line for line in self.stdout.splitlines() if line.split()[0] == target]
        return line


def start(*arguments: Any) -> "subprocess.Popen[str]":
    """`mimo-check` with these arguments, in a world without a Hub."""
    return subprocess.Popen(
        [*MIMO_CHECK, *map(str, arguments)],
        env=os.environ | ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=heed_interrupts,
    )  # fmt: skip


def end(process: "subprocess.Popen[str]") -> Ended:
    stdout, stderr = process.communicate(timeout=PATIENCE)
    return Ended(process.returncode, stdout, stderr)


def run(*arguments: Any) -> Ended:
    """The same in this process, which need not import everything again; targets are checked in children as ever."""
    result = CliRunner(env=ENVIRONMENT).invoke(main, [*map(str, arguments)])
    return Ended(result.exit_code, result.stdout, result.stderr)


def found(config: Path, run: int) -> dict[str, TargetResult]:
    """What the history beside a config has of a run, by target."""
    with closing(History(config.with_name("history.sqlite"))) as history:
        return {result.target: result for result in history.of_run(run)}


# ── processes ────────────────────────────────────────────────────────────────────────────────────────────────────


def wait_for(what: Callable[[], Any]) -> Any:
    """Whatever `what` gives, as soon as that is something."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if it := what():
            return it
        time.sleep(0.01)
    raise AssertionError("nothing came of it")


def children(pid: int) -> list[int]:
    """The processes that a process has started, and that have not been waited for."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def is_worker(pid: int) -> bool:
    """Whether a child works already; one that is stopped before holds what its parent prints to."""
    try:
        return b"mimo_nightly.worker" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False


def hanging_child(process: "subprocess.Popen[str]", log: Path) -> int:
    """The child of a nightly run, as soon as it works on the target whose log this is: stopped, so that it hangs."""
    wait_for(log.exists)
    [pid] = wait_for(lambda: [pid for pid in children(process.pid) if is_worker(pid)])
    os.kill(pid, signal.SIGSTOP)
    return int(pid)
