"""Options shared by commands that publish."""

from collections.abc import Callable
from typing import Any

import click

from .paths import READS


def publish_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options of a publication, for `Destination`; the repository is each command's own option."""
    options = [
        click.option("--private", is_flag=True, help="Make the repository private, if it is new."),
        click.option("--yes", is_flag=True, help="Go on without being asked."),
        click.option(
            "--even-if-failed", is_flag=True, help="Publish files whose check failed, too; the card says so at its top."
        ),
        click.option(
            "--card-template",
            type=READS,
            metavar="FILE",
            help="A Jinja2 template in place of our own model card (mimo_publish/card.md.j2).",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command
