"""The queue of jobs, from which processes take one after the other; what companions have heard is heard once."""

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import replace

from mimo_agreement.store.store import Heard, Hearing

from .jobs import TRIES, Failed, Job


class Queue:
    """Jobs in order, each taken once, unless it is put back. `heard` says what a companion has heard, if it has."""

    def __init__(self, jobs: Iterable[Job], heard: Callable[[Hearing], Heard | None]) -> None:
        self._waiting, self._heard = deque(jobs), heard
        self._running: set[Hearing] = set()  # what is being heard
        self._tries: Counter[Job] = Counter()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def seconds(self) -> float:
        """Seconds of audio of the jobs that wait."""
        return sum(job.seconds for job in self._waiting)

    def take(self) -> Job | None:
        """The next job, with what its companion has heard; None if none can begin before another one ends."""
        for i, job in enumerate(self._waiting):
            if job.hearing in self._running:
                continue
            del self._waiting[i]
            if job.hearing is None:
                return job
            known = self._heard(job.hearing)
            if known is None:
                self._running.add(job.hearing)
            return replace(job, heard=known)
        return None

    def ended(self, job: Job) -> None:
        """A job that was taken has ended; what was heard in it is known by now."""
        if job.hearing:
            self._running.discard(job.hearing)

    def put_back(self, job: Job, reason: str) -> Failed | None:
        """Put a job back whose process ended on it, for this `reason`; after TRIES it has failed."""
        job = replace(job, heard=None)
        self._tries[job] += 1
        if self._tries[job] >= TRIES:
            self.ended(job)
            return Failed(job, TRIES, reason)
        self.give_back(job)
        return None

    def give_back(self, job: Job) -> None:
        """Put a job back that was not tried."""
        self.ended(job)
        self._waiting.appendleft(replace(job, heard=None))
