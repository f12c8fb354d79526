"""A preload of workers whose processes crash on a clip, by a script (crashing.py). Dask copies this file."""

import sys
from typing import Any

import click

from mimo_agreement.run.processes import workers


@click.command()
@click.option("--script")
@click.option("--crash")
@click.option("--notes")
def dask_setup(worker: Any, script: str, crash: str, notes: str) -> None:
    workers.COMMAND = (sys.executable, script, crash, "always", notes)
