"""Click parameter types of paths: whether the command reads or writes them, so that outputs are compared with inputs.

A test ensures that no other path types are used.
"""

from pathlib import Path
from typing import Any

import click

from mimo_convert.claims import Claims
from mimo_convert.files import STREAM
from quantize.errors import InputError

CLAIMS = "mimo_convert.claims"


class Named(click.Path):
    """A path as a pathlib.Path."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)


class Reads(Named):
    """A file or folder that is read."""


class Writes(Named):
    """A file that is written."""


class Folder(Named):
    """A folder that files are written into, or a file that the command itself claims."""


class Source(click.ParamType[str]):
    """A source that is read: a file, a folder, a bundled model, or a Hub id."""

    name = "source"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(value)


READS, WRITES, FOLDER, SOURCE = Reads(), Writes(), Folder(), Source()


def claim_parameters(context: click.Context) -> None:
    """Claim every path on the command line. Raises InputError if an output is an input, or another output, and for two
    that are standard input, or output."""
    check_streams(context)
    claims = claims_of(context)
    named = [
        (param, label(param), path)
        for param in context.command.params
        if isinstance(param.type, (Reads, Source, Writes))
        for value in values(context.params.get(param.name or ""))
        if (path := local_path(param, value)) not in (None, STREAM)
    ]
    for param, option, path in named:
        if not isinstance(param.type, Writes):
            claims.reads(option, path)
    for param, option, path in named:
        if isinstance(param.type, Writes):
            claims.writes(option, path)


def check_streams(context: click.Context) -> None:
    """Raise InputError if several parameters are `-`, for reading or for writing."""
    for kind, what in ((Reads, "input"), (Writes, "output")):
        options = [option for option, _ in streams(context, kind)]
        if len(options) > 1:
            raise InputError(" and ".join(options), f"are both -, standard {what}", todo="give one of them a file")


def streams(context: click.Context, kind: type[click.ParamType[Any]]) -> list[tuple[str, Path]]:
    """The parameters of a type that are `-`, as (label, path)."""
    return [
        (label(param), Path(value))
        for param in context.command.params
        if isinstance(param.type, kind)
        for value in values(context.params.get(param.name or ""))
        if Path(value) == STREAM
    ]


def local_path(param: click.Parameter, value: Any) -> Path | None:
    """The file or folder that a parameter's value names; None for a source that is not on this disk."""
    if not isinstance(param.type, Source):
        return Path(value)
    from mimo_families.sources import find_source  # late: --help needs none of it

    source = find_source(value)
    return source.path if source else None


def values(value: Any) -> list[Any]:
    """The values of a parameter that may be repeated or missing."""
    several = value if isinstance(value, (list, tuple)) else [value]
    return [one for one in several if one is not None]


def label(param: click.Parameter) -> str:
    """A parameter's name for messages: `--json`, `FILE.gguf`."""
    if isinstance(param, click.Option):
        return param.opts[0]
    return param.make_metavar(click.Context(click.Command(None))).strip("[]")  # around one that need not be given


def claims_of(context: click.Context) -> Claims:
    """The claims of a command."""
    claims: Claims = context.meta.setdefault(CLAIMS, Claims())
    return claims


def current_claims() -> Claims:
    """The claims of the running command."""
    return claims_of(click.get_current_context())
