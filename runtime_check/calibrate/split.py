"""Split clips into those that a model is calibrated with, those that choices are made with, and those that are held
out."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from hashlib import sha256

from mimo_convert.formats.calibration import CALIBRATION, HOLD_OUT, SELECTION
from mimo_convert.terminal import tell, warn
from quantize.errors import InputError
from quantize.quoting import quoted
from runtime_check.audio.jfk import JFK_SHA256
from runtime_check.audio.manifests import AudioFile

Source = list[AudioFile]  # clips that belong together
SHARE = 0.2  # of the sources, for selection and hold-out each
LEAST_SOURCES = 5  # of which some can be kept for a selection
LEAST_SECONDS = 600.0


def usable(files: Iterable[AudioFile]) -> list[AudioFile]:
    """The clips that a model may be calibrated with, each once: without the JFK clip, which later validates the file,
    and whatever belongs together with it; told.

    Raises InputError if none is left.
    """
    distinct: dict[str, AudioFile] = {}
    for file in files:
        known = distinct.get(file.sha256)
        distinct[file.sha256] = replace(known, text=known.text or file.text) if known else file
    found = [source for source in sources_of(distinct.values()) if all(file.sha256 != JFK_SHA256 for file in source)]
    kept = [file for source in found for file in source]
    for file in distinct.values():
        if file not in kept:
            tell(f"{quoted(file.path)}: left out, since it is the clip that validates files, or belongs to it")
    if not kept:
        raise InputError("--audio", "names no clip but the one that validates files", todo="give other clips")
    return kept


def sources_of(files: Iterable[AudioFile]) -> list[Source]:
    """The clips that belong together, of one speaker or of one recording, directly or through others; in the order of
    the first of each."""
    found: list[Source] = []
    for file in files:
        same = [source for source in found if any(belong_together(file, other) for other in source)]
        joined = [*(other for source in same for other in source), file]
        begin = found.index(same[0]) if same else len(found)
        found = [source for source in found if source not in same]
        found.insert(begin, joined)
    return found


def belong_together(one: AudioFile, other: AudioFile) -> bool:
    """Whether two clips are of the same speaker or recording, as far as a manifest tells."""
    speaker, recording = one.speaker == other.speaker != "", one.recording == other.recording != ""
    return speaker or recording


def split(files: Sequence[AudioFile], seed: int) -> dict[str, str]:
    """The part that each clip is in, by its hash: sources in the order of a hash of theirs, a fifth held out, a fifth
    for selection, each at least one, the others for calibration. Where there are few, it is told."""
    ranked = sorted(sources_of(files), key=lambda source: rank_of(source, seed))
    parts = [part for part, source in zip(parts_of(len(ranked)), ranked, strict=True) for _ in source]
    every = [file for source in ranked for file in source]
    return {file.sha256: part for file, part in zip(every, parts, strict=True)}


def rank_of(source: Source, seed: int) -> str:
    """What a source is ordered by: a hash of the seed and of its clips' hashes."""
    hashes = " ".join(sorted(file.sha256 for file in source))
    return sha256(f"{seed} {hashes}".encode()).hexdigest()


def parts_of(n: int) -> Iterator[str]:
    """The part of each of `n` sources, in order."""
    held = max(1, round(SHARE * n)) if n > 1 else 0
    selected = held if n >= LEAST_SOURCES else 0
    yield from [HOLD_OUT] * held
    yield from [SELECTION] * selected
    yield from [CALIBRATION] * (n - held - selected)


def tell_of_split(files: Sequence[AudioFile], parts: dict[str, str]) -> None:
    """Say what the clips do not suffice for."""
    n = len(sources_of(files))
    if n == 1:
        warn("1 source of audio: nothing is held out, so that no figure of this calibration can be trusted")
    elif n < LEAST_SOURCES:
        warn(f"{n} sources of audio: 1 is held out, and none is kept for selection; expected {LEAST_SOURCES} or more")
    seconds = sum(file.seconds for file in files if parts[file.sha256] == CALIBRATION)
    if seconds < LEAST_SECONDS:
        tell(f"calibrating with {seconds:.0f} s of audio; {LEAST_SECONDS:.0f} s or more would do better")
