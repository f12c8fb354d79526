"""docs/options.md: a table of the options of each command, as click knows them."""

import re
from collections.abc import Iterator, Sequence
from inspect import cleandoc
from pathlib import Path
from textwrap import fill
from typing import Any, NamedTuple

import click

from mimo_commands import calibrate, check, convert, publish, quantize
from mimo_commands.paths import Source
from mimo_convert.command import outcome

DOCUMENT = Path(__file__).parents[2] / "docs" / "options.md"
WIDTH = 120
DEFAULT = re.compile(r"\s*\[default: (.*?)\]$", re.DOTALL)  # at the end of a help text, where click cannot say it
HEAD = """# Options

Every option of every command, with its default; `--help` says the same. This page is made of the commands
(`python -m tools.documents`). What `MODEL`, `CKPT`, `CKPT_OR_FILE` and `SOURCE` may name, and what a file can be
compared with, is in [sources.md](sources.md).
"""
STATUSES = {
    outcome.PASSED: "done; every gate reached, or nothing to compare with",
    outcome.GATE_FAILED: "a gate failed; what arrived on the Hub is not what was sent; a nightly target failed, or its "
    "test message could not be sent",
    outcome.BAD_INPUT: "bad input or usage; the Hub is out of reach; no nightly target failed, but one was not checked",
    outcome.INTERNAL_ERROR: "internal error; the message names the file with its traceback",
    outcome.INTERRUPTED: "interrupted, or not agreed to; the same command resumes",
    outcome.BROKEN_PIPE: "the reader of the output is gone, as of `| head`",
}
VARIABLES = {
    "HF_TOKEN": "the token of the Hub, in place of `hf auth login`",
    "HF_ENDPOINT": "a mirror of the Hub: what is asked, downloaded and linked",
    "HF_HOME, HF_HUB_CACHE": "where the Hub's cache is",
    "HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE": "`1`: ask nobody; what the cache does not hold is an error that says so",
    "HF_HUB_DISABLE_SYMLINKS": "`1`: the cache holds files in place of links",
    "HTTPS_PROXY, HTTP_PROXY, NO_PROXY": "proxies",
    "NO_COLOR": "verdicts are not coloured, unless `--color always`",
    "XDG_CACHE_HOME": "where the traceback of an internal error is kept, in `mimo-convert`",
    "_MIMO_CONVERT_COMPLETE": "`bash_source`, `zsh_source` or `fish_source`: print the code of shell completion; "
    "likewise of the other commands",
}
EVERYWHERE = ("`--debug`", "`--version`", "`--help`")  # and whatever else is the same in all commands
OPTION = re.compile(r"(?<![\w`-])--[a-z][a-z-]*")


class Row(NamedTuple):
    """An option or argument as the table shows it."""

    name: str
    argument: str
    default: str
    what: str


class Part(NamedTuple):
    """A command that does something, what its help says, and its rows."""

    title: str
    usage: str
    paragraphs: Sequence[str]
    rows: Sequence[Row]


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command by name, those of a group one by one."""
    for module in (convert, quantize, calibrate, check, publish):
        name = f"mimo-{module.__name__.rpartition('.')[2]}"
        if not isinstance(module.main, click.Group):
            yield name, module.main
            continue
        for word, command in module.main.commands.items():
            yield f"{name} {word}", command


def part_of(name: str, command: click.Command) -> Part:
    """A command's part of the document."""
    context = click.Context(command, info_name=name, help_option_names=["-h", "--help"])
    usage = " ".join(command.get_usage(context).removeprefix("Usage: ").split())
    paragraphs = [text for text in cleandoc(command.help or "").split("\n\n") if not text.startswith("Exit status")]
    rows = [row_of(param, context) for param in command.get_params(context) if told(param)]
    return Part(name, usage, paragraphs, rows)


def told(param: click.Parameter) -> bool:
    """Whether a parameter has a row: every option that --help shows, and a model's name."""
    return isinstance(param.type, Source) if isinstance(param, click.Argument) else not getattr(param, "hidden", False)


def row_of(param: click.Parameter, context: click.Context) -> Row:
    """An option, or the name of a model."""
    if isinstance(param, click.Argument):
        name = f"`{param.make_metavar(context).strip('[]')}`"
        return Row(name, "`CKPT`", default_of(param), "The model: a checkpoint.")
    assert isinstance(param, click.Option)
    help_text = param.help or ""
    said = DEFAULT.search(help_text)
    names = [*param.opts, *param.secondary_opts]
    return Row(
        ", ".join(f"`{name.strip()}`" for name in names),
        "" if param.is_flag else argument_of(param, context),
        "required" if param.required else said[1] if said else default_of(param),
        DEFAULT.sub("", help_text) + (f" Environment: `{param.envvar}`." if param.envvar else ""),
    )


def argument_of(param: click.Option, context: click.Context) -> str:
    """What an option takes: its choices, its range, or a word for it."""
    if isinstance(param.type, click.Choice) and not param.metavar:
        return ", ".join(f"`{choice}`" for choice in param.type.choices)
    if isinstance(param.type, click.IntRange):
        return f"{param.type.min} to {param.type.max}" if param.type.max else f"at least {param.type.min}"
    return f"`{param.make_metavar(context)}`"


def default_of(param: click.Parameter) -> str:
    """The default of a parameter, empty for one that is simply left out."""
    shown = getattr(param, "show_default", None)
    if isinstance(shown, str):
        return shown
    default: Any = param.to_info_dict()["default"]
    if getattr(param, "is_flag", False):
        named = param.opts[0] if default else (param.secondary_opts or [""])[0]
        return f"`{named}`" if shown and named else ""
    values = default if isinstance(default, (list, tuple)) else [default]
    return ", ".join(f"`{value}`" for value in values if value is not None and not callable(value))


def plain(text: str) -> str:
    """A text of --help in Markdown, on one line: options as code, nothing as HTML or the end of a cell."""
    one_line = " ".join(text.split())
    return OPTION.sub(r"`\g<0>`", one_line.replace("<", r"\<")).replace("|", r"\|")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A table in Markdown."""
    for row in (head, ["---"] * len(head), *rows):
        yield f"| {' | '.join(row)} |"


def rows_table(rows: Sequence[Row]) -> Iterator[str]:
    """Options as a table."""
    cells = [(row.name, row.argument, plain(row.default), plain(row.what)) for row in rows]
    return table(["option", "argument", "default", "what it does"], cells)


def document() -> str:
    """The whole page."""
    parts = [part_of(name, command) for name, command in commands()]
    shared = [
        row for row in dict.fromkeys(row for part in parts for row in part.rows)
        if row.name.endswith(EVERYWHERE) or all(row in part.rows for part in parts)
    ]  # fmt: skip
    lines = [HEAD]
    for part in parts:
        lines += [f"## {part.title}", "", f"`{part.usage}`", ""]
        lines += [f"{fill(plain(text), WIDTH, break_on_hyphens=False)}\n" for text in part.paragraphs]
        lines += [*rows_table([row for row in part.rows if row not in shared]), ""]
    lines += ["## Every command", "", *rows_table(shared), ""]
    statuses = [(str(status), plain(words)) for status, words in STATUSES.items()]
    lines += ["## Exit statuses", "", *table(["status", "meaning"], statuses), ""]
    variables = [(", ".join(f"`{name}`" for name in names.split(", ")), what) for names, what in VARIABLES.items()]
    lines += ["## Environment variables", "", *table(["variable", "what it does"], variables)]
    return "\n".join(lines) + "\n"
