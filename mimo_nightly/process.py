"""Check a target in a subprocess, which may hang, crash or be killed without affecting others."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from mimo_convert.command.child import signal_name
from mimo_convert.command.outcome import INTERNAL_ERROR
from mimo_convert.fields import Fields
from mimo_convert.own_files import create_own, open_own, read_own
from mimo_nightly.show.figures import duration, printable_line
from quantize.errors import InputError

from .config import Target
from .history import SCOPES, STATES, UNCHECKED, WHOLE, FileRow, file_rows

MOST_BYTES = 1 << 26  # of what a child writes of what it found
GRACE = 5.0  # seconds between SIGTERM and SIGKILL
LONGEST = 300  # characters of a log's last line
LAST_LINE = "; last line of its log: "  # in a problem, before what may be a transcript
MEMORY = ", perhaps because the memory was full"


@dataclass(frozen=True)
class Job:
    """The job of a worker, a line of JSON on its stdin. The worker writes `<target>.json`, `.html` and `.found` to
    `folder`, and of an agreement set `.agreement.json` and `.agreement.html`. Files from the Hub are cached in `cache`,
    and answers to the agreement set kept in `answers` (empty: nowhere)."""

    target: Target
    cache: str
    folder: str
    answers: str = ""


@dataclass
class Found:
    """The worker's result, `<target>.found`. `problems` are those that are in no report; `report`: there is one, whose
    own problems come on top of `state`."""

    state: str = UNCHECKED
    scope: str = WHOLE
    problems: Sequence[str] = ()
    files: Sequence[FileRow] = field(default_factory=list)
    report: bool = False


def beside(folder: Path, target: str, kind: str) -> Path:
    """The path of a target's file in a run's folder, such as its `log`."""
    return folder / f"{target}.{kind}"


def check_in_subprocess(job: Job) -> Found:
    """Check the target in a subprocess; at its timeout, terminate it and its process group.

    Its output goes to `<target>.log`. If it does not end normally, the target could not be checked.
    """
    target, folder = job.target, Path(job.folder)
    result, log = beside(folder, target.name, "found"), beside(folder, target.name, "log")
    for kind in ("found", "json", "html", "agreement.json", "agreement.html"):  # of a run that was killed here
        for name in (kind, f"{kind}.part"):
            beside(folder, target.name, name).unlink(missing_ok=True)
    with create_own(log) as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "mimo_nightly.worker"],
            stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT,
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
    if status == 0 and result.exists():
        try:
            found = parsed(result)
        except InputError as error:
            return _unchecked(f"its process wrote an invalid result: {error}", log)
        result.unlink()
        return found
    if status < 0:
        return _unchecked(f"killed by {signal_name(-status)}{MEMORY if status == -signal.SIGKILL else ''}", log)
    kind = "ended with an internal error," if status == INTERNAL_ERROR else "crashed with"
    return _unchecked(f"{kind} exit status {status}", log)


def parsed(result: Path) -> Found:
    """Read a worker's result. Raises InputError if it is invalid."""
    try:
        values = json.loads(read_own(result, MOST_BYTES))
    except (ValueError, RecursionError) as error:
        raise InputError(result, "is not JSON", expected="what was found") from error
    fields = Fields(result, values)
    return Found(
        fields.one_of("state", STATES), fields.one_of("scope", SCOPES), fields.texts("problems"), file_rows(fields),
        fields.flag("report"),
    )  # fmt: skip


def end(process: "subprocess.Popen[bytes]") -> None:
    """Terminate a process and its group, if it is running."""
    if process.poll() is None:
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(GRACE)
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(GRACE)  # what hangs within the system itself, on a disk that does not respond, is left behind
    assert process.stdin
    with suppress(BrokenPipeError):
        process.stdin.close()


def _unchecked(why: str, log: Path) -> Found:
    try:
        last = last_line(log)
    except (OSError, InputError) as error:  # it was deleted, or replaced
        last = str(error)
    return Found(problems=[why + (f"{LAST_LINE}{last}" if last else "")])


def last_line(log: Path) -> str:
    """The last line of a log; empty if there is none."""
    with open_own(log, os.O_RDONLY, "rb") as file:
        file.seek(-min(4 * LONGEST, os.fstat(file.fileno()).st_size), os.SEEK_END)
        lines = [line for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    return printable_line(lines[-1])[-LONGEST:] if lines else ""
