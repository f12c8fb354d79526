"""Which clips a model is calibrated with, and which are held out."""

from collections import Counter
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimo_convert.formats.calibration import CALIBRATION, HOLD_OUT, SELECTION
from mimo_convert.listener import heard_by
from quantize.errors import InputError
from runtime_check.audio.jfk import JFK, JFK_SHA256
from runtime_check.audio.manifests import AudioFile, find_clips
from runtime_check.calibrate.split import sources_of, split, tell_of_split, usable


def file(name: str, speaker: str = "", recording: str = "", seconds: float = 5.0) -> AudioFile:
    hashed = sha256(name.encode()).hexdigest()
    return AudioFile(Path(name), seconds, hashed, "words", speaker=speaker, recording=recording)


FILES = st.lists(
    st.tuples(st.integers(0, 10**9), st.sampled_from(["", "a", "b", "c"]), st.sampled_from(["", "r", "s", "t"])),
    min_size=1, max_size=40, unique_by=lambda one: one[0],
).map(lambda found: [file(f"{number}.wav", speaker, recording) for number, speaker, recording in found])  # fmt: skip


@given(FILES, st.integers(0, 3))
def test_what_belongs_together_is_in_one_part(files: list[AudioFile], seed: int) -> None:
    parts = split(files, seed)
    assert parts.keys() == {one.sha256 for one in files}
    for one in files:
        for other in files:
            if (one.speaker and one.speaker == other.speaker) or (one.recording and one.recording == other.recording):
                assert parts[one.sha256] == parts[other.sha256]
    of_sources = Counter(parts[source[0].sha256] for source in sources_of(files))
    n = sum(of_sources.values())
    assert of_sources[CALIBRATION] >= 1
    assert bool(of_sources[HOLD_OUT]) == (n > 1)
    assert bool(of_sources[SELECTION]) == (n >= 5)


@given(FILES)
def test_the_order_of_clips_does_not_matter(files: list[AudioFile]) -> None:
    assert split(files, 0) == split(files[::-1], 0)


def test_of_fifty_clips_three_fifths_are_for_calibration() -> None:
    files = [file(f"{i}.wav") for i in range(50)]
    assert Counter(split(files, 0).values()) == {CALIBRATION: 30, SELECTION: 10, HOLD_OUT: 10}
    assert split(files, 0) != split(files, 1)


def test_a_chain_of_speakers_and_recordings_is_one_source() -> None:
    files = [file("1", "a", "r"), file("2", "b"), file("3", "b", "s"), file("4", "c", "t"), file("5", "d", "r"),
             file("6", "d", "s")]  # fmt: skip
    assert [sorted(one.path.name for one in source) for source in sources_of(files)] == [
        ["1", "2", "3", "5", "6"],
        ["4"],
    ]


def test_the_clip_that_validates_files_is_left_out_with_what_belongs_to_it() -> None:
    said: list[str] = []
    jfk = AudioFile(Path("talk.wav"), 11.0, JFK_SHA256, "words", recording="talk")
    files = [file("a.wav"), jfk, file("noisy.wav", recording="talk"), file("a.wav")]
    with heard_by(None, said.append):  # type: ignore[arg-type]
        assert [one.path.name for one in usable(files)] == ["a.wav"]
    assert [line.partition(":")[0] for line in said] == ["talk.wav", "noisy.wav"]
    with pytest.raises(InputError, match="names no clip but the one that validates files"):
        usable(find_clips([JFK]))


@pytest.mark.parametrize(
    ("n", "seconds", "expected"),
    [
        (1, 700, ["warning: 1 source of audio: nothing is held out"]),
        (4, 300, ["warning: 4 sources of audio: 1 is held out, and none is kept for selection"]),
        (5, 100, ["calibrating with 300 s of audio; 600 s or more would do better"]),
        (10, 300, []),
    ],
)
def test_too_little_is_told(n: int, seconds: float, expected: list[str]) -> None:
    said: list[str] = []
    files = [file(f"{i}.wav", seconds=seconds) for i in range(n)]
    with heard_by(None, said.append):  # type: ignore[arg-type]
        tell_of_split(files, split(files, 0))
    assert len(said) == len(expected)
    assert all(line.startswith(begin) for line, begin in zip(said, expected, strict=True))
