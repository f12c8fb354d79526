"""Options that both command lines have."""

from collections.abc import Callable
from typing import Any

import click

from mimo_convert.paths import READS, WRITES

from . import bundled, repack

audio_option = click.option(
    "--audio", type=READS, metavar="FILE", default=bundled.JFK, show_default="the JFK clip", help="The sound to run."
)
repack_option = click.option(
    "--repack",
    type=click.Choice(repack.CHOICES),
    default=repack.AUTO,
    show_default=True,
    help="Lay quantized weights out anew in memory for faster products; auto: where it repays the time it takes.",
)
dtype_option = click.option(
    "--reference-dtype",
    "dtype",
    type=click.Choice(["f32", "bf16"]),
    default="f32",
    show_default=True,
    help="What PyTorch computes in: float32, or bfloat16, as upstream does.",
)


def report_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--json`, `--junit` and `--html`: the report as a file, beside the table."""
    for name, what in (("html", "as a page"), ("junit", "as JUnit XML"), ("json", "as JSON")):
        option = click.option(
            f"--{name}", f"{name}_file", type=WRITES, metavar="FILE", help=f"Write the report {what}."
        )
        command = option(command)
    return command
