"""The files of a system: its main file and companions, found by name."""

from collections.abc import Mapping
from pathlib import Path

from mimo_convert.model.family import Family
from mimo_convert.model.model_file import OpenFiles
from quantize.errors import InputError

from .system import NO_WORK, System, SystemType, Work

Paths = Mapping[str, Path]  # of the files of a system, by role


def members_of(main: Path, system: SystemType, given: Paths, todo: str) -> Paths:
    """The files of the system whose main file is `main`: companions as `given`, else those beside it.

    Raises InputError, with the hint `todo`, if a companion is missing or ambiguous.
    """
    beside = {
        family.role: given.get(family.role) or companion_of(main, system.family, family, todo)
        for family in system.companions
    }
    return {system.family.role: main, **beside}


def companion_of(main: Path, family: Family, companion: Family, todo: str) -> Path:
    """The companion's file beside `main`: of the same type by name, else the only one.

    Raises InputError if there is none, or several.
    """
    same = main.with_name(main.name.replace(family.file_stem, companion.file_stem))
    if same != main and same.exists():
        return same
    found = sorted(main.parent.glob(f"{companion.file_stem}-*.gguf"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        what = f"{companion.role.replace('_', ' ')} files beside it: {names}"
        raise InputError(main, what, expected="one", todo=todo)
    return found[0]


def open_system(
    system: SystemType, paths: Paths, files: OpenFiles, threads: int, repack: str, work: Work = NO_WORK
) -> System:
    """Map the files of a system, ready to run. Raises InputError for a file of another role, or one that could not be
    run."""
    for family in system.families:
        found = files.header(paths[family.role]).architecture
        if found != family.architecture:
            raise InputError(
                paths[family.role],
                f"key general.architecture is {found!r}",
                expected=f"{family.architecture!r}",
                todo="give the other file",
            )
    return system.open({role: files.model(path) for role, path in paths.items()}, threads, repack, work)
