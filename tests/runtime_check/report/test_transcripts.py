"""Transcripts as files that other programs read."""

import csv
import io
import json
import re
from pathlib import Path

import pytest

from runtime_check.report.transcripts import FORMATS, TSV_HEAD, clock
from runtime_check.run.transcription.transcribe import Piece, Transcript

PIECES = [Piece(0, 59.9, "And so,"), Piece(59.9, 61.25, ""), Piece(61.25, 3725.0004, "my\tfellow\x1b[31m\nAmericans")]


def written(form: str) -> str:
    return "".join(FORMATS[form](Transcript(Path("a\n.wav"), "english", iter(PIECES))))


def test_text_is_a_line_without_control_characters() -> None:
    assert written("text") == "And so, my\\tfellow\\x1b[31m\\nAmericans\n"


def test_subtitles_are_those_of_pieces_with_words() -> None:
    blocks = written("srt").split("\n\n")
    assert blocks == [
        "1\n00:00:00,000 --> 00:00:59,900\nAnd so,",
        "2\n00:01:01,250 --> 01:02:05,000\nmy\\tfellow\\x1b[31m\\nAmericans", "",
    ]  # fmt: skip


def test_tsv_is_a_table() -> None:
    rows = list(csv.reader(io.StringIO(TSV_HEAD + written("tsv")), delimiter="\t"))
    assert rows[0] == ["audio", "piece_begin", "piece_end", "text"]
    assert rows[1:] == [
        [r"a\n.wav", "0.000", "59.900", "And so,"], [r"a\n.wav", "59.900", "61.250", ""],
        [r"a\n.wav", "61.250", "3725.000", r"my\tfellow\x1b[31m\nAmericans"],
    ]  # fmt: skip


def test_json_is_an_object_a_line() -> None:
    [line] = written("json").splitlines()
    found = json.loads(line)
    assert (found["audio"], found["language"]) == (r"a\n.wav", "english")
    assert found["text"] == r"And so, my\tfellow\x1b[31m\nAmericans"
    assert found["pieces"][1] == {"begin": 59.9, "end": 61.25, "text": "", "language": ""}
    assert found["heard_language"] == ""


@pytest.mark.parametrize("seconds", [0, 0.9996, 59.9999, 3599.9999, 360_000.5])
def test_a_clock_never_shows_sixty(seconds: float) -> None:
    found = re.fullmatch(r"(\d{2,}):(\d\d):(\d\d),(\d{3})", clock(seconds))
    assert found
    hours, minutes, whole, rest = map(int, found.groups())
    assert minutes < 60
    assert whole < 60
    assert hours * 3600 + minutes * 60 + whole + rest / 1000 == pytest.approx(seconds, abs=5e-4)
