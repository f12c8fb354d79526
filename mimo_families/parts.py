"""Parts of a model that options add or leave out (`Family.parts`): those that it does not have."""

from collections.abc import Collection, Sequence, Set

from mimo_convert.formats.config import Config
from mimo_convert.model.family import Family
from mimo_convert.model.source_model import SourceModel
from quantize.errors import InputError

from .registry import families, systems

WITH, WITHOUT = "--with", "--without"  # the options that name parts
LEAVE_OUT = "leave it out"


def spelled(part: str) -> str:
    """The name of a part as an option has it."""
    return part.replace("_", "-")


def check_parts(named: Set[str], members: Sequence[Family], option: str = WITHOUT) -> None:
    """Raise InputError for a part, `named` by `option`, that no file has that belongs to the `members`, the main one of
    which comes first: a companion alone may be asked for what the others lack."""
    related = [system for system in systems() if any(member in system.families for member in members)]
    known = {name for system in related for family in system.families for name in family.parts}
    every = {name: part for family in families() for name, part in family.parts.items() if part.option}
    for name in sorted(named - every.keys()):
        expected = f"one of {', '.join(sorted(map(spelled, every)))}"
        raise InputError(option, f"{spelled(name)!r} is not a part of any model", expected=expected)
    for name, part in every.items():
        if name in named and name not in known:
            where = part.option if option == WITHOUT else f"{option} {spelled(name)}"
            raise InputError(where, f"is not for {members[0].architecture}, which has no {part.words}", todo=LEAVE_OUT)


def check_written(named: Collection[str], without: Collection[str], model: SourceModel, config: Config) -> None:
    """Raise InputError for a part that a file of the model is to have, since the user `named` it or by default, and
    that cannot be made of its checkpoint, which has that `config`."""
    unsized, absent = model.family.unsized_parts(model.dims), model.family.absent_parts(model.tensors)
    for name, part in model.family.parts.items():
        if name not in without and (name in named or name not in unsized):
            part.check(config)
            if name in absent:
                todo = f"leave it out: {WITHOUT} {spelled(name)}"
                raise InputError(model.where, f"has no tensor of {part.words}, which its config tells of", todo=todo)
