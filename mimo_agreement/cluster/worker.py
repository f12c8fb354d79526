"""What the operator of a worker says on its command line:

    dask worker tls://scheduler:8786 --preload mimo_agreement.cluster.worker --root /data --cache /scratch --threads 4

Dask imports this module in the worker, and gives it the options behind it.
"""

from pathlib import Path
from typing import Any

import click

from mimo_convert.threads import MAX_THREADS
from quantize.errors import InputError

from .datasets import HubDataset, parse_dataset
from .station import OPERATOR


def parsed(ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]) -> tuple[HubDataset, ...]:
    """The datasets that the operator names."""
    try:
        return tuple(parse_dataset(text) for text in texts)
    except InputError as error:
        raise click.BadParameter(error.message) from error


@click.command()
@click.option("--root", "roots", type=click.Path(exists=True, file_okay=False, path_type=Path), multiple=True)
@click.option("--cache", type=click.Path(file_okay=False, path_type=Path))
@click.option("--threads", type=click.IntRange(1, MAX_THREADS), default=1)
@click.option("--dataset", "datasets", multiple=True, callback=parsed)
def dask_setup(
    worker: Any, roots: tuple[Path, ...], cache: Path | None, threads: int, datasets: tuple[HubDataset, ...]
) -> None:
    """Allow files below each `root` to be read and those of each of the `datasets` to be fetched, keep in `cache` what
    is sent and fetched, and let each process have `threads`."""
    OPERATOR.roots, OPERATOR.cache, OPERATOR.threads = tuple(root.absolute() for root in roots), cache, threads
    OPERATOR.datasets = datasets
