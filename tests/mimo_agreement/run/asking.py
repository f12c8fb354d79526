"""What is asked of tiny files, as records, for tests below the command."""

from collections.abc import Sequence
from pathlib import Path

from mimo_agreement.conditions.condition import parse_condition
from mimo_agreement.records import ModelFiles, SpokenClip
from mimo_agreement.run.jobs import Asked, Model, Settings
from mimo_agreement.run.places import LocalPlaces
from mimo_convert.disk import sha256_of
from mimo_convert.model.model_file import OpenFiles
from mimo_families.mimo_audio.system import SYSTEM
from mimo_families.registry import families
from runtime_check.audio.manifests import find_clips
from runtime_check.run.facts import file_facts
from tests.mimo_agreement.spoken import TOKENIZER
from tests.opened import paths_of


def model_of(folder: Path, name: str) -> Model:
    """A tiny speech LM with its audio tokenizer."""
    files = OpenFiles(families())
    opened = {role: files.model(path) for role, path in paths_of(folder / name, folder / TOKENIZER).items()}
    lm, tokenizer = (file_facts(role, opened[role], files) for role in SYSTEM.roles)
    beside = tokenizer.file, tokenizer.sha256, tokenizer.bytes
    facts = ModelFiles(lm.file, lm.sha256, lm.bytes, lm.label, lm.bits_per_weight, *beside)
    return Model(facts, SYSTEM.name, {one.role: one.sha256 for one in (lm, tokenizer)}, SYSTEM.hearing(opened))


def asked_of(
    folder: Path, names: Sequence[str], manifest: Path, conditions: Sequence[str] = ("clean",), n: int | None = None
) -> Asked:
    """Each of the files is asked for the first `n` clips of a manifest in the conditions."""
    clips = [
        SpokenClip(clip.path.name, clip.sha256, clip.seconds, clip.text, clip.recording, "english")
        for clip in find_clips([manifest])
    ]
    settings = Settings(max_new_tokens=20)
    models = [model_of(folder, name) for name in names]
    return Asked(models, clips[:n], [parse_condition(text) for text in conditions], settings=settings)


def places_of(*folders: Path) -> LocalPlaces:
    """Every file in the folders, by its hash."""
    return LocalPlaces({sha256_of(path): path for folder in folders for path in folder.iterdir() if path.is_file()})
