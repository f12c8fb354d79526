"""Answer what a store does not hold yet, answer by answer."""

from collections.abc import Callable, Iterator, Sequence

from mimo_agreement.records import Pair, Quarantined
from mimo_agreement.store.store import Store
from mimo_convert.listener import phase

from .jobs import Done, Failed, Job, Outcome
from .queue import Queue

PHASE = "answers"


def missing(jobs: Sequence[Job], answered: set[Pair]) -> list[Job]:
    """The jobs whose pair has no answer yet."""
    return [job for job in jobs if job.pair not in answered]


def answer_missing(jobs: Sequence[Job], store: Store, answers: Callable[[Queue], Iterator[Outcome]]) -> list[Failed]:
    """Answer the jobs that the store has no answer to, and write each as it comes; those that failed are returned.

    `answers` answers the jobs of a queue. Raises InputError as it does, and for a store that cannot be written: answers
    before that are kept.
    """
    left = missing(jobs, {pair for pair, _ in store.answers()})
    whole = sum(job.seconds for job in jobs)
    failed: list[Failed] = []
    with phase(PHASE, whole, "s of audio", done=whole - sum(job.seconds for job in left)) as progress:
        for outcome in answers(Queue(left, store.heard)) if left else ():
            if isinstance(outcome, Done):
                store.add(outcome.job.pair, outcome.answer, outcome.job.hearing, outcome.heard)
            else:
                failed.append(outcome)
            progress.advance(outcome.job.seconds, outcome.job.condition.name)
    return failed


def quarantined(failed: Sequence[Failed], clips: dict[str, str]) -> tuple[Quarantined, ...]:
    """The pairs that have no answer; `clips` are the clips' names by their SHA-256."""
    return tuple(
        Quarantined(one.job.pair.lm, clips[one.job.pair.clip], one.job.pair.condition, one.tries, one.reason)
        for one in failed
    )
