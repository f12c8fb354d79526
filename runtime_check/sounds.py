"""What is to be transcribed: sound files, folders of them, and manifests that also say what is said."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import soundfile

from mimo_convert.files import MB, read_text
from mimo_convert.json_file import parse_json
from quantize.errors import InputError

from .transcribe import Clip, read_clip

MANIFEST = ".jsonl"
MOST_MANIFEST_BYTES = 64 * MB
# Of sound files; `.raw` ones do not say what they hold.
FORMATS = soundfile.available_formats().keys() - {"RAW"} | {"aif", "aifc", "oga", "opus"}
SUFFIXES = frozenset(f".{name.lower()}" for name in FORMATS)


@dataclass(frozen=True)
class Sound:
    """A sound file that can be decoded, without its samples; `text` is what is said, where that is known."""

    path: Path
    seconds: float
    sha256: str
    text: str | None

    def read(self) -> Clip:
        """Decode it once more."""
        return read_clip(self.path, self.text)


def find_sounds(paths: Iterable[Path], text: str | None = None) -> list[Sound]:
    """Every sound that `paths` name: files, folders (all sound files in them, by name), manifests (`*.jsonl`: a line
    {"audio": file, "text": what is said}, the file seen from the manifest's folder, the text optional).

    `text` is what is said in a single file. Raises InputError, before anything is run, for what is missing or no sound.
    """
    found = [sound for path in paths for sound in _sounds_of(path)]
    if text is None:
        return found
    if len(found) != 1:
        raise InputError("--text", f"is of one sound, and there are {len(found)}", todo="give a manifest")
    return [replace(found[0], text=checked_text(text, "--text"))]


def _sounds_of(path: Path) -> Iterator[Sound]:
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
        if not files:
            raise InputError(path, "holds no sound files", expected="wav, flac, ogg or mp3 files")
        yield from map(sound_file, files)
    elif path.suffix.lower() == MANIFEST:
        yield from _sounds_of_manifest(path)
    else:
        yield sound_file(path)


def _sounds_of_manifest(path: Path) -> Iterator[Sound]:
    text = read_text(path, MOST_MANIFEST_BYTES, expected="a manifest of JSON lines", bom=True)
    empty = True
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield _sound_of_line(path, number, line)
            empty = False
    if empty:
        raise InputError(path, "names no sound", expected='lines {"audio": FILE, "text": WHAT IS SAID}')


def _sound_of_line(path: Path, number: int, line: str) -> Sound:
    where = f"{path}:{number}"
    try:
        entry = parse_json(line.encode())
        audio, text = entry["audio"], entry.get("text")
        if not isinstance(audio, str) or not isinstance(text, str | None):
            raise TypeError
        os.fsencode(audio)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(where, "is no entry", expected='{"audio": FILE, "text": WHAT IS SAID}') from error
    return sound_file(path.parent / audio, None if text is None else checked_text(text, where))


def checked_text(text: str, where: str) -> str:
    """`text`, if it has words to count errors by. Raises InputError."""
    if not any(character.isalnum() for character in text):
        raise InputError(where, f"{text!r} has no words")
    return text


def sound_file(path: Path, text: str | None = None) -> Sound:
    """A sound file, decoded once to see that it can be. Raises InputError."""
    clip = read_clip(path, text)
    return Sound(path, clip.seconds, clip.sha256, clip.text)
