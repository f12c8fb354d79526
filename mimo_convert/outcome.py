"""How a command ends: an exit status, and one line on stderr where it is not a result."""

import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click

from quantize.errors import InputError, reason_of
from quantize.quoting import quoted
from quantize.simd import QuantizerWarning

from .crash import report_line
from .terminal import tell

PASSED, GATE_FAILED, BAD_INPUT, INTERNAL_ERROR, INTERRUPTED, BROKEN_PIPE = 0, 1, 2, 3, 130, 141
DEBUG = "mimo_convert.debug"  # in a click context's `meta`: whether tracebacks are wanted


def run_command(command: click.Command) -> None:
    """Run a command with the process's arguments, and exit with its status; usage errors are a line, too.

    click's own `main` would take a broken pipe for a failure.
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
            tell(f"{error.ctx.get_usage()}\nTry '{error.ctx.command_path} --help' for help.\n")
        tell(f"error: {quoted(error.format_message(), 1000)}")
        sys.exit(error.exit_code)
    sys.stdout.flush()
    sys.exit(status)


@contextmanager
def ended_in_one_line() -> Iterator[None]:
    """Turn every exception in the block into one line and its exit status: what the user can cause is BAD_INPUT, what
    nobody foresaw INTERNAL_ERROR. Warnings become a line each, too."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("once", QuantizerWarning)
            warnings.showwarning = lambda message, *where: tell(f"warning: {quoted(message, 1000)}")
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
            tell(traceback.format_exc())
        fail(f"error: {report_line(error, context.command_path if context else 'mimo-convert')}", INTERNAL_ERROR)


def fail(line: str, status: int) -> None:
    """Say why, and exit; whether or not anybody reads it."""
    try:
        tell(line)
    except OSError:
        silence()
    sys.exit(status)


def silence() -> None:
    """Let nothing more be written to streams that nobody reads: Python would complain at its end."""
    for fd in (1, 2):
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), fd)


def want_debug(context: click.Context, _: Any, value: bool) -> None:
    """The callback of --debug."""
    context.meta[DEBUG] = value
