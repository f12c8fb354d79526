"""What answers jobs in a worker of Dask: processes as those of one machine, one for each thread of the worker.

A clip that crashes one of them does not touch the worker, which goes on as Dask expects it to.
"""

import os
import platform
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from distributed import Worker, get_worker
from distributed.diagnostics.plugin import WorkerPlugin

from mimo_agreement.run.jobs import AT_ONCE, TRIES, Done, Failed, Job, Model
from mimo_agreement.run.processes.messages import Refused, Said, Setup
from mimo_agreement.run.processes.workers import DEAD, Process, start
from quantize.errors import InputError

from .datasets import HubDataset
from .places import FileFacts, HashedPlaces
from .room import Room

IDLE = 120.0  # seconds without a job, after which a process ends
PACKAGES = ("mimo-convert", "ggml-python", "numpy", "soundfile")  # what answers depend on
FOLDER = "mimo-agreement"  # of the cache, in the worker's own folder


@dataclass
class Operator:
    """What the operator of a worker allows (worker.py): folders whose files may be read, a folder for those that are
    sent (None: in the worker's own), the threads of each process, and datasets that files may be fetched from."""

    roots: tuple[Path, ...] = ()
    cache: Path | None = None
    threads: int = 1
    datasets: tuple[HubDataset, ...] = ()


OPERATOR = Operator()  # of the worker that this process is


class Lacking(NamedTuple):
    """The SHA-256 of files that a worker does not have, and its address."""

    worker: str
    hashes: list[str]


@dataclass
class Answered:
    """The outcomes of a batch, and what was said meanwhile."""

    outcomes: list[Any] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


def versions_here(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """The versions that must agree: of Python and packages."""
    found = {"python": ".".join(platform.python_version_tuple()[:2])}
    for name in packages:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


class Station(WorkerPlugin):  # type: ignore[misc]
    """What a worker needs for the jobs of a run: its models and `files`, and the `versions` of the client. That of
    another pass over audio says anew what its jobs need, and how a process begins."""

    packages: tuple[str, ...] = PACKAGES
    at_once = AT_ONCE  # jobs that a process is given

    def __init__(self, run: str, models: Sequence[Model], files: Mapping[str, FileFacts]) -> None:
        self.name, self.models, self.files = run, models, files
        self.versions = versions_here(self.packages)

    def needed(self, job: Any) -> Iterable[str]:
        """The SHA-256 of every file that a job needs."""
        return needed(self.models, job)

    def begin(self) -> Process:
        """Start a process that answers jobs."""
        return start(Setup(self.models, self.places, OPERATOR.threads, IDLE))

    def memory(self, outcome: Any) -> Mapping[str, int]:
        """The bytes that an answer took, by what for; empty: none is known."""
        return outcome.answer.memory if isinstance(outcome, Done) else {}

    @property
    def mapped(self) -> int:
        """The bytes of files that processes share."""
        return max((model.facts.all_bytes for model in self.models), default=0)

    def setup(self, worker: Worker) -> None:
        """Begin, in the worker."""
        self.room = Room(worker.state.nthreads, self.mapped)
        self.address = worker.address
        cache = OPERATOR.cache or Path(worker.local_directory) / FOLDER
        datasets = tuple(replace(one) for one in OPERATOR.datasets)  # listed anew for each run
        self.places = HashedPlaces(OPERATOR.roots, Path(os.path.abspath(cache)), self.files, datasets)
        self.idle: list[Process] = []
        self.lock = threading.Lock()  # each thread of the worker takes and returns processes

    def teardown(self, worker: Worker) -> None:
        """End the processes that have nothing to do; others end after IDLE."""
        with self.lock:
            for one in self.idle:
                one.end()
            self.idle.clear()

    def answer(self, jobs: Sequence[Job]) -> Answered | Lacking | Refused:
        """Answer jobs, or say what they need that is not here. An error of a model's file ends the command."""
        for name, expected in self.versions.items():
            if (found := versions_here(self.packages).get(name)) != expected:
                where, todo = f"--cluster {self.address}", "install the same versions on every machine"
                return Refused(where, f"has {name} {found or 'not installed'}", f"{expected}, as here", todo)
        if lacking := self.places.lacking(sha256 for job in jobs for sha256 in self.needed(job)):
            return Lacking(self.address, lacking)
        answered = Answered()
        try:
            with self.room.taken():
                for first in range(0, len(jobs), self.at_once):
                    outcomes = self._answer(jobs[first : first + self.at_once], answered.said)
                    answered.outcomes += outcomes
                    if (memory := self.memory(outcomes[0])) and (line := self.room.measure(memory)):
                        answered.said.append(f"{self.address}: {line}")
        except InputError as error:
            return Refused(error.where, error.what, error.expected, error.todo)
        return answered

    def _answer(self, jobs: Sequence[Job], said: list[str]) -> list[Any]:
        """Answer jobs of one model together; where their process dies, each by itself, TRIES times."""
        outcomes, reason = self._tried(jobs, said)
        if outcomes:
            return outcomes
        if len(jobs) > 1:
            return [outcome for job in jobs for outcome in self._answer([job], said)]
        for _ in range(TRIES - 1):
            outcomes, reason = self._tried(jobs, said)
            if outcomes:
                return outcomes
        return [Failed(jobs[0], TRIES, reason)]

    def _tried(self, jobs: Sequence[Job], said: list[str]) -> tuple[list[Any], str]:
        """The outcomes of jobs, if their process does not die, else why it has."""
        one = self._process()
        one.give(jobs)
        try:
            outcomes = [outcome_of(one, said) for _ in jobs]
        except DEAD:
            reason = one.reason()
            one.end()
            return [], reason
        except BaseException:
            one.end()
            raise
        one.jobs.clear()
        with self.lock:
            self.idle.append(one)
        return outcomes, ""

    def _process(self) -> Process:
        """A process that has nothing to do."""
        with self.lock:
            while self.idle:
                one = self.idle.pop()
                if one.process.poll() is None:
                    return one
                one.end()
        return self.begin()


def outcome_of(one: Process, said: list[str]) -> Any:
    """Wait for the next outcome of the jobs that a process has. Raises what DEAD holds if it dies, and InputError."""
    while True:
        match one.connection.recv():
            case Said(line):
                said.append(line)
            case Refused() as refused:
                raise refused.error
            case str():  # it is ready
                pass
            case outcome:
                return outcome


def needed(models: Sequence[Model], job: Job) -> Iterator[str]:
    """The SHA-256 of every file that a job needs."""
    key = job.pair.lm, job.pair.companion
    model = next(one for one in models if (one.facts.sha256, one.facts.companion_sha256) == key)
    yield from model.members.values()
    yield job.pair.clip
    yield from job.voices
    if job.settings.reference:
        yield job.settings.reference


# ── what the client runs in workers ──────────────────────────────────────────────────────────────────────────────


def station_of(worker: Worker, run: str) -> Station:
    """The station of a run in a worker."""
    found = worker.plugins[run]
    assert isinstance(found, Station)
    return found


def answer_batch(run: str, jobs: Sequence[Job]) -> Answered | Lacking | Refused:
    """Answer jobs of a run in the worker that this is."""
    return station_of(get_worker(), run).answer(jobs)


def receive(run: str, sha256: str, begin: int, data: bytes, dask_worker: Any = None) -> Refused | None:
    """Take bytes of a file into the worker's cache."""
    try:
        station_of(dask_worker, run).places.receive(sha256, begin, data)
    except InputError as error:
        return Refused(error.where, error.what, error.expected, error.todo)
    return None
