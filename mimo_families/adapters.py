"""Adapters of checkpoints: those that a repository holds beside its base, and those that a user names."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from mimo_convert.model.adapter import CONFIG as ADAPTER_CONFIG
from mimo_convert.model.adapter import open_adapter
from mimo_convert.model.checkpoint import Checkpoint
from mimo_convert.model.family import Family, family_of
from mimo_convert.model.model_file import OpenFiles
from mimo_convert.model.provenance import provenance_of
from quantize.errors import InputError

from .registry import families
from .repositories import Repository

NONE = "none"  # what --adapter says of a repository's base alone
OPTION = "--adapter"


def with_adapter(checkpoint: Checkpoint, said: str | None, repository: Repository | None = None) -> Checkpoint:
    """The checkpoint by its family's names, with the adapter in the folder `said`; None: that of its `repository`, if
    it is of one; NONE: without.

    Raises InputError for an adapter that does not fit the checkpoint, or one for a family that takes none.
    """
    family = known_family(checkpoint)
    if family is None or not family.adapters:
        return checkpoint
    checkpoint = checkpoint.renamed(family.canonical)
    if said and said != NONE:
        return checkpoint.with_adapter(open_adapter(Path(said), family.adapters), family.skipped)
    if repository is None:
        return checkpoint
    if said == NONE:
        return replace(checkpoint, name=repository.base.name, omitted_adapter=repository.adapter.name)
    shards = checkpoint.shards.of_folder(repository.adapter.name)
    for name in filter(None, (ADAPTER_CONFIG, family.adapters.blocks)):
        if shards.exists(repository.adapter / name):
            shards.fetch(repository.adapter / name)
    if not (repository.adapter / ADAPTER_CONFIG).is_file():
        what = f"holds {repository.base.name} and no {repository.adapter.name}/{ADAPTER_CONFIG}"
        raise InputError(repository.folder, what, todo=f"download it again, or {OPTION} {NONE} for the base alone")
    adapter = open_adapter(repository.adapter, family.adapters, repository.folder, shards)
    name = checkpoint.repo.rpartition("/")[2] or repository.folder.resolve().name
    return replace(checkpoint.with_adapter(adapter, family.skipped), name=name)


def adapter_for(file: Path, files: OpenFiles, said: str | None) -> str | None:
    """What --adapter means where nothing is `said` of it: NONE for a file whose base's repository has an adapter that
    was left out."""
    with suppress(InputError):
        return said or (NONE if provenance_of(files.header(file)).adapter_omitted else None)
    return said


def known_family(checkpoint: Checkpoint) -> Family | None:
    """The family of a checkpoint; None if it is unknown, which who converts it tells."""
    with suppress(InputError):
        return family_of(families(), checkpoint)
    return None


def check_takes_adapter(family: Family, said: str | None) -> None:
    """Raise InputError for an adapter where the family takes none."""
    if said and said != NONE and not family.adapters:
        raise InputError(OPTION, f"{said}, but {family.architecture} takes no adapter", todo="leave it out")
