"""The rows of an agreement: each file in each condition, and over all of them."""

from collections.abc import Iterator, Sequence

import numpy as np

from runtime_check.run.compare.fidelity import Estimate, Numbers

from ..records import ALL_CONDITIONS, Answer, Row
from .bootstrap import drawn_clips, estimate, rates
from .counts import Counts, word_errors
from .table import Mask, Table

PHASES = ("tokenize_s", "encode_s", "prefill_s")  # of computing, in seconds; decoding is counted by its tokens
PER_TOKEN = "ms_per_token"


def rows_of(table: Table, counts: Counts) -> Iterator[Row]:
    """Yield the rows condition by condition, files in their order; last those of ALL_CONDITIONS."""
    for c, condition in enumerate(table.conditions):
        only = np.zeros_like(table.counted)
        only[c] = table.counted[c]
        yield from _rows(table, counts, condition, only)
    yield from _rows(table, counts, ALL_CONDITIONS, table.counted)


def _rows(table: Table, counts: Counts, condition: str, pairs: Mask) -> Iterator[Row]:
    """The rows over `pairs`, (conditions, clips): a clip is drawn with all that it has of them."""
    of_clips = np.flatnonzero(pairs.any(axis=0))
    drawn = drawn_clips([table.clips[i] for i in of_clips])
    errors, beside = (_by_clip(numbers, pairs)[:, of_clips] for numbers in (counts.errors, counts.beside))
    wer, difference = _rates_and_differences(drawn, errors, table.baseline)
    disagreement, _ = _rates_and_differences(drawn, beside, table.baseline)
    if not table.has_texts:
        difference = disagreement
    kl = _kl(table, counts, pairs)
    for f, file in enumerate(table.files):
        answers = [
            table.answers[file.sha256, table.conditions[c], table.clips[i].sha256] for c, i in np.argwhere(pairs)
        ]
        found = estimate(difference[:, f], len(of_clips))
        yield Row(
            file=file.sha256,
            condition=condition,
            clips=len(of_clips),
            seconds=sum(answer.seconds for answer in answers),
            errors=word_errors(errors[f].sum(axis=0)),
            wer=estimate(wer[:, f], len(of_clips)),
            beside_baseline=word_errors(beside[f].sum(axis=0)),
            disagreement=estimate(disagreement[:, f], len(of_clips)),
            difference=found,
            is_worse=found.low is not None and found.low > 0,
            is_better=found.high is not None and found.high < 0,
            kl=kl[f],
            loops=sum(bool(answer.loop) for answer in answers),
            empty=sum(not answer.transcript.strip() for answer in answers),
            over_long=sum(not answer.ended for answer in answers),
            real_time=_real_time(answers),
            peak_memory=max((sum(answer.memory.values()) for answer in answers), default=0),
        )


def _by_clip(numbers: Numbers, pairs: Mask) -> Numbers:
    """The sum over the conditions of `pairs`: (files, clips, n) of (files, conditions, clips, n)."""
    return np.where(pairs[..., None], numbers, 0).sum(axis=1)


def _rates_and_differences(drawn: Numbers, errors: Numbers, baseline: int) -> tuple[Numbers, Numbers]:
    """Error rates in each draw, and theirs minus the baseline's: (draws, files) of (files, clips, 4)."""
    wrong, words = errors[..., 1:].sum(axis=-1), errors[..., 0]
    more = wrong - wrong[baseline]  # whole numbers, so that equal files differ by 0, not by a rounding
    return rates(drawn, wrong, words), rates(drawn, more, words)


def _kl(table: Table, counts: Counts, pairs: Mask) -> list[Estimate | None]:
    """The mean KL divergence of each file's steps, on pairs where every file that has some has one; None for others."""
    known = ~np.isnan(counts.kl[..., 1]) & pairs
    has_some = np.array([of_file.any() for of_file in known])
    shared = pairs & known[has_some].all(axis=0) if has_some.any() else np.zeros_like(pairs)
    of_clips = np.flatnonzero(shared.any(axis=0))
    drawn = drawn_clips([table.clips[i] for i in of_clips])
    nats, steps = np.moveaxis(_by_clip(counts.kl, shared)[:, of_clips], -1, 0)
    by_draw = rates(drawn, nats, steps)
    found = [estimate(by_draw[:, f], len(of_clips)) for f in range(len(table.files))]
    return [one if has and len(of_clips) else None for one, has in zip(found, has_some, strict=True)]


def _real_time(answers: Sequence[Answer]) -> float | None:
    """Seconds of computing, without loading, by seconds of audio; None if no phase was timed."""
    timed = [answer for answer in answers if answer.timings and answer.seconds > 0]
    if not timed:
        return None
    return sum(_computing(answer) for answer in timed) / sum(answer.seconds for answer in timed)


def _computing(answer: Answer) -> float:
    """Seconds of an answer's phases; the first token comes with the prefill."""
    phases = sum(answer.timings.get(phase, 0) for phase in PHASES)
    return phases + answer.timings.get(PER_TOKEN, 0) * max(0, answer.tokens - 1) / 1000
