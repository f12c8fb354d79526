"""`make bench`, last part: what a nightly run costs at the real size, of a Q4_K pair against a stored reference,
and a publication when the files were checked.

Everything is made in a temporary folder and deleted: about 25 GB of disk, 6 minutes. The table goes into
docs/benchmarks.md. The weights are random, so gates for trained models may fail, and no response ends by itself.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from benchmarks.document import insert_lines
from benchmarks.full_size import cat_cold, run, shards
from benchmarks.generate import pair, pair_options
from benchmarks.machine import machine
from benchmarks.validation import watched

BIN = Path(sys.executable).parent
CONFIG = """
[[target]]
name = "q4_k"
file = "gguf/mimo-asr-q4_k.gguf"
tokenizer = "gguf/mimo-tokenizer-q8_0.gguf"
reference = "reference.safetensors"
"""


@click.command()
@pair_options
def main(size: str, checkpoint: Path | None, folder: Path | None) -> None:
    """Measure, print, and put the table into docs/benchmarks.md."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        lm, tokenizer = pair(checkpoint, Path(name) / "checkpoint", size)
        insert_lines("nightly", lines(lm, tokenizer, Path(name)))


def lines(lm: Path, tokenizer: Path, folder: Path) -> list[str]:
    """The machine, and a table of what was measured."""
    both, reference = [lm, "--tokenizer", tokenizer], folder / "reference.safetensors"
    options = ["--outtype", "q4_k", "--fuse-qkv", "--no-check", "--base-model", "Some/Model", "--out", folder / "gguf"]
    run([BIN / "mimo-convert", *both, *options], stdout=subprocess.DEVNULL)
    run([BIN / "mimo-check", "reference", *both, "-o", reference], stdout=subprocess.DEVNULL)
    files = sorted((folder / "gguf").glob("*.gguf"))
    cat = cat_cold(files)
    (folder / "nightly.toml").write_text(CONFIG)
    nightly = watched(BIN / "mimo-check", "nightly", folder / "nightly.toml").wall
    [page, report] = sorted((folder / "pages/runs/1").glob("q4_k.[hj]*"))
    found = json.loads(report.read_text())
    history = (folder / "history.sqlite").stat().st_size
    checked = ["--report", report, "--even-if-failed", "--dry-run"]
    card = watched(BIN / "mimo-publish", folder / "gguf", "--to", "someone/Some-GGUF", *checked).wall
    size = sum(file.stat().st_size for file in files)
    memory = found["checks"][0]["memory"]
    rows = [
        ("a nightly run, one target", f"{nightly:.0f} s", f"{nightly / cat.wall:.1f} × `cat` of the files"),
        ("its files", f"{size / 1e9:.2f} GB", "mapped"),
        ("its peak RSS", f"{found['memory']['peak_rss'] / 1e9:.2f} GB", "with pages of the mapped files"),
        ("graphs and KV cache", f"{memory['working'] / 1e9:.2f} GB", "as the card has it, beside the files"),
        ("kept of the run", f"{(page.stat().st_size + report.stat().st_size) / 1e3:.0f} kB", "page and report"),
        ("history", f"{history / 1e3:.0f} kB", "after one run"),
        ("`mimo-publish --report --dry-run`", f"{card:.1f} s", f"{card / cat.wall:.1f} × `cat`: the hash of each file"),
    ]
    n_shards = len(shards(lm, tokenizer))
    return [
        f"Measured on {machine()} A pair in Q4_K of {n_shards} shards, 11 s of audio, the longest response.",
        "",
        "| | | |",
        "| --- | --- | --- |",
        *(f"| {name} | {value} | {note} |" for name, value, note in rows),
    ]


if __name__ == "__main__":
    main()
