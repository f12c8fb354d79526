"""Tell by a command: the message is its stdin."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from mimo_convert.command.child import signal_name
from mimo_convert.command.crash import SECRET, without_secrets
from mimo_nightly.show.figures import duration, printable_line
from quantize.errors import reason_of

from .channel import NotSentError

SECONDS = 30.0  # that a command may take
MOST_OUTPUT = 4000  # bytes that are kept of what it prints
LONGEST = 300  # characters of them that are shown
PATIENCE = 1.0  # seconds for its output after its end: a process that it left behind may hold the pipe
SECRET_NAME = re.compile(
    r"TOKEN|SECRET|PASSW|PASSPHRASE|CREDENTIAL|COOKIE|JWT|WEBHOOK|AUTH_CONFIG|AUTH$|KEY(_|\d|$)|(^|_)PAT$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Command:
    """A program, sought on the PATH, with its arguments; it runs in `folder`, without a shell."""

    arguments: Sequence[str] = field(repr=False)
    folder: Path

    @property
    def name(self) -> str:
        return Path(self.arguments[0]).name

    @property
    def missing(self) -> str:
        program = self.arguments[0]
        found = shutil.which(self.folder / program if "/" in program else program)
        return "" if found else f"there is no program {self.name}"

    def about(self) -> str:
        return f"runs {self.name}"

    def size(self, text: str) -> int:
        return len(text.encode())

    def send(self, text: str) -> None:
        """Run the command; at the end of its time, kill it and its process group."""
        process = self._start(text)
        output = Tail(process)
        try:
            status = process.wait(SECONDS)
        except subprocess.TimeoutExpired as error:
            kill(process)
            raise NotSentError(f"{self.name} was killed after {duration(SECONDS)}{output.last_line()}") from error
        finally:
            kill(process)
        if status:
            ended = f"was killed by {signal_name(-status)}" if status < 0 else f"ended with exit status {status}"
            raise NotSentError(f"{self.name} {ended}{output.last_line()}")

    def _start(self, text: str) -> "subprocess.Popen[bytes]":
        try:
            with tempfile.TemporaryFile() as message:  # not a pipe, which could fill while nobody reads it
                message.write(text.encode())
                message.seek(0)
                return subprocess.Popen(
                    self.arguments, cwd=self.folder, env=environment(os.environ), start_new_session=True,
                    stdin=message, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                )  # fmt: skip
        except OSError as error:
            raise NotSentError(f"{self.name} cannot be started: {reason_of(error)}") from error


class Tail:
    """The end of what a process prints, read while it runs."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.kept: deque[int] = deque(maxlen=MOST_OUTPUT)
        self.reader = threading.Thread(target=self._read, args=(process,), daemon=True)
        self.reader.start()

    def _read(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdout
        with process.stdout as stream:
            while block := os.read(stream.fileno(), MOST_OUTPUT):
                self.kept.extend(block)

    def last_line(self) -> str:
        """The last line as the end of a message; empty if there is none."""
        self.reader.join(PATIENCE)
        text = bytes(self.kept.copy()).decode("utf-8", "replace")
        lines = [line for line in text.splitlines() if line.strip()]
        return f"; its last line: {printable_line(without_secrets(lines[-1]))[-LONGEST:]}" if lines else ""


def kill(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process and its group, if it is running."""
    if process.poll() is None:
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(PATIENCE)  # what hangs within the system itself is left behind


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables without those that are named like a token or hold one of the Hub's."""
    return {
        name: value for name, value in variables.items() if not SECRET_NAME.search(name) and not SECRET.search(value)
    }
