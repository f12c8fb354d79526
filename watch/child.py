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

from mimo_convert.fields import Fields
from mimo_convert.outcome import INTERNAL_ERROR
from quantize.errors import InputError

from .config import Target
from .figures import duration, one_line
from .history import SCOPES, STATES, UNCHECKED, WHOLE, FileRow, file_rows
from .own_files import create_own, open_own, read_own

MOST_BYTES = 1 << 26  # of what a child writes of what it found
GRACE = 5.0  # seconds between SIGTERM and SIGKILL
LONGEST = 300  # characters of a log's last line
MEMORY = ", perhaps because the memory was full"


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
        for name in (kind, f"{kind}.part"):
            beside(folder, target.name, name).unlink(missing_ok=True)
    with create_own(log) as output:
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
        try:
            found = parsed(answer)
        except InputError as error:
            return _unchecked(f"its process gave an answer that makes no sense: {error}", log)
        answer.unlink()
        return found
    if status < 0:
        return _unchecked(f"killed by {signal_name(-status)}{MEMORY if status == -signal.SIGKILL else ''}", log)
    kind = "ended with an internal error," if status == INTERNAL_ERROR else "crashed with"
    return _unchecked(f"{kind} exit status {status}", log)


def parsed(answer: Path) -> Found:
    """What a child wrote of what it found. Raises InputError if it is not what a child writes."""
    try:
        values = json.loads(read_own(answer, MOST_BYTES))
    except (ValueError, RecursionError) as error:
        raise InputError(answer, "is not JSON", expected="what was found") from error
    fields = Fields(answer, values)
    return Found(
        fields.one_of("state", STATES), fields.one_of("scope", SCOPES), fields.texts("problems"), file_rows(fields),
        fields.flag("report"),
    )  # fmt: skip


def signal_name(number: int) -> str:
    """SIGKILL; the number of one without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


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
    try:
        last = last_line(log)
    except (OSError, InputError) as error:  # it was deleted, or replaced
        last = str(error)
    return Found(problems=[why + (f"; its last words: {last}" if last else "")])


def last_line(log: Path) -> str:
    """The end of what was printed, empty if that is nothing."""
    with open_own(log, os.O_RDONLY, "rb") as file:
        file.seek(-min(4 * LONGEST, os.fstat(file.fileno()).st_size), os.SEEK_END)
        lines = [line for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    return one_line(lines[-1])[-LONGEST:] if lines else ""
