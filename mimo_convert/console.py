"""What command lines share: errors as one line, exit statuses, and the options that more than one of them has."""

import functools
import os
import sys
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from quantize.errors import InputError
from quantize.quantizer import AUTO, QUANTIZERS
from quantize.recipes import Rule, parse_recipe, parse_rule
from quantize.simd import QuantizerWarning
from quantize.types import TYPES

MAX_THREADS = 128  # each takes a few MB; with so many, a conversion stays well below 1 GB
PASSED, GATE_FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


def one_line_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """Turn what the user can cause into one line and its exit status; anything else is ours, and shows a traceback.

    Warnings become a line each, too.
    """

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("once", QuantizerWarning)
                warnings.showwarning = lambda message, *where: tell(f"warning: {message}")
                return command(*args, **kwargs)
        except InputError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(BAD_INPUT)
        except BrokenPipeError:  # `| head`: click's own business
            raise
        except OSError as error:  # a name too long, a disk that went away: wherever it struck, it is the system's
            click.echo(f"error: {InputError(error.filename or 'system', error.strerror or str(error))}", err=True)
            sys.exit(BAD_INPUT)
        except KeyboardInterrupt as interrupt:
            tell(str(interrupt) or "interrupted")
            sys.exit(INTERRUPTED)

    return wrapped


def tell(line: str) -> None:
    """Say something beside the result."""
    click.echo(line, err=True)


def default_threads() -> int:
    """The cores this process may use, as far as they are of use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MAX_THREADS)


def exit_status(passed: Iterable[bool | None]) -> int:
    """0 unless a check failed; a check without a reference (None) cannot fail."""
    return GATE_FAILED if False in list(passed) else PASSED


def read_rules(tensor_types: Iterable[str], recipe: Path | None) -> tuple[Rule, ...]:
    """The rules of the command line, then those of a recipe's file. Raises InputError for what is none."""
    rules = [parse_rule(text, "--tensor-type") for text in tensor_types]
    if recipe:
        try:
            text = recipe.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise InputError(recipe, f"cannot be read: {reason}", expected="a text file of rules") from error
        rules += parse_recipe(text, str(recipe))
    return tuple(rules)


def rule_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--tensor-type` and `--recipe`, for `read_rules`."""
    of_one = click.option(
        "--tensor-type",
        "tensor_types",
        multiple=True,
        metavar="REGEX=TYPE",
        help="Type of the matrices in whose name REGEX is found; may repeat, the first that matches wins.",
    )
    of_file = click.option(
        "--recipe",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="More such rules, REGEX=TYPE, one a line; those of --tensor-type come first.",
    )
    return of_one(of_file(command))


TYPE_NAME = click.Choice(list(TYPES), case_sensitive=False)

asr_only_option = click.option("--asr-only", is_flag=True, help="Leave out what only speech generation needs.")

quantizer_option = click.option(
    "--quantizer",
    type=click.Choice(QUANTIZERS, case_sensitive=False),
    default=AUTO,
    show_default=True,
    help="What makes the blocks: our SIMD kernels (auto: where there are any) or ggml, which judges them.",
)

threads_option = click.option(
    "--threads", type=click.IntRange(1, MAX_THREADS), default=default_threads, show_default="all cores", help="Threads."
)
