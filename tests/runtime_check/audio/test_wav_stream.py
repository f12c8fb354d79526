"""WAV files that are written while their samples come, as libsndfile reads and writes them."""

import os
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


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def test_a_pipe_has_samples_to_its_end(pipe: Path, tmp_path: Path) -> None:
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with WavStream(pipe, RATE) as stream:
        stream.write(wave(1000))
        stream.write(wave(500))
    found = os.read(reader, 1 << 16)
    os.close(reader)
    (tmp_path / "a.wav").write_bytes(found)
    samples, rate = soundfile.read(tmp_path / "a.wav", dtype="int16")
    whole = encoded(np.concatenate([wave(1000), wave(500)]), RATE, "WAV", "PCM_16")
    assert (rate, samples.tobytes()) == (RATE, whole[44:])
    assert found[40:44] == UNKNOWN.to_bytes(4, "little")


def test_a_reader_that_goes_is_told_as_such(pipe: Path) -> None:
    def write() -> None:
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        with WavStream(pipe, RATE) as stream:
            stream.write(wave(1000))
            os.close(reader)
            stream.write(wave(1000))

    with pytest.raises(BrokenPipeError):
        write()


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="its folder does not exist"):
        WavStream(tmp_path / "absent" / "a.wav", RATE)
