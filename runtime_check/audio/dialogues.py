"""Dialogues as files: JSON lines, a turn each."""

from dataclasses import dataclass
from pathlib import Path

from mimo_convert.fields import shown
from mimo_convert.files import read_text
from mimo_convert.formats.json_file import SURROGATE
from quantize.errors import InputError

from .manifests import MOST_MANIFEST_BYTES, AudioFile, audio_file_of, entry_of

USER, ASSISTANT = "user", "assistant"
ROLES = (USER, ASSISTANT)
TURN_KEYS = ("role", "text", "audio")
TURN = '{"role": "user" or "assistant", "text": TEXT, "audio": FILE}'


@dataclass(frozen=True)
class TurnFile:
    """A turn of a dialogue: its text, empty if it has none, its audio file, and where it stands: `FILE:LINE`."""

    role: str
    text: str
    audio: AudioFile | None
    where: str


def read_dialogue(path: Path) -> list[TurnFile]:
    """Read the turns of a dialogue: lines {"role": …, "text": …, "audio": file}, of which one of text and audio is
    there; files are relative to the dialogue's.

    Raises InputError, about the file and its line, for one that is not a turn, has an unknown key, or an audio file
    that cannot be decoded; and for a file without any.
    """
    text = read_text(path, MOST_MANIFEST_BYTES, expected="a dialogue of JSON lines", bom=True)
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise InputError(path, "has no turns", expected=f"lines {TURN}")
    return [_turn_of_line(path, f"{path}:{number}", line) for number, line in lines]


def _turn_of_line(path: Path, where: str, line: str) -> TurnFile:
    entry = entry_of(line, where, TURN_KEYS, "a turn", TURN)
    role, text, audio = entry.get("role"), entry.get("text"), entry.get("audio")
    if role not in ROLES:
        raise InputError(where, f"has the role {shown(role)}", expected=" or ".join(ROLES))
    if text is None and audio is None:
        raise InputError(where, "has neither a text nor an audio file", expected=TURN)
    if not isinstance(text, str | None) or not isinstance(audio, str | None) or SURROGATE.search(text or ""):
        raise InputError(where, "is not a turn", expected=TURN)
    clip = None if audio is None else audio_file_of(path.parent, audio, None, where, TURN)
    return TurnFile(role, text or "", clip, where)
