"""What the work at hand says: results and messages, to the listener, or else on stdout and stderr.

Control characters are escaped and lines shortened, whatever a file's names contain.
"""

import textwrap

import click

from quantize.errors import InputError, reason_of
from quantize.quoting import escaped, shortened

from .listener import listener

LONGEST = 1900  # characters of a line; a person reads none that is longer


def show(text: str, brief: str = "") -> None:
    """Say a result; `brief` is what must be said of it even where quiet was asked for. Raises InputError if it cannot
    be written, BrokenPipeError if its reader is gone."""
    if heard := listener():
        heard.result(clean(text), clean(brief))
    else:
        put(clean(text) + "\n")


def show_whole(text: str) -> None:
    """Say a result that is clean already, with lines of any length. Raises as `show`."""
    if heard := listener():
        heard.result(text)
    else:
        put(f"{text}\n")


def put(text: str) -> None:
    """Write a text that is clean already to stdout, at once. Raises as `show`."""
    try:
        click.echo(text, nl=False)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InputError("standard output", f"cannot be written: {reason_of(error)}") from error


def tell(line: str) -> None:
    """Say a message about the work at hand."""
    if heard := listener():
        heard.message(clean(line))
    else:
        to_stderr(line)


def warn(line: str) -> None:
    """Say a message that must not be missed, even where quiet was asked for."""
    if heard := listener():
        heard.warning(clean(f"warning: {line}"))
    else:
        to_stderr(f"warning: {line}")


def wants_details() -> bool:
    """Whether whoever listens asked for more than is usually shown."""
    heard = listener()
    return heard is not None and heard.verbose


def to_stderr(line: str) -> None:
    """Write a line to stderr, whoever listens."""
    click.echo(clean(line), err=True)


def clean(text: str) -> str:
    """Escape unprintable characters of `text` except line breaks, and shorten long lines."""
    return "\n".join(shortened(line, LONGEST) for line in text.split("\n"))


def wrapped(label: str, text: str) -> str:
    """Wrap a text of any length, such as a transcript, behind its label."""
    lines = textwrap.wrap(escaped(text), LONGEST - len(label))
    return f"{label}{f'{chr(10)}{chr(32) * len(label)}'.join(lines)}"
