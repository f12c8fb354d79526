"""Clips of any length: whole where the context holds them, in pieces that are joined where it does not."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from quantize.errors import InputError
from runtime_check.audio.clips import Clip
from runtime_check.audio.cutting import join_words
from runtime_check.run.system import System, Task
from runtime_check.run.transcription.length import check_length, longest
from runtime_check.run.transcription.transcribe import Piece, Transcript, transcribe_clip


class Counting:
    """A system whose transcript is how many seconds it was given; its prompt has 10 positions a second, and 5."""

    text, language, stages = None, "", {"greedy_ids": np.zeros(1, np.int32)}

    def __init__(self, context: int | None) -> None:
        self.context, self.given = context, list[float]()

    def prompt_positions(self, seconds: float) -> int:
        return int(seconds * 10) + 5

    def run(self, clip: Clip, task: Task) -> "Counting":
        self.given.append(clip.seconds)
        self.transcript = f" {clip.seconds:g} "
        return self


def clip(seconds: float) -> Clip:
    return Clip(Path("long.wav"), np.zeros(int(seconds * 100), np.float32), 100, "")


def test_a_clip_that_the_context_holds_is_run_as_a_whole() -> None:
    system = Counting(10 * 60 + 5 + 8 * 60)
    assert longest(system) == 60  # type: ignore[arg-type]
    assert list(transcribe_clip(system, clip(60), Task())) == [Piece(0, 60, "60")]  # type: ignore[arg-type]


def test_a_longer_one_is_cut_and_its_times_are_those_of_the_pieces() -> None:
    system = Counting(10 * 60 + 5 + 8 * 60)
    found = list(transcribe_clip(system, clip(100), Task(), begin=1000))  # type: ignore[arg-type]
    assert [(piece.begin, piece.end) for piece in found] == [(1000, 1059.9), (1059.9, 1100)]
    assert system.given == [59.9, 40.1]


def test_a_response_that_did_not_end_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Counting, "text", SimpleNamespace(stops={7}), raising=False)
    list(transcribe_clip(Counting(None), clip(5), Task(), begin=60))  # type: ignore[arg-type]
    assert capsys.readouterr().err == (
        "long.wav: what is said from 60 s on took more than the 1 tokens that were allowed; "
        "--max-new-tokens allows more\n"
    )
    monkeypatch.setattr(Counting, "stages", {"greedy_ids": np.array([5, 7])})
    list(transcribe_clip(Counting(None), clip(5), Task()))  # type: ignore[arg-type]
    assert capsys.readouterr().err == ""


def test_languages_are_joined_without_empty_and_adjacent_equal_ones() -> None:
    pieces = [Piece(0, 1, "a", name) for name in ("English", "", "English", "German", "English")]
    assert Transcript(Path("x.wav"), "auto", iter(pieces)).heard_language == "English,German,English"


def test_without_a_bound_nothing_is_cut() -> None:
    system = Counting(None)
    assert len(list(transcribe_clip(system, clip(5000), Task()))) == 1  # type: ignore[arg-type]


def test_a_context_that_holds_no_audio_is_told() -> None:
    with pytest.raises(InputError, match="the context of 100 positions holds no audio"):
        list(transcribe_clip(Counting(100), clip(1), Task()))  # type: ignore[arg-type]


@pytest.mark.parametrize(("context", "seconds", "says"), [
    (605, 60, "needs a prompt of 605 positions; expected fewer than 605; use at most about 59 s of audio"),
    (5, 0.1, "needs a prompt of 6 positions; expected fewer than 5; use a shorter clip"),
])  # fmt: skip
def test_a_clip_that_is_to_be_compared_must_fit_as_a_whole(context: int, seconds: float, says: str) -> None:
    system: System = Counting(context)  # type: ignore[assignment]
    with pytest.raises(InputError) as error:
        check_length(system, Path("long.wav"), seconds)
    assert str(error.value) == f"long.wav: {says}"
    check_length(Counting(context + 10), Path("long.wav"), seconds)  # type: ignore[arg-type]


def test_pieces_are_run_once_and_when_they_are_asked_for() -> None:
    ran = []

    def pieces():  # type: ignore[no-untyped-def]
        for text in ("a", "b"):
            ran.append(text)
            yield Piece(0, 1, text)

    transcript = Transcript(Path("x.wav"), "auto", pieces())
    assert next(transcript.pieces).text == "a"
    assert ran == ["a"]
    assert (transcript.text, transcript.text, ran) == ("a b", "a b", ["a", "b"])


@pytest.mark.parametrize(
    ("texts", "whole"),
    [
        (["Ask not", "what."], "Ask not what."), (["", "a", "", "b", ""], "a b"), ([], ""),
        (["你好", "世界。", "再见"], "你好世界。再见"), (["ok", "你好"], "ok 你好"),
        (["안녕", "하세요"], "안녕 하세요"),
    ],
)  # fmt: skip
def test_joined_as_the_language_is_written(texts: list[str], whole: str) -> None:
    assert "".join(join_words(texts)) == whole
