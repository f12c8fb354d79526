"""What command lines share: errors as one line, exit statuses, and the options that more than one of them has."""

import functools
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from quantize.quantizer import AUTO, QUANTIZERS
from quantize.recipes import Rule, parse_recipe, parse_rule
from quantize.types import TYPES

from .files import MB, read_text
from .outcome import GATE_FAILED, PASSED, ended_in_one_line, want_debug
from .paths import READS, claim_parameters

MAX_THREADS = 128  # each takes a few MB; with so many, a conversion stays well below 1 GB
MOST_RECIPE_BYTES = MB


def one_line_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """A command that ends in one line whatever happens, has claimed its files before it begins, and has --debug."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with ended_in_one_line():
            claim_parameters(click.get_current_context())
            return command(*args, **kwargs)

    debug = click.option(
        "--debug",
        is_flag=True,
        expose_value=False,
        callback=want_debug,
        help="Show the traceback of an internal error.",
    )
    return debug(wrapped)


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
        text = read_text(recipe, MOST_RECIPE_BYTES, expected="a text file of rules", bom=True)
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
        type=READS,
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
