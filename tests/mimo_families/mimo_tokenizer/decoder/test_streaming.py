from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimo_families.mimo_tokenizer.decoder.streaming import Cached, Redecoding, Stream, statistics_of
from runtime_check.run.compare.measures import snr_db

from .conftest import DecoderOf, random_codes


def streamed(stream: Stream, codes: Any, sizes: Sequence[int]) -> Any:
    """The samples of codes that come in chunks of these sizes."""
    parts = np.split(codes, np.cumsum(sizes)[:-1])
    return np.concatenate([stream.push(part, last=i == len(parts) - 1) for i, part in enumerate(parts)])


def marks(codes: Any) -> Any:
    """A decoder whose samples say which frame they are of: four of each."""
    return np.repeat(codes[:, 0], 4).astype(np.float32)


@given(sizes=st.lists(st.integers(1, 400), min_size=1, max_size=6))
def test_redecoding_gives_out_each_frame_once_and_in_order(sizes: list[int]) -> None:
    codes = np.arange(sum(sizes))[:, None]
    np.testing.assert_array_equal(streamed(Redecoding(marks, 4), codes, sizes), marks(codes))


def test_redecoding_decodes_what_upstream_does() -> None:
    """With 250 frames before a chunk, and 40 behind it that wait."""
    seen: list[tuple[int, int]] = []

    def decode(codes: Any) -> Any:
        seen.append((int(codes[0, 0]), int(codes[-1, 0])))
        return marks(codes)

    stream, codes = Redecoding(decode, 4), np.arange(500)[:, None]
    lengths = [len(stream.push(codes[i : i + 100], last=i == 400)) // 4 for i in range(0, 500, 100)]
    assert seen == [(0, 99), (0, 199), (0, 299), (50, 399), (150, 499)]
    assert lengths == [60, 100, 100, 100, 140]
    short = Redecoding(decode, 4)
    assert len(short.push(codes[:40])) == 0
    assert len(short.push(codes[40:41])) == 4


@pytest.mark.parametrize("sizes", [[30], [10, 10, 10], [1] * 30, [7, 23]])
def test_cached_streaming_with_the_wholes_statistics_equals_decoding_at_once(
    decoder_of: DecoderOf, sizes: list[int]
) -> None:
    decoder, codes = decoder_of("f32"), random_codes(30)
    whole = decoder.decode(codes)
    found = streamed(Cached(decoder, *statistics_of(decoder, codes), piece_frames=30), codes, sizes)
    assert found.shape == whole.shape
    assert snr_db(found, whole) >= 90
    running = streamed(Cached(decoder, piece_frames=30), codes, sizes)
    assert running.shape == whole.shape
    assert (snr_db(running, whole) >= 90) == (len(sizes) == 1), "with statistics of what came so far it is not"


def test_cached_streaming_gives_samples_out_as_soon_as_they_are_known(decoder_of: DecoderOf) -> None:
    """Two vocoder blocks look ahead to 20 mel frames, 5 code frames; a window hangs over by 1.5 mel frames."""
    decoder, codes = decoder_of("f32"), random_codes(12)
    stream = Cached(decoder, piece_frames=12)
    assert [len(stream.push(codes[i : i + 1])) for i in range(11)] == [0] * 5 + [600] + [960] * 5
    assert len(stream.push(codes[11:], last=True)) == 12 * 960 - 600 - 5 * 960


def test_pieces_of_a_stream_are_those_of_decoding(decoder_of: DecoderOf) -> None:
    decoder, codes = decoder_of("f32"), random_codes(25)
    found = streamed(Cached(decoder, piece_frames=10), codes, [25])
    parts = [decoder.decode(codes[i : i + 10]) for i in (0, 10, 20)]
    assert snr_db(found, np.concatenate(parts)) >= 90
