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

    def take(self, most: int = 1) -> list[Job]:
        """The next jobs, at most so many, of one model, each with what its companion has heard; none if none can begin
        before another one ends. A job on which a process ended is taken by itself."""
        taken: list[Job] = []
        i = 0
        while i < len(self._waiting) and len(taken) < most:
            job = self._waiting[i]
            if job.hearing in self._running:
                i += 1
                continue
            is_tried = job in self._tries
            if taken and (is_tried or job.pair.lm != taken[0].pair.lm):
                break
            del self._waiting[i]
            taken.append(self._begun(job))
            if is_tried:
                break
        return taken

    def _begun(self, job: Job) -> Job:
        """A job that begins, with what its companion has heard."""
        known = self._heard(job.hearing) if job.hearing else None
        if job.hearing and known is None:
            self._running.add(job.hearing)
        return replace(job, heard=known)

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
