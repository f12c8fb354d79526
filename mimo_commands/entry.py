"""Entry points of the commands, a function each; nothing is imported before interrupts and errors are handled."""

import gc
import os
import sys
from importlib import import_module

GC_THRESHOLD = 20_000  # new objects before cycles are looked for; with the usual 700, that takes a sixth of a short run
# With several threads, numpy's products differ in the last bits by their number, and take cores from ggml's; threads
# are those of --threads.
ALONE = {"OPENBLAS_NUM_THREADS": "1"}


def convert() -> None:
    """mimo-convert."""
    run("mimo_commands.convert")


def quantize() -> None:
    """mimo-quantize."""
    run("mimo_commands.quantize")


def calibrate() -> None:
    """mimo-calibrate."""
    run("mimo_commands.calibrate")


def check() -> None:
    """mimo-check."""
    run("mimo_commands.check")


def publish() -> None:
    """mimo-publish."""
    run("mimo_commands.publish")


def run(module: str) -> None:
    """Run the click command `main` of a module and exit with its status (`outcome.exit_with_status`)."""
    gc.set_threshold(GC_THRESHOLD)
    os.environ.update(ALONE)  # before numpy is imported
    try:
        outcome = import_module("mimo_convert.command.outcome")
        with outcome.exit_with_status():
            outcome.run_command(import_module(module).main)
    except KeyboardInterrupt:  # during the first of these imports
        sys.stderr.write("interrupted\n")
        sys.exit(130)
