"""Answer jobs in several processes of this machine, each of which may die without the others."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import IO

from mimo_convert.command.child import signal_name
from mimo_convert.terminal import tell
from quantize.errors import InputError
from quantize.quoting import quoted
from runtime_check.ggml.repack import available_memory

from ..jobs import AT_ONCE, TRIES, Done, Failed, Job, Outcome
from ..queue import Queue
from .fitting import fitting, tell_of_fewer
from .messages import READY, Message, Refused, Said, Setup

# numpy's products would take every core, and wait for each other there: another process can use it better.
ALONE = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
COMMAND = (sys.executable, "-m", "mimo_agreement.run.processes.worker")
OPTION = "--workers"
STDERR_BYTES = 4000  # of the end of what a process wrote, in which the last line is looked for
LONGEST_REASON = 300
MEMORY = ", perhaps because the memory was full"
DEAD = (EOFError, ConnectionError, BrokenPipeError)


@dataclass
class Process:
    """A process, the connection to it, what it writes to stderr, and the jobs that it has; `ready`: it has begun."""

    process: "subprocess.Popen[bytes]"
    connection: "Connection[object, Message]"
    stderr: IO[bytes]
    jobs: list[Job] = field(default_factory=list)
    ready: bool = False

    def give(self, jobs: Sequence[Job]) -> None:
        """Send jobs of one model. A process that has died is told by its connection."""
        self.jobs = list(jobs)
        with suppress(*DEAD):
            self.connection.send(self.jobs)

    def ended(self, outcome: Outcome) -> Job:
        """The job that has ended so: it is no longer the process's."""
        job = next(job for job in self.jobs if job.pair == outcome.job.pair)
        self.jobs.remove(job)
        return job

    def end(self) -> None:
        """Kill it, and what it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        assert self.process.stdin
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.connection.close()
        self.stderr.close()

    def reason(self) -> str:
        """Why it has died: the signal or exit status, and the last line that it wrote."""
        status = self.process.wait()
        memory = MEMORY if status == -signal.SIGKILL else ""
        how = f"was killed by {signal_name(-status)}{memory}" if status < 0 else f"ended with exit status {status}"
        self.stderr.seek(max(0, self.stderr.seek(0, os.SEEK_END) - STDERR_BYTES))
        lines = [line for line in self.stderr.read().decode("utf-8", "replace").splitlines() if line.strip()]
        return f"its process {how}" + (f": {quoted(lines[-1], LONGEST_REASON)}" if lines else "")


def start(setup: object, command: Sequence[str] = ()) -> Process:
    """Start a process and tell it what it needs: by COMMAND and its Setup, or another kind by its own."""
    ours, theirs = Pipe()
    stderr = tempfile.TemporaryFile()  # noqa: SIM115, closed with the process
    with theirs:
        process = subprocess.Popen(
            [*(command or COMMAND), str(theirs.fileno())],
            stdin=subprocess.PIPE, stdout=stderr, stderr=stderr, pass_fds=[theirs.fileno()],
            cwd="/",  # where nothing can be imported by mistake
            env=os.environ | ALONE,
            start_new_session=True,  # Ctrl-C is ours
        )  # fmt: skip
    with suppress(*DEAD):
        ours.send(setup)
    return Process(process, ours, stderr)


@dataclass
class Workers:
    """Up to `most` processes with one setup, which answer the jobs of a queue; `mapped` are the bytes of the largest
    model, which they share. One is started first: what it takes for the first job tells how many fit."""

    queue: Queue
    setup: Setup
    most: int
    mapped: int
    running: list[Process] = field(default_factory=list)
    failed_starts: int = 0
    told: set[str] = field(default_factory=set)
    fit: int = 1
    is_measured: bool = False

    def answers(self) -> Iterator[Outcome]:
        """Answer every job. A process that dies is replaced; each of its jobs is tried again, and fails after TRIES.

        Raises InputError as `Answerer.answer`, and if processes cannot be started.
        """
        try:
            while len(self.queue) or any(one.jobs for one in self.running):
                self._fill()
                by_connection = {one.connection: one for one in self.running}
                for connection in wait(list(by_connection)):
                    yield from self._heard_from(by_connection[connection])  # type: ignore[index]
        finally:
            for one in self.running:
                one.end()

    def _fill(self) -> None:
        """Start processes, as many as fit and have something to do, and give jobs to those that have none: fewer where
        few are left, so that each process has some."""
        idle = [one for one in self.running if not one.jobs]
        while len(self.running) < min(self.fit, len(self.running) - len(idle) + len(self.queue)):
            idle.append(start(self.setup))
            self.running.append(idle[-1])
        for one in idle:
            if one.ready and (jobs := self.queue.take(min(AT_ONCE, -(-len(self.queue) // self.fit)))):
                one.give(jobs)

    def _heard_from(self, one: Process) -> Iterator[Outcome]:
        """What follows from a message of a process, or from its death."""
        try:
            message = one.connection.recv()
        except DEAD:
            yield from self._died(one)
            return
        match message:
            case Said(line):
                if line not in self.told:  # each process would say it
                    tell(line)
                    self.told.add(line)
            case Refused():
                raise message.error
            case Done() | Failed():
                job = one.ended(message)
                yield replace(message, job=job)
                self.queue.ended(job)
                if isinstance(message, Done):
                    self._measure(message)
            case str():
                assert message == READY
                one.ready, self.failed_starts = True, 0

    def _died(self, one: Process) -> Iterator[Outcome]:
        """Bury a process, and put its jobs back."""
        self.running.remove(one)
        reason, jobs = one.reason(), one.jobs
        one.end()
        if not jobs:
            self.failed_starts += 1
            if self.failed_starts >= TRIES:
                raise InputError(OPTION, f"processes cannot be started: {reason}", todo="leave it out")
        for job in reversed(jobs):
            if failed := self.queue.put_back(job, reason):
                yield failed

    def _measure(self, done: Done) -> None:
        """Let as many processes run as fit, by what the first answer took."""
        if self.is_measured:
            return
        self.is_measured, available = True, available_memory()
        self.fit = fitting(self.most, done.answer.memory, self.mapped, available)
        if self.fit < self.most:
            tell_of_fewer(OPTION, self.most, self.fit, done.answer.memory, self.mapped, available)


def answer_in_processes(queue: Queue, setup: Setup, most: int, mapped: int) -> Iterator[Outcome]:
    """Answer every job in up to `most` processes; as `Workers.answers`."""
    yield from Workers(queue, setup, most, mapped).answers()
