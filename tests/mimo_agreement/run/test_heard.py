"""What a companion has heard, as bytes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mimo_agreement.run.heard import packed, unpacked
from quantize.errors import InputError

codes = arrays.arrays(np.int32, st.tuples(st.integers(0, 5), st.integers(1, 8)))


@given(st.lists(codes, min_size=1, max_size=4))
def test_stages_are_read_as_they_were_written(parts: list[np.ndarray]) -> None:
    samples = list(range(len(parts)))
    found = unpacked(packed([{"codes": part, "more": part + 1} for part in parts], samples), samples)
    assert found is not None
    for part, stages in zip(parts, found, strict=True):
        np.testing.assert_array_equal(stages["codes"], part)
        np.testing.assert_array_equal(stages["more"], part + 1)


def test_stages_of_other_parts_are_not_taken() -> None:
    data = packed([{"codes": np.zeros((2, 8), np.int32)}], [16000])
    assert unpacked(data, [16000])
    assert unpacked(data, [8000]) is unpacked(data, [8000, 8000]) is None


PICKLED = packed([{"codes": np.array([{}], object)}], [1])


@pytest.mark.parametrize("data", [b"", b"\0" * 100, packed([], [])[:40], PICKLED])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(InputError, match="the store: holds stages that cannot be read; use another --store"):
        unpacked(data, [1])
