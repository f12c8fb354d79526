"""Answer jobs in this process."""

from collections.abc import Iterator

from .answering import Answerer
from .jobs import AT_ONCE, Outcome
from .queue import Queue


def answer_here(queue: Queue, answerer: Answerer) -> Iterator[Outcome]:
    """Answer every job, AT_ONCE together; they are yielded before the next are begun. Raises InputError as
    `Answerer.answer`."""
    while jobs := queue.take(AT_ONCE):
        for outcome in answerer.answer(jobs):
            yield outcome
            queue.ended(outcome.job)
