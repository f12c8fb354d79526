"""Batches of jobs, as they are sent to a cluster: of one model, and up to about a minute of audio."""

from dataclasses import dataclass

from mimo_agreement.run.jobs import Job
from mimo_agreement.run.queue import Queue

PARTS = 4  # that what is left is cut into, for each thread of a worker
BATCH_SECONDS = 60.0  # of audio: many times what it takes to send, and soon done again if its machine is lost


@dataclass(eq=False)
class Batch:
    """Jobs that are sent together; `begun` is when they were (time.monotonic), `copies` how often, `ended`: they have
    outcomes. `worker` is one that was sent what they need (empty: any)."""

    jobs: tuple[Job, ...]
    begun: float = 0.0
    copies: int = 0
    ended: bool = False
    worker: str = ""

    @property
    def seconds(self) -> float:
        """Seconds of audio."""
        return sum(job.seconds for job in self.jobs)


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
