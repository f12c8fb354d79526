"""What a command says: results on stdout, everything else on stderr.

Names from files are quoted where they are put into a line; here, whatever is left that could command a terminal is
escaped, and no line is longer than a terminal's own limits.
"""

import textwrap

import click

from quantize.errors import InputError, reason_of
from quantize.quoting import escaped, shortened

LONGEST = 1900  # characters of a line; a person reads none that is longer


def show(text: str) -> None:
    """Write a result to stdout. Raises InputError if stdout cannot take it, but for a pipe that nobody reads."""
    try:
        click.echo(clean(text))
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InputError("standard output", f"cannot be written: {reason_of(error)}") from error


def tell(line: str) -> None:
    """Say something beside the result."""
    click.echo(clean(line), err=True)


def clean(text: str) -> str:
    """`text` with its line breaks, everything else that is not printable escaped, and long lines shortened."""
    return "\n".join(shortened(line, LONGEST) for line in text.split("\n"))


def wrapped(label: str, text: str) -> str:
    """A text that may be of any length, such as a transcript, behind its label; in lines of at most LONGEST."""
    lines = textwrap.wrap(escaped(text), LONGEST - len(label))
    return f"{label}{f'{chr(10)}{chr(32) * len(label)}'.join(lines)}"
