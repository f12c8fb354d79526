"""Companions of a main model, such as the audio tokenizer of a speech LM: the missing, and the superfluous."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import NoReturn

from mimo_convert.formats.config import Config
from mimo_convert.formats.json_file import read_json
from mimo_convert.model.family import Family, family_of_config
from mimo_convert.terminal import tell
from quantize.errors import InputError
from quantize.quoting import quoted
from runtime_check.run.system import SystemType

from .registry import families, systems
from .sources import FOLDER, ModelSource

MOST_SIBLINGS = 1000  # folders that are looked into


@contextmanager
def offering_sibling(main: ModelSource, family: Family, option: str, published: str) -> Iterator[None]:
    """Where the block opens the `published` companion, say which folder beside `main` holds one, too: in the hint of
    its InputError, or in a line."""
    sibling = sibling_of(main, family)
    give = f"{option} {quoted(sibling)}"
    try:
        yield
    except InputError as error:
        if not sibling:
            raise
        raise InputError(error.where, error.what, expected=error.expected, todo=f"give {give}, beside it") from error
    if sibling:
        role = family.role.replace("_", " ")
        tell(f"the {role} is {published}; {give} takes the one beside {quoted(main.value)}")


def sibling_of(main: ModelSource, family: Family) -> Path | None:
    """The folder beside the folder `main` that holds a checkpoint of `family`; None unless there is just one."""
    if main.kind is not FOLDER:
        return None
    parent = os.path.normpath(os.path.join(main.value, os.pardir))
    found = []
    with suppress(OSError), os.scandir(parent) as entries:
        for entry in islice(entries, MOST_SIBLINGS):
            if holds(Path(entry.path), family):
                found.append(Path(os.path.normpath(entry.path)))
    return found[0] if len(found) == 1 else None


def holds(folder: Path, family: Family) -> bool:
    """Whether a folder's config.json names `family`."""
    path = folder / "config.json"
    with suppress(InputError, OSError):
        found = family_of_config(families(), Config(path, read_json(path))) if path.is_file() else None
        return found is not None and found.architecture == family.architecture
    return False


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
