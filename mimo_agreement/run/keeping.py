"""Clips as they are heard in a condition: written as files, or for players."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mimo_agreement.conditions.apply import degraded_name
from mimo_agreement.conditions.condition import CLEAN, Condition, parse_condition
from mimo_agreement.records import SpokenClip, WorstClip
from mimo_convert.claims import Claims
from mimo_convert.files import input_errors, write_whole
from mimo_convert.listener import phase
from mimo_convert.terminal import tell
from quantize.errors import InputError
from quantize.quoting import quoted
from runtime_check.audio.clips import Clip
from runtime_check.audio.wave import Sound
from runtime_check.audio.write import encoded

from .clips import Clips
from .jobs import Asked, voices_by_clip

OPTION = "--keep-clips"
MANIFEST = "clips-{}.jsonl"  # of a condition
SHORT_HASH = 8  # characters, behind names that are equal


def keep_clips(folder: Path, asked: Asked, clips: Clips, claims: Claims) -> None:
    """Write every clip in every condition but clean as a WAV file of floats, and a manifest of each condition. A clip
    that cannot be degraded is told, and left out.

    Raises InputError for a folder that cannot be written, and for files that the command reads.
    """
    with input_errors(folder, "cannot be made", todo=f"choose another {OPTION}"):
        folder.mkdir(parents=True, exist_ok=True)
    degraded = [condition for condition in asked.conditions if condition.kind != CLEAN]
    with phase("degrading clips", len(degraded) * len(asked.clips), "clips") as progress:
        for condition in degraded:
            lines = []
            for spoken, name, heard in _in_condition(asked, clips, condition):
                claims.writes(OPTION, folder / name)
                write_whole(folder / name, encoded(heard.wave, heard.rate, "WAV", "FLOAT"))
                entry = {"audio": name, "text": spoken.text, "recording": spoken.source}
                lines.append(json.dumps(entry, ensure_ascii=False) + "\n")
                progress.advance(1)
            manifest = folder / MANIFEST.format(condition.name.replace(":", "-"))
            claims.writes(OPTION, manifest)
            write_whole(manifest, "".join(lines).encode("utf-8", "backslashreplace"))


def _in_condition(asked: Asked, clips: Clips, condition: Condition) -> Iterator[tuple[SpokenClip, str, Clip]]:
    """Yield each clip as it is heard in a condition, and a file's name for it."""
    voices = voices_by_clip(asked) if condition.needs_voices else {}
    names = [degraded_name(Path(clip.name), condition) for clip in asked.clips]
    for spoken, name in zip(asked.clips, names, strict=True):
        if names.count(name) > 1:
            name = f"{spoken.sha256[:SHORT_HASH]}-{name}"
        try:
            heard = clips.degraded(spoken.sha256, condition, voices.get(spoken.sha256, ()), asked.seed)
        except InputError as error:
            tell(f"{quoted(spoken.name)} is not kept: {error.message}")
            continue
        yield spoken, name, heard


def sounds_of(worst: Sequence[WorstClip], asked: Asked, clips: Clips) -> Mapping[tuple[str, str], Sound]:
    """The worst clips as they were heard, by their SHA-256 and condition."""
    voices = voices_by_clip(asked)
    found: dict[tuple[str, str], Sound] = {}
    for one in worst:
        key, condition = (one.sha256, one.condition), parse_condition(one.condition)
        if key not in found:
            heard_beside = voices.get(one.sha256, ()) if condition.needs_voices else ()
            heard = clips.degraded(one.sha256, condition, heard_beside, asked.seed)
            found[key] = Sound(f"{one.clip}, {one.condition}", heard.wave, heard.rate)
    return found
