"""Open what a user names: the checkpoints of a system, and a reference."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from mimo_convert.model.checkpoint import Checkpoint, open_checkpoint
from mimo_convert.model.family import Family, family_of
from quantize.errors import InputError
from runtime_check.audio.jfk import JFK_SHA256
from runtime_check.run.references.sources import (
    Reference,
    check_convertible,
    checkpoint_reference,
    need_pytorch,
    pytorch_reference,
    stored_reference,
)
from runtime_check.run.system import Bundled, SystemType

from .registry import families, system_of, systems

Checkpoints = dict[str, Checkpoint]  # of a system, by role
Sources = Mapping[str, str | None]  # what the user says of the companions, by role


class OpenCheckpoints:
    """The checkpoints of one command, each opened once; `stream` as `open_checkpoint` takes it."""

    def __init__(self, *, stream: bool = False) -> None:
        self.stream = stream
        self._opened: dict[tuple[str, str], Checkpoint] = {}

    def open(self, source: str, name: str = "") -> Checkpoint:
        """A folder or a Hub id, and what the model is called. Raises InputError as `open_checkpoint`."""
        if (source, name) not in self._opened:
            self._opened[source, name] = open_checkpoint(source, name, stream=self.stream)
        return self._opened[source, name]


def open_main(source: str, checkpoints: OpenCheckpoints) -> tuple[SystemType, Checkpoint]:
    """Open the checkpoint `source` (a folder, a Hub id, or a bundled model's name) as a system's main one. Raises
    InputError for anything else."""
    system, bundled = find_bundled(source)
    if system and bundled:
        return system, open_bundled(bundled, system.family, checkpoints)
    main = checkpoints.open(source)
    return system_of(family_of(families(), main)), main


def open_companions(system: SystemType, source: str, given: Sources, checkpoints: OpenCheckpoints) -> Checkpoints:
    """Open the companions of the main checkpoint `source`: as `given`, else the published ones.

    Raises InputError for one of another family.
    """
    _, bundled = find_bundled(source)
    return {
        family.role: _open_companion(system, family, given.get(family.role), bundled, checkpoints)
        for family in system.companions
    }


def _open_companion(
    system: SystemType, family: Family, given: str | None, bundled: Bundled | None, checkpoints: OpenCheckpoints
) -> Checkpoint:
    of_given = system.bundled.get(given) if given else bundled
    if of_given:
        return open_bundled(of_given, family, checkpoints)
    checkpoint = checkpoints.open(given or system.published[family.role])
    found = family_of(families(), checkpoint)
    if found.architecture != family.architecture:
        expected = f"{family.architecture} as {family.role.replace('_', ' ')}"
        raise InputError(checkpoint.folder, f"is of {found.architecture}", expected=expected)
    return checkpoint


def refuse_companion(
    system: SystemType, main: object, role: str, given: object, option: str, family: Family | None = None
) -> NoReturn:
    """Raise InputError: `main`, a file or checkpoint of `system`, has no companion of that role, as which `given`, of
    `family` (None: unknown), was named by `option`. Two that were given in each other's place are told so."""
    name, own = role.replace("_", " "), system.family.role.replace("_", " ")
    for other in systems():
        if other.family is family and system.family in other.companions:
            what = f"{given} is a {family.role.replace('_', ' ')}, and {main} its {own}: these two are swapped"
            raise InputError(option, what, todo=f"give {given} with {option} {main}")
    why = f"is itself an {name}" if role == system.family.role else f"has no {name}"
    raise InputError(option, f"{given}, but {main} {why}", todo="leave it out")


def find_bundled(source: str) -> tuple[SystemType | None, Bundled | None]:
    """The bundled model of that name, and its system; None if there is none."""
    return next(((system, system.bundled[source]) for system in systems() if source in system.bundled), (None, None))


def open_bundled(bundled: Bundled, family: Family, checkpoints: OpenCheckpoints) -> Checkpoint:
    """Open the checkpoint of a bundled model for `family`."""
    folder, name = bundled.checkpoints[family.role]
    return checkpoints.open(str(folder), name)


def open_source(source: str, family: Family, checkpoints: OpenCheckpoints) -> Checkpoint:
    """Open the checkpoint that a file of `family` is compared with; of a bundled model, the one of its role.

    Raises InputError for anything else.
    """
    _, bundled = find_bundled(source)
    if bundled and family.role in bundled.checkpoints:
        return open_bundled(bundled, family, checkpoints)
    checkpoint = checkpoints.open(source)
    family_of(families(), checkpoint)
    return checkpoint


def find_reference(
    source: str, given: Sources, clips: Sequence[str], system: SystemType, dtype: str = "f32",
    checkpoints: OpenCheckpoints | None = None, members: Checkpoints | None = None,
) -> Reference:  # fmt: skip
    """The reference `source` for files of `system`: a file that `mimo-check reference` wrote, a bundled model, a folder
    or a Hub id, with companions as `given`. `clips` are the hashes of the clips; `opened` are the system's checkpoints,
    if they were opened from `source`.

    Raises InputError if it is none of these, or if PyTorch is required and not installed.
    """
    known = [system, *(other for other in systems() if other is not system)]
    _, bundled = find_bundled(source)
    alone = all(name in (None, source) for name in given.values())
    if bundled and bundled.reference and alone and set(clips) == {JFK_SHA256} and dtype == "f32":
        return stored_reference(bundled.reference, known)
    if Path(source).is_file():
        return stored_reference(Path(source), known)
    if members:
        return checkpoint_reference(pytorch_reference(source, system), members, dtype)
    return open_reference(source, given, dtype, checkpoints or OpenCheckpoints())[1]


def open_reference(
    source: str, given: Sources, dtype: str, checkpoints: OpenCheckpoints
) -> tuple[SystemType, Reference]:
    """Open the checkpoint `source` and its companions as a PyTorch reference, with their system.

    Raises InputError if PyTorch is missing, before anything is downloaded, or if a checkpoint could not be converted.
    """
    need_pytorch(source)
    system, main = open_main(source, checkpoints)
    run = pytorch_reference(source, system)
    members = {system.family.role: main, **open_companions(system, source, given, checkpoints)}
    for family in system.families:
        check_convertible(members[family.role], family)
    return system, checkpoint_reference(run, members, dtype)
