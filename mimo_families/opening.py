"""Open what a user names (sources.py): the checkpoints of a system, and a reference."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from mimo_convert.model.checkpoint import Checkpoint, open_checkpoint, open_hub_checkpoint
from mimo_convert.model.family import Family, family_of
from quantize.errors import InputError
from runtime_check.audio.jfk import JFK_SHA256
from runtime_check.run.references.sources import (
    Reference,
    check_convertible,
    checkpoint_reference,
    has_pytorch,
    import_reference,
    need_pytorch,
    pytorch_reference,
    stored_reference,
)
from runtime_check.run.speech.tasks import SpeechReference
from runtime_check.run.system import Bundled, SystemType

from .adapters import check_takes_adapter, with_adapter
from .companions import offering_sibling
from .registry import families, in_layout, made_of, system_of, systems
from .repositories import base_folders, repository_in
from .sources import BUNDLED, CHECKPOINT, FOLDER, HUB, REFERENCE, STORED, ModelSource, find_source, guessed, resolve

Checkpoints = dict[str, Checkpoint]  # of a system, by role
Sources = Mapping[str, str | None]  # what the user says of the companions, by role
TOKENIZER = "--tokenizer"  # the option that names a companion, unless a command calls it otherwise


class OpenCheckpoints:
    """The checkpoints of one command, each opened once; `stream` as `open_hub_checkpoint` takes it, `adapter` as
    `with_adapter`."""

    def __init__(self, *, stream: bool = False, adapter: str | None = None) -> None:
        self.stream, self.adapter = stream, adapter
        self._opened: dict[tuple[str, str], Checkpoint] = {}

    def open(self, source: ModelSource, name: str = "") -> Checkpoint:
        """The checkpoint in a folder or on the Hub; `name` is the model's, empty: its own. Raises InputError as
        `open_checkpoint`."""
        if (source.value, name) not in self._opened:
            self._opened[source.value, name] = self._open(source, name)
        return self._opened[source.value, name]

    def _open(self, source: ModelSource, name: str) -> Checkpoint:
        if source.kind is not HUB:
            repository = repository_in(Path(source.value))
            checkpoint = open_checkpoint(repository.base if repository else source.value, name)
            return with_adapter(checkpoint, self.adapter, repository)
        try:
            checkpoint = open_hub_checkpoint(source.value, stream=self.stream, inside=base_folders())
            return with_adapter(checkpoint, self.adapter, repository_in(checkpoint.folder.parent))
        except InputError as error:
            raise guessed(source, error) from error

    def open_for(self, source: ModelSource, family: Family) -> Checkpoint:
        """The checkpoint of a source; of a bundled model, the one of the family's role.

        Raises InputError as `open`, and for a bundled model without that role.
        """
        if source.kind is not BUNDLED:
            return self.open(source)
        family = made_of(family)
        for bundled in bundled_models(source.value):
            if family.role in bundled.checkpoints:
                return open_bundled(bundled, family, self)
        raise InputError(source.value, f"has no {family.role.replace('_', ' ')}", todo="give a checkpoint folder")


def open_main(source: str, checkpoints: OpenCheckpoints) -> tuple[SystemType, Checkpoint]:
    """Open the checkpoint `source` (a folder, a Hub id, or a bundled model's name) as a system's main one. Raises
    InputError for anything else."""
    named = resolve(source, CHECKPOINT)
    system, bundled = find_bundled(named)
    if system and bundled:
        return system, open_bundled(bundled, system.family, checkpoints)
    main = checkpoints.open(named)
    family = family_of(families(), main)
    check_takes_adapter(family, checkpoints.adapter)
    return system_of(family), main


def family_in(value: str, checkpoints: OpenCheckpoints) -> Family | None:
    """The family of the checkpoint in the folder `value`; None if it is none, or another source, from which nothing is
    fetched for a message."""
    source = find_source(value)
    with suppress(InputError):
        return family_of(families(), checkpoints.open(source)) if source and source.kind is FOLDER else None
    return None


def open_members(
    system: SystemType, main: Checkpoint, source: str, given: Sources, checkpoints: OpenCheckpoints,
    option: str = TOKENIZER,
) -> Checkpoints:  # fmt: skip
    """The checkpoints of a system by role: `main`, opened from `source`, and the companions as `open_companions`; where
    all files are made of one checkpoint, `main` for each."""
    if system.layout_of:
        return dict.fromkeys(system.roles, main)
    return {system.family.role: main, **open_companions(system, source, given, checkpoints, option)}


def open_companions(
    system: SystemType, source: str, given: Sources, checkpoints: OpenCheckpoints, option: str = TOKENIZER
) -> Checkpoints:
    """Open the companions of the main checkpoint `source`: as `given` by `option`, else the published ones.

    Raises InputError for one of another family; where none was given and the published one is out of reach, with a
    folder beside `source` that holds one.
    """
    main = resolve(source, CHECKPOINT)
    return {
        family.role: _open_companion(system, family, given.get(family.role), main, checkpoints, option)
        for family in system.companions
    }


def _open_companion(
    system: SystemType, family: Family, given: str | None, main: ModelSource, checkpoints: OpenCheckpoints, option: str
) -> Checkpoint:
    if given or main.kind is BUNDLED:
        checkpoint = checkpoints.open_for(resolve(given, CHECKPOINT) if given else main, family)
    else:
        published = system.published.get(family.role, "")
        with offering_sibling(main, family, option, published):
            checkpoint = _open_published(main, family, published, checkpoints, option)
    found = family_of(families(), checkpoint)
    if found.architecture != family.architecture:
        expected = f"{family.architecture} as {family.role.replace('_', ' ')}"
        raise InputError(checkpoint.folder, f"is of {found.architecture}", expected=expected)
    return checkpoint


def _open_published(
    main: ModelSource, family: Family, published: str, checkpoints: OpenCheckpoints, option: str
) -> Checkpoint:
    if not published:
        raise InputError(main.value, f"needs an {family.role.replace('_', ' ')}", todo=f"name it: {option}")
    return checkpoints.open(ModelSource(published, HUB))


def bundled_models(name: str) -> Sequence[Bundled]:
    """The bundled models of that name, of every system."""
    return [system.bundled[name] for system in systems() if name in system.bundled]


def find_bundled(source: ModelSource) -> tuple[SystemType | None, Bundled | None]:
    """The bundled model that a source names, and its system; None if it is another kind of source."""
    named = [(system, system.bundled[source.value]) for system in systems() if source.value in system.bundled]
    return named[0] if source.kind is BUNDLED else (None, None)


def open_bundled(bundled: Bundled, family: Family, checkpoints: OpenCheckpoints) -> Checkpoint:
    """Open the checkpoint of a bundled model for `family`."""
    folder, name = bundled.checkpoints[family.role]
    return checkpoints.open(ModelSource(str(folder), FOLDER), name)


def open_source(source: str, family: Family, checkpoints: OpenCheckpoints) -> Checkpoint:
    """Open the checkpoint that a file of `family` is compared with; of a bundled model, the one of its role.

    Raises InputError for anything else, and for a checkpoint of no known family.
    """
    checkpoint = checkpoints.open_for(resolve(source, CHECKPOINT), family)
    check_takes_adapter(family_of(families(), checkpoint), checkpoints.adapter)
    return checkpoint


def find_reference(
    source: str, given: Sources, clips: Sequence[str], system: SystemType, dtype: str = "f32",
    checkpoints: OpenCheckpoints | None = None, members: Checkpoints | None = None, option: str = TOKENIZER,
) -> Reference:  # fmt: skip
    """The reference `source` for files of `system`: a file that `mimo-check reference` wrote, a bundled model, a folder
    or a Hub id, with companions as `given` by `option`. `clips` are the hashes of the clips; `members` are the system's
    checkpoints, if they were opened from `source`.

    Raises InputError if it is none of these, or if PyTorch is required and not installed.
    """
    known = [system, *(other for other in systems() if other is not system)]
    named = resolve(source, REFERENCE)
    whole, bundled = find_bundled(named)
    alone = all(name in (None, source) for name in given.values())
    is_companion = whole is not None and system.family in whole.companions  # which may do more by itself
    suits = alone and set(clips) == {JFK_SHA256} and dtype == "f32" and not (is_companion and has_pytorch())
    if bundled and bundled.reference and suits:
        return stored_reference(bundled.reference, known)
    if named.kind is STORED:
        return stored_reference(Path(named.value), known)
    if members:
        return checkpoint_reference(pytorch_reference(source, system), members, dtype)
    runtime = system.runtime if system.layout_of else ""
    return open_reference(source, given, dtype, checkpoints or OpenCheckpoints(), option, runtime, system)[1]


def open_reference(
    source: str, given: Sources, dtype: str, checkpoints: OpenCheckpoints, option: str = TOKENIZER, runtime: str = "",
    companion: SystemType | None = None,
) -> tuple[SystemType, Reference]:  # fmt: skip
    """Open the checkpoint `source` and its companions, as `given` by `option`, as a PyTorch reference, with their
    system: that of the files that `runtime` loads, if they can be of this checkpoint; `companion`, if that is one of
    theirs by itself.

    Raises InputError if PyTorch is missing, before anything is downloaded, or if a checkpoint could not be converted.
    """
    named = resolve(source, CHECKPOINT)
    try:
        need_pytorch(source)
    except InputError as error:
        raise guessed(named, error) from error
    system, main = open_main(source, checkpoints)
    if any(other.layout_of == system.name and other.runtime == runtime for other in systems()):
        system = in_layout(system, runtime)
    run = pytorch_reference(source, system)
    members = open_members(system, main, source, given, checkpoints, option)
    if companion and companion.family in system.companions:
        run, members = pytorch_reference(source, companion), {one.role: members[one.role] for one in companion.families}
        system = companion
    for family in system.families:
        check_convertible(members[family.role], family)
    return system, checkpoint_reference(run, members, dtype)


def open_speech_reference(
    source: str, system: SystemType, checkpoints: OpenCheckpoints
) -> tuple[Checkpoint, SpeechReference]:
    """Open the checkpoint `source` of the main file of `system` as the reference of generations in PyTorch.

    Raises InputError if PyTorch is missing, or for a source that is not such a checkpoint, or could not be converted.
    """
    named = resolve(source, CHECKPOINT)
    need_pytorch(named.value)
    run: SpeechReference = import_reference(source, system.speech_reference)
    checkpoint = open_source(source, system.family, checkpoints)
    found = family_of(families(), checkpoint)
    if found.architecture != system.family.architecture:
        raise InputError(source, f"is of {found.architecture}", expected=system.family.architecture)
    check_convertible(checkpoint, system.family)
    return checkpoint, run
