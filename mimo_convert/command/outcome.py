"""End of a command: its exit status, and one line on stderr for an error."""

import os
import sys
import traceback
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click

from mimo_convert.terminal import to_stderr, warn
from quantize.backends import BackendWarning
from quantize.errors import InputError, reason_of
from quantize.quoting import quoted

from .crash import report_line

PASSED, GATE_FAILED, BAD_INPUT, INTERNAL_ERROR, INTERRUPTED, BROKEN_PIPE = 0, 1, 2, 3, 130, 141
DEBUG = "mimo_convert.debug"  # in a click context's `meta`: whether tracebacks are wanted


def run_command(command: click.Command) -> None:
    """Run a click command with the process's arguments and exit with its status; a usage error is one line.

    click's own `main` would report a broken pipe as a failure.
    """
    name = os.path.basename(sys.argv[0])
    if f"_{name}_COMPLETE".replace("-", "_").upper() in os.environ:
        command.main()  # a shell that asks what comes next
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a terminal that knows no ✓
    status = PASSED
    try:
        with command.make_context(name, sys.argv[1:]) as context:
            command.invoke(context)
    except click.exceptions.Exit as end:
        status = end.exit_code
    except click.Abort:
        raise KeyboardInterrupt from None
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        status = error.exit_code
    except click.ClickException as error:
        if isinstance(error, click.UsageError) and error.ctx:
            to_stderr(f"{error.ctx.get_usage()}\nTry '{error.ctx.command_path} --help' for help.\n")
        to_stderr(f"error: {quoted(error.format_message(), 1000)}")
        sys.exit(error.exit_code)
    sys.stdout.flush()
    sys.exit(status)


@contextmanager
def exit_with_status() -> Iterator[None]:
    """Turn every exception of the block into one line on stderr and an exit status: BAD_INPUT for what a user can
    cause, INTERNAL_ERROR for unexpected exceptions. Warnings become a line each."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("once", BackendWarning)
            warnings.showwarning = lambda message, *where: warn(quoted(message, 1000))
            yield
    except (click.exceptions.Exit, click.ClickException, click.Abort):
        raise  # to `run_command`
    except InputError as error:
        fail(f"error: {error}", BAD_INPUT)
    except BrokenPipeError:  # `| head`: as a shell says of what SIGPIPE ended, quietly
        silence()
        sys.exit(BROKEN_PIPE)
    except OSError as error:  # a name too long, a disk that went away: wherever it struck, it is the system's
        fail(f"error: {InputError(error.filename or 'system', reason_of(error))}", BAD_INPUT)
    except MemoryError as error:
        what = f"there is not enough{f' ({error})' if str(error) else ''}"
        fail(f"error: {InputError('memory', what, todo='use a machine with more, or a smaller file')}", BAD_INPUT)
    except KeyboardInterrupt as interrupt:
        fail(str(interrupt) or "interrupted", INTERRUPTED)
    except Exception as error:
        context = click.get_current_context(silent=True)
        if context and context.meta.get(DEBUG):
            to_stderr(traceback.format_exc())
        fail(f"error: {report_line(error, context.command_path if context else 'mimo-convert')}", INTERNAL_ERROR)


def fail(line: str, status: int) -> None:
    """Print a line on stderr and exit, even if stderr is closed."""
    try:
        to_stderr(line)
    except OSError:
        silence()
    sys.exit(status)


def silence() -> None:
    """Redirect stdout and stderr to the null device, so that Python does not complain about closed streams at exit."""
    for fd in (1, 2):
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), fd)


def want_debug(context: click.Context, _: Any, value: bool) -> None:
    """The click callback of --debug."""
    context.meta[DEBUG] = value


def exit_status(passed: Iterable[bool | None]) -> int:
    """The exit status: GATE_FAILED if a check failed; None (no reference) does not count as failed."""
    return GATE_FAILED if False in list(passed) else PASSED
