"""Loops: a response that says the same again and again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

LONGEST_PERIOD = 128  # tokens that are said again
LEAST_TIMES, LEAST_TOKENS = 4, 24  # of a loop; a refrain, or a word said thrice, is none


@dataclass(frozen=True)
class Loop:
    """A stretch of a response that is one sequence of tokens, `text`, so many `times` in a row, `tokens` in all."""

    text: str
    times: int
    tokens: int


class Repetition(NamedTuple):
    """The `period` ids from `begin` on, which stand so many `times` in a row."""

    begin: int
    period: int
    times: int

    @property
    def is_loop(self) -> bool:
        """Whether it is long enough for a loop."""
        return self.times >= LEAST_TIMES and self.times * self.period >= LEAST_TOKENS


def longest_repetition(ids: Sequence[int]) -> Repetition:
    """The repetition of most ids, of those the one of the shortest period, whole copies alone; `ids` once, if nothing
    is repeated."""
    array, best = np.asarray(ids), Repetition(0, len(ids), 1)
    most = 0
    for period in range(1, min(LONGEST_PERIOD, len(array) // 2) + 1):
        equal = np.concatenate([[False], array[period:] == array[:-period], [False]])
        edges = np.flatnonzero(equal[1:] != equal[:-1])  # where runs of equal ids begin, and end
        begins, lengths = edges[::2], edges[1::2] - edges[::2]
        if not len(lengths):
            continue
        run = int(lengths.argmax())
        copies = int(lengths[run]) // period
        if copies * period > most:
            best, most = Repetition(int(begins[run]), period, copies + 1), copies * period
    return best


def loop_of(ids: Sequence[int], spoken: Sequence[int], decode: Callable[[Sequence[int]], str]) -> Loop | None:
    """The loop in a response; None if there is none, or if what was `spoken` (empty: not known) repeats as much."""
    found = longest_repetition(ids)
    if not found.is_loop or longest_repetition(spoken).times >= found.times:
        return None
    text = decode(ids[found.begin : found.begin + found.period]).strip()
    return Loop(text, found.times, found.times * found.period)
