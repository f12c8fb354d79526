"""Where long audio is cut: in pauses, and nowhere twice."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from runtime_check.audio.pieces import pieces

RATE = 100  # samples a second, which is enough to cut


@given(st.integers(0, 3000), st.floats(0.5, 12), st.integers(0, 2**32 - 1))
def test_pieces_are_the_whole_wave_end_to_end_and_none_is_too_long(n: int, longest: float, seed: int) -> None:
    wave = np.random.default_rng(seed).standard_normal(n).astype(np.float32)
    found = list(pieces(wave, RATE, longest))
    assert [part.start for part in found] == [0, *(part.stop for part in found[:-1])]
    assert found[-1].stop == n
    assert all(0 < part.stop - part.start <= longest * RATE for part in found) or n == 0


@given(st.integers(760, 960))
def test_a_cut_is_in_the_middle_of_the_pause(begin: int) -> None:
    wave = np.random.default_rng(0).standard_normal(1500).astype(np.float32)
    wave[begin : begin + 40] = 0
    first, _ = pieces(wave, RATE, 10)
    assert begin + 10 <= first.stop <= begin + 30


def test_silence_is_cut_as_late_as_can_be() -> None:
    found = list(pieces(np.zeros(2500, np.float32), RATE, 10))
    assert [part.stop - part.start for part in found] == [990, 990, 520]
