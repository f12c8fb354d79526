"""The files of a system: its main file and companions, found by name."""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from mimo_convert.model.family import Family
from mimo_convert.model.gguf_facts import type_of_file
from mimo_convert.model.model_file import OpenFiles
from mimo_convert.plan.named_recipes import NAMED
from mimo_convert.plan.variant import file_name
from mimo_convert.terminal import tell
from quantize.errors import InputError
from quantize.quoting import quoted
from quantize.types import TYPES, Type

from .system import NO_WORK, Compute, System, SystemType, Work

Paths = Mapping[str, Path]  # of the files of a system, by role


def members_of(main: Path, system: SystemType, given: Paths, files: OpenFiles, todo: str) -> Paths:
    """The files of the system whose main file is `main`: companions as `given`, else those beside it.

    Raises InputError, with the hint `todo`, if a companion is missing.
    """
    beside = {
        family.role: given.get(family.role) or companion_of(main, system, family, files, todo)
        for family in system.companions
    }
    return {system.family.role: main, **beside}


def companion_of(main: Path, system: SystemType, companion: Family, files: OpenFiles, todo: str) -> Path:
    """The companion's file beside `main`: by name, else what is there. Of several, the one with the most bits per
    weight, the first by name; a line says so.

    Raises InputError if there is none.
    """
    for name in companion_names(main.name, declared_type(main, files), system, companion):
        if (beside := main.with_name(name)) != main and beside.exists():
            return beside
    found = sorted(main.parent.glob(f"{companion.file_stem}-*.gguf"))
    role, names = companion.role.replace("_", " "), ", ".join(path.name for path in found)
    if not found:
        raise InputError(main, f"{role} files beside it: none", expected="one", todo=todo)
    taken = min(found, key=lambda path: (-bits_per_weight(path, files), path.name))
    if len(found) > 1:
        tell(
            f"{quoted(main)}: {role} files beside it: {quoted(names)}; taking {quoted(taken.name)}; for another, {todo}"
        )
    return taken


def companion_names(main: str, main_type: Type | None, system: SystemType, companion: Family) -> Iterator[str]:
    """The names that a companion of the file called `main` may have, the best first.

    A file that is named by its type or its recipe (`STEM-TYPE.gguf`, `STEM-TYPE-VARIANT.gguf`) has a companion of the
    system's type for it; a file of another name first one that is called as it is.
    """
    prefix = system.companion_prefix
    stem = ".+?" if prefix else "|".join(map(re.escape, system.family.stems))
    bases = TYPES | {name: recipe.base for name, recipe in NAMED.items()}
    named = re.fullmatch(rf"({stem})-((?i:{'|'.join(bases)}))(?:-(.+))?\.gguf", main)
    alike = prefix + main if prefix else re.sub(stem, companion.file_stem, main)
    if not named:
        yield alike
    if main_type := main_type or (bases[named[2].lower()] if named else None):
        other = prefix + named[1] if prefix and named else companion.file_stem
        of_type = companion.spelled(system.companion_type(main_type).name)
        if named and named[3]:
            yield file_name(other, of_type, named[3])
        yield file_name(other, of_type)
    yield alike


def declared_type(path: Path, files: OpenFiles) -> Type | None:
    """The type that a file declares; None if it declares none, or cannot be read, which whoever opens it says."""
    with suppress(InputError):
        return type_of_file(files.header(path))
    return None


def bits_per_weight(path: Path, files: OpenFiles) -> float:
    """Bits per weight of a file's declared type; 0 if it is unknown."""
    declared = declared_type(path, files)
    return declared.bits_per_weight if declared else 0.0


def open_system(system: SystemType, paths: Paths, files: OpenFiles, compute: Compute, work: Work = NO_WORK) -> System:
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
    return system.open({role: files.model(path) for role, path in paths.items()}, compute, work)
