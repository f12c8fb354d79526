"""Batches of jobs, as they are sent to a cluster: of one model, and up to about a minute of audio."""

from dataclasses import dataclass
from typing import Any, Protocol

from mimo_agreement.run.jobs import Job
from mimo_agreement.run.queue import Queue

PARTS = 4  # that what is left is cut into, for each thread of a worker
BATCH_SECONDS = 60.0  # of audio: many times what it takes to send, and soon done again if its machine is lost


@dataclass(eq=False)
class Batch:
    """Jobs that are sent together; `begun` is when they were (time.monotonic), `copies` how often, `ended`: they have
    outcomes. `worker` is one that was sent what they need (empty: any). A job of any kind has `seconds`, of audio."""

    jobs: tuple[Any, ...]
    begun: float = 0.0
    copies: int = 0
    ended: bool = False
    worker: str = ""

    @property
    def seconds(self) -> float:
        """Seconds of audio."""
        return float(sum(job.seconds for job in self.jobs))


class Source(Protocol):
    """Where batches come from: jobs that wait, each of which is taken once, unless it is given back."""

    def __len__(self) -> int:
        """How many jobs wait."""

    def next_batch(self, slots: int) -> Batch | None:
        """The next jobs that can begin, so that each of `slots` has some; None if there are none."""

    def give_back(self, job: Any) -> None:
        """Put a job back that was not tried."""

    def ended(self, job: Any) -> None:
        """A job that was taken has its outcome, and that is known by now."""


class QueuedJobs(Source):
    """The jobs of an agreement's queue."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue

    def __len__(self) -> int:
        return len(self.queue)

    def next_batch(self, slots: int) -> Batch | None:
        """The next jobs, of one model."""
        return next_batch(self.queue, slots)

    def give_back(self, job: Job) -> None:
        """Put a job back that was not tried."""
        self.queue.give_back(job)

    def ended(self, job: Job) -> None:
        """A job has ended."""
        self.queue.ended(job)


def next_batch(queue: Queue, slots: int) -> Batch | None:
    """The next jobs of the queue that can begin, fewer near its end, so that each of `slots` has some; None if there
    are none."""
    jobs: list[Job] = []
    most = min(BATCH_SECONDS, queue.seconds / (PARTS * max(1, slots)))
    while sum(job.seconds for job in jobs) < most and (taken := queue.take()):
        if jobs and taken[0].pair.lm != jobs[0].pair.lm:
            queue.give_back(taken[0])
            break
        jobs += taken
    return Batch(tuple(jobs)) if jobs else None
