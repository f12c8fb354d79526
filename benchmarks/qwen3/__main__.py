"""`make bench`: Qwen3-ASR at the real size, `python -m benchmarks.qwen3 [PART…]` → docs/benchmarks.md.

Everything is made in a temporary folder and deleted: about 12 GB of disk, 10 minutes.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from benchmarks.document import insert_lines

from . import conversion, gate, harness, imatrix, variants

PARTS: dict[str, Callable[[Path], list[str]]] = {
    "conversion": conversion.lines,
    "imatrix": imatrix.lines,
    "gate": gate.lines,
    "harness": harness.lines,
    "variants": variants.lines,
}


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(list(PARTS)))
@click.option("--folder", type=click.Path(path_type=Path), help="Where a checkpoint is or is made, and kept.")
def main(parts: Sequence[str], folder: Path | None) -> None:
    """Measure PARTS, all by default, print, and put the tables into docs/benchmarks.md."""
    with tempfile.TemporaryDirectory() as name:
        for part in parts or PARTS:
            insert_lines(f"qwen3 {part}", PARTS[part](folder or Path(name)))


if __name__ == "__main__":
    main()
