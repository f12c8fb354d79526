"""Batches of jobs."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from mimo_agreement.cluster.batches import BATCH_SECONDS, next_batch
from mimo_agreement.run.jobs import jobs_of
from mimo_agreement.run.queue import Queue
from tests.mimo_agreement.run.test_jobs import ASKED, CLEAN, clip, model


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=40), st.integers(0, 40))
def test_every_job_is_in_one_batch_of_one_model_none_of_which_is_long(seconds: list[float], slots: int) -> None:
    clips = [clip(str(i), one) for i, one in enumerate(seconds)]
    jobs = jobs_of(replace(ASKED, models=[model("x"), model("y")], clips=clips, conditions=[CLEAN]))
    queue = Queue([replace(job, hearing=None) for job in jobs], lambda hearing: None)
    batches = []
    while batch := next_batch(queue, slots):
        batches.append(batch)
    assert sorted(str(job.pair) for batch in batches for job in batch.jobs) == sorted(str(job.pair) for job in jobs)
    for batch in batches:
        assert len({job.pair.lm for job in batch.jobs}) == 1
        assert batch.seconds - batch.jobs[-1].seconds < BATCH_SECONDS
    assert len(batches) >= min(len(seconds), slots)
