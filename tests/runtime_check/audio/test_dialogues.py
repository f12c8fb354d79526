"""Dialogues as files: what is read back, and what a line can be told."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantize.errors import InputError
from runtime_check.audio.dialogues import read_dialogue
from runtime_check.audio.jfk import JFK, JFK_SHA256

TEXT = st.text(st.characters(codec="utf-8"), min_size=1)
TURNS = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "text": TEXT}), min_size=1, max_size=5
)


@given(TURNS, st.booleans())
def test_turns_are_read_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, turns: list[dict[str, str]], ascii_only: bool
) -> None:
    path = tmp_path_factory.mktemp("dialogue") / "turns.jsonl"
    lines = [json.dumps(turn, ensure_ascii=ascii_only) for turn in turns]
    path.write_bytes("\n".join(lines).encode())
    found = read_dialogue(path)
    assert [{"role": turn.role, "text": turn.text} for turn in found] == turns
    assert [turn.where for turn in found] == [f"{path}:{number}" for number in range(1, len(turns) + 1)]


def test_audio_is_relative_to_the_dialogue(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    shutil.copy(JFK, tmp_path / "clips" / "a.wav")
    path = tmp_path / "turns.jsonl"
    path.write_text('\n{"role": "user", "audio": "clips/a.wav"}\n\n{"role": "assistant", "text": "Yes."}\n')
    first, second = read_dialogue(path)
    assert first.audio is not None
    assert (first.audio.sha256, first.text, first.where) == (JFK_SHA256, "", f"{path}:2")
    assert (second.audio, second.text, second.where) == (None, "Yes.", f"{path}:4")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("hello", "is not a turn"),
        ("[]", "is not a turn"),
        ('{"role": "user", "text": "a", "txt": "b"}', r"has the unknown key 'txt'; did you mean 'text'\?"),
        (
            '{"role": "user", "text": "a", "voice": "b"}',
            "has the unknown key 'voice'; expected one of role, text",
        ),
        ('{"role": "system", "text": "a"}', "has the role 'system'; expected user or assistant"),
        ('{"text": "a"}', "has the role None; expected user or assistant"),
        ('{"role": "user"}', "has neither a text nor an audio file"),
        ('{"role": "user", "text": 3}', "is not a turn"),
        ('{"role": "user", "text": "\\ud800"}', "is not a turn"),
        ('{"role": "user", "text": "a", "text": "b"}', "is not a turn"),
        ('{"role": "user", "audio": "absent.wav"}', r".*absent.wav: no such file; expected a wav"),
        ('{"role": "user", "audio": "\\u0000"}', r".*cannot be read"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, says: str) -> None:
    path = tmp_path / "turns.jsonl"
    path.write_text(f'{{"role": "user", "text": "a"}}\n{line}\n')
    with pytest.raises(InputError, match=says) as error:
        read_dialogue(path)
    assert str(error.value).startswith(f"{path}:2: ")


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_a_file_without_turns(tmp_path: Path, text: str) -> None:
    path = tmp_path / "turns.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match="has no turns; expected lines"):
        read_dialogue(path)
