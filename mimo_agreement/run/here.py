"""Answer jobs in this process."""

from collections.abc import Iterator

from .answering import Answerer
from .jobs import Outcome
from .queue import Queue


def answer_here(queue: Queue, answerer: Answerer) -> Iterator[Outcome]:
    """Answer every job, one after the other; each is yielded before the next is begun. Raises InputError as
    `Answerer.answer`."""
    while job := queue.take():
        yield answerer.answer(job)
        queue.ended(job)
