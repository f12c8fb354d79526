"""Jobs that compute products together: each gets its own, failures end all of them."""

import threading
from collections.abc import Hashable, Sequence

import pytest
import torch
from torch import Tensor

from mimo_convert.listener import Callbacks, Progress, advance, listening, phase
from runtime_check.calibrate.forward import StepWeights, through
from runtime_check.calibrate.together import Ask, groups_of, together
from tests.runtime_check.calibrate.toy import ToyWeights, toy_forwards


class Doubling:
    """Doubles what is asked for, and keeps for how many jobs at once."""

    def __init__(self) -> None:
        self.asked: list[tuple[Hashable, int]] = []

    def __call__(self, key: Hashable, xs: list[Tensor]) -> Sequence[Tensor]:
        self.asked.append((key, len(xs)))
        return (2 * torch.cat(xs)).split([len(x) for x in xs])


def job(ask: Ask, x: Tensor, keys: str) -> Tensor:
    for key in keys:
        x = ask(key, x) + 1
    return x


def test_each_job_gets_what_it_asked_for_and_all_are_answered_at_once() -> None:
    doubling = Doubling()
    found = together([lambda ask, n=n: job(ask, torch.full((n,), float(n)), "ab") for n in (1, 2, 3)], doubling)
    assert [x.tolist() for x in found] == [[7.0], [11.0] * 2, [15.0] * 3]
    assert doubling.asked == [("a", 3), ("b", 3)]


def test_jobs_that_ask_for_different_numbers_of_things_end_each() -> None:
    doubling = Doubling()
    found = together(
        [lambda ask, keys=keys: job(ask, torch.ones(1), keys) for keys in ("ab", "aab", "", "b")], doubling
    )
    assert [x.item() for x in found] == [7.0, 15.0, 1.0, 3.0]
    assert sum(n for _, n in doubling.asked) == 2 + 3 + 1


def fails(ask: Ask) -> Tensor:
    ask("a", torch.ones(1))
    raise ValueError("this one")


def test_a_job_that_fails_ends_the_others() -> None:
    before = threading.active_count()
    with pytest.raises(ValueError, match="this one"):
        together([lambda ask: job(ask, torch.ones(1), "aaaa"), fails], Doubling())
    assert threading.active_count() <= before + 1  # the last one may just be ending


def test_a_product_that_fails_or_is_interrupted_ends_all() -> None:
    def interrupted(key: Hashable, xs: list[Tensor]) -> Sequence[Tensor]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        together([lambda ask: job(ask, torch.ones(1), "a")] * 3, interrupted)


def test_what_a_job_reads_counts_for_the_phase_and_gradients_stay_off() -> None:
    seen: list[Progress] = []
    with listening(Callbacks(seen.append, lambda line: None)), phase("reading", 10), torch.no_grad():

        def reads(ask: Ask) -> Tensor:
            advance(5)
            return (torch.ones(1, requires_grad=True) * 2).detach_() if torch.is_grad_enabled() else torch.zeros(1)

        found = together([reads, reads], Doubling())
    assert [x.item() for x in found] == [0.0, 0.0]
    assert max(now.done for now in seen) == 10


def test_clips_go_through_a_step_together_as_they_do_alone() -> None:
    forwards, weights = toy_forwards(), ToyWeights()
    states, alone = [forward.start for forward in forwards], [forward.start for forward in forwards]
    for i in range(len(forwards[0].steps)):
        through(i, forwards, StepWeights(weights), states)
        alone = [forward.steps[i](x, weights) for forward, x in zip(forwards, alone, strict=True)]
        for state, x in zip(states, alone, strict=True):
            torch.testing.assert_close(state, x)


def test_groups_have_a_number_of_positions_or_one_clip() -> None:
    states = [torch.empty(n, 2) for n in (3, 4, 9, 1, 1, 1)]
    assert list(groups_of(states, 7)) == [[0, 1], [2], [3, 4, 5]]
    assert list(groups_of(states, 1)) == [[0], [1], [2], [3], [4], [5]]
