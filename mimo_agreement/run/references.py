"""Stored references of the clips of a set, by the hashes of these."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mimo_convert.disk import sha256_of
from mimo_convert.sources.shards import LocalShards
from mimo_convert.terminal import tell
from mimo_families.same_model import Models, check_reference_model
from quantize.errors import InputError
from quantize.quoting import quoted
from runtime_check.audio.manifests import AudioFile
from runtime_check.run.activations import Origin
from runtime_check.run.references.sources import Reference, stored_reference
from runtime_check.run.system import SystemType

OPTION = "--reference"
SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Found:
    """A stored reference without its stages: its file, the hash and state of that, and what it was made of."""

    path: Path
    sha256: str
    state: str
    reference: Reference

    @property
    def origin(self) -> Origin:
        """What it was made of."""
        assert self.reference.origin is not None
        return self.reference.origin


def references_of(
    paths: Sequence[Path], system: SystemType, models: Sequence[Models], clips: Sequence[AudioFile]
) -> Mapping[str, Found]:
    """The stored references in files and folders, by the SHA-256 of their clip; one of no clip of the set is told.

    Raises InputError for a file that is none, one of another model, and two of one clip.
    """
    found: dict[str, Found] = {}
    known = {clip.sha256 for clip in clips}
    for path in files_of(paths):
        one = _found(path, system, models)
        clip = one.origin.audio_sha256
        if clip not in known:
            tell(f"{quoted(path)} is the reference of {quoted(one.origin.audio)}, which is not among the clips")
        elif clip in found:
            what = f"is of the same clip as {quoted(found[clip].path)}"
            raise InputError(path, what, expected="one reference a clip", todo="leave one of them out")
        else:
            found[clip] = one
    return found


def files_of(paths: Iterable[Path]) -> list[Path]:
    """The files of references: `paths` themselves, or those in a folder. Raises InputError for a folder without any."""
    found: list[Path] = []
    for path in paths:
        inside = sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path]
        if not inside:
            raise InputError(f"{OPTION} {path}", f"has no file that ends in {SUFFIX}", expected="stored references")
        found += inside
    return found


def _found(path: Path, system: SystemType, models: Sequence[Models]) -> Found:
    state = LocalShards().state(path)
    reference = stored_reference(path, [system])
    for of_model in models:
        check_reference_model(system, of_model, reference, str(path))
    assert reference.stored is not None
    bare = replace(reference.stored, stages={})  # which take much memory
    return Found(path, sha256_of(path), state, Reference(lambda clip, task, response: bare, bare))
