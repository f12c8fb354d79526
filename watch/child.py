"""A target in a process of its own, which may hang, crash or be killed without harm to the others."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .config import Target
from .figures import duration, one_line
from .history import UNCHECKED, WHOLE, FileRow

GRACE = 5.0  # seconds between SIGTERM and SIGKILL
LONGEST = 300  # characters of a log's last line
REASONS = {signal.SIGKILL: ", perhaps because the memory was full"}


@dataclass(frozen=True)
class Job:
    """What the child is told, as a line of JSON on stdin. It writes `<target>.json`, `.html` and `.found` to `folder`;
    files from the Hub are kept in `cache`."""

    target: Target
    cache: str
    folder: str


@dataclass
class Found:
    """What the child found, in `<target>.found`. `problems` are those that no report has; `report`: there is one."""

    state: str = UNCHECKED
    scope: str = WHOLE
    problems: Sequence[str] = ()
    files: Sequence[FileRow] = field(default_factory=list)
    report: bool = False


def beside(folder: Path, target: str, kind: str) -> Path:
    """A file of a target in a run's folder, such as its `log`."""
    return folder / f"{target}.{kind}"


def check_in_child(job: Job) -> Found:
    """Have a child process check the target, and end it, with all that it started, at its timeout.

    What it prints goes to `<target>.log`. If it does not come to an end by itself, the target could not be checked.
    """
    target, folder = job.target, Path(job.folder)
    answer, log = beside(folder, target.name, "found"), beside(folder, target.name, "log")
    for kind in ("found", "json", "html"):  # of a run that was killed here
        beside(folder, target.name, kind).unlink(missing_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "watch.worker"], stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT,
            cwd=folder,  # where nothing can be imported by mistake
            start_new_session=True,  # Ctrl-C is ours to pass on; and what it starts can be ended with it
            env=os.environ | {"HF_HUB_DISABLE_PROGRESS_BARS": "1"},
        )  # fmt: skip
    assert process.stdin
    try:
        with suppress(BrokenPipeError):  # it died at once
            process.stdin.write(json.dumps(asdict(job)).encode() + b"\n")
            process.stdin.flush()  # and stays open: by its end the child sees ours
        status = process.wait(target.timeout)
    except subprocess.TimeoutExpired:
        return _unchecked(f"stopped at its timeout, after {duration(target.timeout)}", log)
    finally:
        end(process)
    if status == 0 and answer.exists():
        values = json.loads(answer.read_bytes())
        answer.unlink()
        return Found(**values | {"files": [FileRow(**row) for row in values["files"]]})
    if status < 0:
        name = signal.Signals(-status)
        return _unchecked(f"killed by {name.name}{REASONS.get(name, '')}", log)
    return _unchecked(f"crashed with exit status {status}", log)


def end(process: "subprocess.Popen[bytes]") -> None:
    """End a process that leads a group, and the group, if it has not ended yet."""
    if process.poll() is None:
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(GRACE)
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(GRACE)  # what hangs within the system itself, on a disk that does not answer, is left behind
    assert process.stdin
    with suppress(BrokenPipeError):
        process.stdin.close()


def _unchecked(why: str, log: Path) -> Found:
    last = last_line(log)
    return Found(problems=[why + (f"; its last words: {last}" if last else "")])


def last_line(log: Path) -> str:
    """The end of what was printed, empty if that is nothing."""
    with log.open("rb") as file:
        file.seek(-min(4 * LONGEST, log.stat().st_size), os.SEEK_END)
        lines = [line for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    return one_line(lines[-1])[-LONGEST:] if lines else ""
