"""Parts of a model that options leave out (`Family.parts`): those that it does not have."""

from collections.abc import Collection, Sequence

from mimo_convert.model.family import Family
from quantize.errors import InputError

from .registry import families


def check_parts(without: Collection[str], members: Sequence[Family]) -> None:
    """Raise InputError, about its option, for a part that none of the `members` has, the main one of which comes
    first."""
    known = {name for family in members for name in family.parts}
    every = {name: part for family in families() for name, part in family.parts.items()}
    for name in sorted(set(without) - known):
        if name not in every:
            raise InputError("without", f"has the part {name!r}", expected=f"one of {', '.join(sorted(every))}")
        option, words = every[name].option, every[name].words
        raise InputError(option, f"is not for {members[0].architecture}, which has no {words}", todo="leave it out")
