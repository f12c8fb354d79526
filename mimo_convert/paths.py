"""Types of click parameters that name files: the type says whether the command reads or writes what is named.

So that an output can be compared with every input, there is no other way to declare a path (a test sees to it).
"""

from pathlib import Path
from typing import Any

import click

from .claims import Claims

CLAIMS = "mimo_convert.claims"


class Named(click.Path):
    """A path, as pathlib has it."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)


class Reads(Named):
    """A file that is read, or a folder of such."""


class Writes(Named):
    """A file that is written, if only at the end."""


class Folder(Named):
    """A folder that files are written into, under names that the command claims itself."""


class Source(click.ParamType[str]):
    """What is read: a file, a folder, or a name that stands for something elsewhere (`tiny`, the Hub's OWNER/NAME)."""

    name = "source"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(value)


READS, WRITES, FOLDER, SOURCE = Reads(), Writes(), Folder(), Source()


def claim_parameters(context: click.Context) -> None:
    """Claim every file that the command line names. Raises InputError if an output is an input, or another output."""
    claims = claims_of(context)
    named = [
        (param, label(param), Path(value))
        for param in context.command.params
        if isinstance(param.type, (Reads, Source, Writes))
        for value in values(context.params.get(param.name or ""))
    ]
    for param, option, path in named:
        if not isinstance(param.type, Writes):
            claims.reads(option, path)
    for param, option, path in named:
        if isinstance(param.type, Writes):
            claims.writes(option, path)


def values(value: Any) -> list[Any]:
    """Every value of a parameter that may repeat, or be left out."""
    several = value if isinstance(value, (list, tuple)) else [value]
    return [one for one in several if one is not None]


def label(param: click.Parameter) -> str:
    """A parameter as the user knows it: `--json`, `FILE.gguf`."""
    return param.opts[0] if isinstance(param, click.Option) else param.make_metavar(click.Context(click.Command(None)))


def claims_of(context: click.Context) -> Claims:
    """What the running command reads and writes."""
    claims: Claims = context.meta.setdefault(CLAIMS, Claims())
    return claims


def current_claims() -> Claims:
    """`claims_of` the command that is running."""
    return claims_of(click.get_current_context())
