"""The queue: each job once, the same clip heard once, and three tries."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from mimo_agreement.run.jobs import TRIES, Failed, Job, jobs_of
from mimo_agreement.run.queue import Queue
from mimo_agreement.store.store import Heard, Hearing

from .test_jobs import ASKED

HEARD = Heard(b"codes")


@given(st.randoms(use_true_random=False), st.integers(1, 5), st.integers(1, 6))
def test_whatever_ends_first_nothing_is_run_or_heard_twice(random: "object", n: int, most: int) -> None:
    """As many processes as `n` take jobs, up to `most` at once, which end in any order."""
    jobs, known, taken, hearing, running = jobs_of(ASKED), dict[Hearing, Heard](), [], [], list[Job]()
    queue = Queue(jobs, known.get)
    while len(queue) or running:
        while len(running) < n and (some := queue.take(most)):
            assert len(some) <= most
            assert len({job.pair.lm for job in some}) == 1, "a process has one model open"
            running += some
            taken += [job.pair for job in some]
            hearing += [job.hearing for job in some if job.heard is None]
        job = running.pop(random.randrange(len(running)))  # type: ignore[attr-defined]
        assert job.hearing
        known[job.hearing] = HEARD
        queue.ended(job)
    assert sorted(map(str, taken)) == sorted(str(job.pair) for job in jobs)
    assert len(hearing) == len(set(hearing)) == len(jobs) / 2, "two files share it"


def test_a_job_on_which_processes_end_is_tried_three_times_before_others() -> None:
    first, second, *_ = (replace(job, hearing=None) for job in jobs_of(ASKED))
    queue = Queue([first, second], lambda hearing: None)
    assert queue.take(2) == [first, second], "until one of them ended its process"
    queue.give_back(second)
    assert queue.put_back(first, "reason 0") is None
    for n in range(1, TRIES):
        [job] = queue.take(2)
        assert job == first
        failed = queue.put_back(job, f"reason {n}")
        assert failed == (Failed(first, 3, "reason 2") if n == 2 else None)
    assert queue.take(2) == [second]
    assert len(queue) == 0


def test_another_file_hears_what_a_job_that_failed_did_not() -> None:
    jobs = [job for job in jobs_of(ASKED) if job.pair.clip == "a" and job.pair.condition == "clean"]
    queue = Queue(jobs, lambda hearing: None)
    [first] = queue.take(2)
    assert queue.take() == [], "the first one hears for both"
    queue.put_back(first, "it died")
    assert queue.take() == [first]
    assert queue.take() == []
    queue.ended(first)
    assert queue.take() == [jobs[1]]
