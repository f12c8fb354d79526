"""WAV files that are written while their samples come, as libsndfile reads and writes them."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from quantize.errors import InputError
from runtime_check.audio.wav_stream import UNKNOWN, WavStream
from runtime_check.audio.write import encoded

RATE = 24_000


def wave(n: int) -> np.ndarray:
    return np.random.default_rng(n).standard_normal(n).astype(np.float32)  # a third of them beyond ±1


@given(st.lists(st.integers(0, 3000), max_size=5))
def test_the_file_is_at_any_time_what_has_come(tmp_path_factory: pytest.TempPathFactory, lengths: list[int]) -> None:
    path, come = tmp_path_factory.mktemp("stream") / "a.wav", np.zeros(0, np.float32)
    with WavStream(path, RATE) as stream:
        for n in lengths:
            stream.write(wave(n))
            come = np.concatenate([come, wave(n)])
            if len(come):
                assert path.read_bytes() == encoded(come, RATE, "WAV", "PCM_16")
    assert path.exists() == bool(len(come))


def test_a_pipe_has_samples_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(path.read_bytes()))
    reader.start()
    while True:
        try:  # until the reader is there
            with WavStream(path, RATE) as stream:
                stream.write(wave(1000))
                stream.write(wave(500))
            break
        except InputError:
            continue
    reader.join()
    (tmp_path / "a.wav").write_bytes(found[0])
    samples, rate = soundfile.read(tmp_path / "a.wav", dtype="int16")
    expected = np.concatenate([wave(1000), wave(500)])
    whole = encoded(expected, RATE, "WAV", "PCM_16")
    assert (rate, samples.tobytes()) == (RATE, whole[44:])
    assert found[0][40:44] == UNKNOWN.to_bytes(4, "little")


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="its folder does not exist"):
        WavStream(tmp_path / "absent" / "a.wav", RATE)
