"""Parts of a model that options leave out (`Family.parts`): those that it does not have."""

from collections.abc import Collection, Sequence

from mimo_convert.model.family import Family
from quantize.errors import InputError

from .registry import families, systems


def check_parts(without: Collection[str], members: Sequence[Family]) -> None:
    """Raise InputError, about its option, for a part that no file has that belongs to the `members`, the main one of
    which comes first: a companion alone may be asked for what the others lack."""
    related = [system for system in systems() if any(member in system.families for member in members)]
    known = {name for system in related for family in system.families for name in family.parts}
    every = {name: part for family in families() for name, part in family.parts.items() if part.option}
    for name in sorted(set(without) - known):
        if name not in every:
            raise InputError("without", f"has the part {name!r}", expected=f"one of {', '.join(sorted(every))}")
        option, words = every[name].option, every[name].words
        raise InputError(option, f"is not for {members[0].architecture}, which has no {words}", todo="leave it out")
