"""Which clips are heard in a clip's babble."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimo_agreement.conditions.voices import VOICES, voices_of
from quantize.errors import InputError

SETS = st.sets(st.text("abcdef", min_size=4, max_size=8), min_size=VOICES + 1, max_size=30)


@given(SETS, st.integers(0, 9), st.randoms())
def test_six_others_whatever_their_order(names: set[str], seed: int, random) -> None:  # type: ignore[no-untyped-def]
    clip, *_ = listed = sorted(names)
    found = voices_of(clip, listed, seed)
    random.shuffle(listed)
    assert voices_of(clip, listed, seed) == found
    assert len(set(found)) == VOICES
    assert set(found) <= names - {clip}
    assert voices_of(clip, found, seed) == found


@given(SETS, st.integers(0, 9))
def test_a_new_clip_replaces_one_voice_at_most(names: set[str], seed: int) -> None:
    before, after = (set(voices_of("clip", one, seed)) for one in (names, names | {"a new one"}))
    assert after - before <= {"a new one"}


def test_voices_depend_on_clip_and_seed() -> None:
    names = [str(i) for i in range(100)]
    assert len({voices_of(clip, names, seed) for clip in ("a", "b") for seed in (0, 1)}) == 4


def test_too_few_clips_are_refused() -> None:
    with pytest.raises(InputError, match=r"noise:babble: needs 6 other clips, found 5; .* --noise DIR"):
        voices_of("a", list("abcdef"), 0)
    assert voices_of("a", ["a", "b"], 0, fewest=1) == ("b",)
    with pytest.raises(InputError):
        voices_of("a", ["a"], 0, fewest=1)
