"""What both command lines share: errors as one line, exit statuses, and the number of threads."""

import functools
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

import click

from quantize.errors import InputError

PASSED, GATE_FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


def one_line_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """Turn what the user can cause into one line and its exit status; anything else is ours, and shows a traceback."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except InputError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(BAD_INPUT)
        except BrokenPipeError:  # `| head`: click's own business
            raise
        except OSError as error:  # a name too long, a disk that went away: wherever it struck, it is the system's
            click.echo(f"error: {InputError(error.filename or 'system', error.strerror or str(error))}", err=True)
            sys.exit(BAD_INPUT)
        except KeyboardInterrupt:
            click.echo("interrupted: no unfinished file was left behind", err=True)
            sys.exit(INTERRUPTED)

    return wrapped


def default_threads() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def exit_status(passed: Iterable[bool | None]) -> int:
    """0 unless a check failed; a check without a reference (None) cannot fail."""
    return GATE_FAILED if False in list(passed) else PASSED


threads_option = click.option(
    "--threads", type=click.IntRange(1, 1024), default=default_threads, show_default="all cores", help="Threads."
)
