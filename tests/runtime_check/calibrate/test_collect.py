"""Sums of a toy model: a pack that is run by itself gives what it gives among others, bit for bit."""

import numpy as np
import torch

from runtime_check.calibrate.collect import Recorder, collect, collect_pack
from runtime_check.calibrate.forward import Forward
from runtime_check.calibrate.per_clip.sums import AllSums, add_up
from tests.runtime_check.calibrate.toy import MATRICES, ToyWeights, forward_of

PACKS = (3, 1, 4)


def clips() -> list[Forward]:
    random = np.random.default_rng(0)
    lengths = random.integers(3, 9, sum(PACKS)).tolist()
    return [forward_of(torch.from_numpy(random.integers(0, 5, n)), [1, 2]) for n in lengths]


def sums_here(forwards: list[Forward], packs: tuple[int, ...]) -> AllSums:
    recorder = Recorder(ToyWeights(), {})
    collect(forwards, recorder, [one.start for one in forwards], 0, lambda *_: None, packs=packs)
    return recorder.sums


def check_equal(one: AllSums, other: AllSums) -> None:
    assert sorted(one) == sorted(other) == sorted(MATRICES)
    for name in one:
        assert one[name].count == other[name].count
        np.testing.assert_array_equal(one[name].squares, other[name].squares)
        np.testing.assert_array_equal(one[name].sums, other[name].sums)


def test_packs_that_are_run_apart_give_the_sums_of_one_run() -> None:
    forwards, total, begin = clips(), AllSums(), 0
    for n in PACKS:
        add_up(total, collect_pack(forwards[begin : begin + n], ToyWeights()))
        begin += n
    check_equal(total, sums_here(forwards, PACKS))


def test_sums_that_are_kept_between_steps_go_on() -> None:
    forwards, kept = clips(), list[tuple[list[torch.Tensor], AllSums]]()
    recorder = Recorder(ToyWeights(), {})
    collect(
        forwards, recorder, [one.start for one in forwards], 0,
        lambda step, states: kept.append((list(states), dict(recorder.sums))), packs=PACKS,
    )  # fmt: skip
    for step, (states, sums) in enumerate(kept, 1):
        again = Recorder(ToyWeights(), dict(sums))
        collect(forwards, again, list(states), step, lambda *_: None, packs=PACKS)
        check_equal(again.sums, recorder.sums)
