"""Options that both command lines have."""

from pathlib import Path

import click

from . import bundled

FILE = click.Path(path_type=Path)

audio_option = click.option(
    "--audio", type=FILE, metavar="FILE", default=bundled.JFK, show_default="the JFK clip", help="The sound to run."
)
json_option = click.option("--json", "json_file", type=FILE, metavar="FILE", help="Write the report here, too.")
