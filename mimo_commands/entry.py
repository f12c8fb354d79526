"""Entry points of the commands, a function each; nothing is imported before interrupts and errors are handled."""

import sys
from importlib import import_module


def convert() -> None:
    """mimo-convert."""
    run("mimo_commands.convert")


def quantize() -> None:
    """mimo-quantize."""
    run("mimo_commands.quantize")


def check() -> None:
    """mimo-check."""
    run("mimo_commands.check")


def publish() -> None:
    """mimo-publish."""
    run("mimo_commands.publish")


def run(module: str) -> None:
    """Run the click command `main` of a module and exit with its status (`outcome.exit_with_status`)."""
    try:
        outcome = import_module("mimo_convert.outcome")
        with outcome.exit_with_status():
            outcome.run_command(import_module(module).main)
    except KeyboardInterrupt:  # during the first of these imports
        sys.stderr.write("interrupted\n")
        sys.exit(130)
