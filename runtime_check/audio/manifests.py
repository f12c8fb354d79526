"""Find audio clips: files, folders, and manifests with reference texts."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import soundfile

from mimo_convert.fields import one_of, shown
from mimo_convert.files import MB, STREAM, read_text
from mimo_convert.formats.json_file import parse_json
from quantize.errors import InputError

from .clips import Clip, clip_of, read_clip

MANIFEST = ".jsonl"
TEXTS = ("speaker", "recording")  # of an entry, beside its text: clips that have one in common belong together
SYNTHETIC = "synthetic"
ENTRY_KEYS = ("audio", "text", *TEXTS, SYNTHETIC)
ENTRY = '{"audio": FILE, "text": REFERENCE TEXT}'
STDIN = Path("standard input")  # as a clip's path
MOST_MANIFEST_BYTES = 64 * MB
KEPT_SAMPLES = 1 << 24  # of the first clips, that are kept: 17 minutes at 16 kHz, 64 MB
# Of audio files, except `.raw`, which has no header.
FORMATS = soundfile.available_formats().keys() - {"RAW"} | {"aif", "aifc", "oga", "opus"}
SUFFIXES = frozenset(f".{name.lower()}" for name in FORMATS)


@dataclass(frozen=True)
class AudioFile:
    """An audio file that can be decoded; `text` is the reference text, `clip` its decoded samples, if they are kept.

    A manifest may say more: `speaker` and `recording` are names that clips have in common which belong together,
    `is_synthetic` that nobody spoke it.
    """

    path: Path
    seconds: float
    sha256: str
    text: str | None
    clip: Clip | None = None
    speaker: str = ""
    recording: str = ""
    is_synthetic: bool = False

    def read(self) -> Clip:
        """The clip, decoded again if its samples were not kept. Raises InputError if the file has changed."""
        clip = self.clip or read_clip(self.path)
        if clip.sha256 != self.sha256:
            raise InputError(self.path, "was changed while the command ran", todo="run the command again")
        return replace(clip, text=self.text)


def find_clips(paths: Iterable[Path], text: str | None = None) -> list[AudioFile]:
    """Find the audio files of `paths`: files, `-` (standard input), folders (all audio files, by name), manifests
    (`*.jsonl`: lines {"audio": file, "text": reference}; the file relative to the manifest, the text optional, as are
    "speaker", "recording" and "synthetic").

    `text` is the reference text of a single file. Raises InputError, before anything is run, for a file that is missing
    or cannot be decoded.
    """
    found: list[AudioFile] = []
    kept = 0
    for clip in (clip for path in paths for clip in _clips_of(path)):
        kept += len(clip.clip.wave) if clip.clip else 0
        found.append(clip if kept <= KEPT_SAMPLES or clip.path == STDIN else replace(clip, clip=None))
    if text is None:
        return found
    if len(found) != 1:
        raise InputError("--text", f"is the text of one clip, found {len(found)}", todo="give a manifest")
    return [replace(found[0], text=checked_text(text, "--text"))]


def _clips_of(path: Path) -> Iterator[AudioFile]:
    if path == STREAM:
        yield clip_from_stdin()
    elif path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
        if not files:
            raise InputError(path, "has no audio files", expected="wav, flac, ogg or mp3 files")
        yield from map(audio_file, files)
    elif path.suffix.lower() == MANIFEST:
        yield from _clips_of_manifest(path)
    else:
        yield audio_file(path)


def _clips_of_manifest(path: Path) -> Iterator[AudioFile]:
    text = read_text(path, MOST_MANIFEST_BYTES, expected="a manifest of JSON lines", bom=True)
    empty = True
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield _clip_of_line(path, number, line)
            empty = False
    if empty:
        raise InputError(path, "names no audio files", expected=f"lines {ENTRY}")


def _clip_of_line(path: Path, number: int, line: str) -> AudioFile:
    where = f"{path}:{number}"
    entry = entry_of(line, where, ENTRY_KEYS, "a manifest entry", ENTRY)
    audio, text, synthetic = entry.get("audio"), entry.get("text"), entry.get(SYNTHETIC, False)
    if not isinstance(audio, str) or not isinstance(text, str | None):
        raise InputError(where, "is not a manifest entry", expected=ENTRY)
    names = [entry.get(key, "") for key in TEXTS]
    for key, name in zip(TEXTS, names, strict=True):
        if not isinstance(name, str):
            raise InputError(where, f"has the {key} {shown(name)}", expected="a name, in quotes")
    if not isinstance(synthetic, bool):
        raise InputError(where, f"has {SYNTHETIC} {shown(synthetic)}", expected="true or false")
    checked = None if text is None else checked_text(text, where)
    file = audio_file_of(path.parent, audio, checked, where, ENTRY)
    return replace(file, speaker=names[0], recording=names[1], is_synthetic=synthetic)


def entry_of(line: str, where: str, keys: Sequence[str], what: str, form: str) -> Mapping[str, Any]:
    """The entry of a line of JSON at `where`, `what` it is and its `form`. Raises InputError for another value, and for
    a key that is not in `keys`."""
    try:
        entry = parse_json(line.encode())
        if not isinstance(entry, dict):
            raise TypeError
    except (ValueError, TypeError) as error:
        raise InputError(where, f"is not {what}", expected=form) from error
    for key in entry.keys() - set(keys):
        raise InputError(where, f"has the unknown key {shown(key)}", **one_of(key, keys))
    return entry


def audio_file_of(folder: Path, name: str, text: str | None, where: str, form: str) -> AudioFile:
    """The audio file `name`, relative to `folder`, that an entry at `where` of that `form` names; errors are about the
    entry."""
    try:
        os.fsencode(name)
        return audio_file(folder / name, text)
    except UnicodeEncodeError as error:
        raise InputError(where, "names a file that cannot be", expected=form) from error
    except InputError as error:
        raise InputError(where, f"{error.where}: {error.what}", expected=error.expected, todo=error.todo) from error


def checked_text(text: str, where: str) -> str:
    """`text` if it contains words. Raises InputError otherwise."""
    if not any(character.isalnum() for character in text):
        raise InputError(where, f"{text!r} has no words")
    return text


def clip_from_stdin() -> AudioFile:
    """Decode an audio file from standard input, to its end. Raises InputError."""
    with tempfile.TemporaryFile() as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
        file.flush()
        clip = clip_of(file, STDIN)
    return AudioFile(STDIN, clip.seconds, clip.sha256, clip.text, clip)


def audio_file(path: Path, text: str | None = None) -> AudioFile:
    """Decode an audio file to validate it. Raises InputError."""
    clip = read_clip(path, text)
    return AudioFile(path, clip.seconds, clip.sha256, clip.text, clip)
