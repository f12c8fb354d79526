"""Where the commands begin: nothing is imported before there is somebody to catch an interrupt, or a failure.

Every command of pyproject.toml is a function here.
"""

import sys
from importlib import import_module


def convert() -> None:
    """mimo-convert."""
    run("mimo_convert.cli")


def quantize() -> None:
    """mimo-quantize."""
    run("quantize.cli")


def check() -> None:
    """mimo-check."""
    run("runtime_check.cli")


def publish() -> None:
    """mimo-publish."""
    run("publish.cli")


def run(module: str) -> None:
    """Run the click command `main` of a module, and exit with its status (`outcome.ended_in_one_line`)."""
    try:
        outcome = import_module("mimo_convert.outcome")
        with outcome.ended_in_one_line():
            outcome.run_command(import_module(module).main)
    except KeyboardInterrupt:  # during the first of these imports
        sys.stderr.write("interrupted\n")
        sys.exit(130)
