"""Packs hold every clip once, in order, and have some audio."""

from itertools import accumulate, pairwise

from hypothesis import given
from hypothesis import strategies as st

from runtime_check.calibrate.per_clip.packs import PACK_SECONDS, packs_of


@given(st.lists(st.floats(0.1, 2 * PACK_SECONDS)))
def test_packs_are_as_long_as_they_may_be(seconds: list[float]) -> None:
    packs = packs_of(seconds)
    assert sum(packs) == len(seconds)
    assert all(packs)
    parts = [seconds[begin:end] for begin, end in pairwise(accumulate(packs, initial=0))]
    assert all(len(part) == 1 or sum(part) <= PACK_SECONDS + 1e-6 for part in parts)
    assert all(sum(part) + after[0] > PACK_SECONDS - 1e-6 for part, after in pairwise(parts))
