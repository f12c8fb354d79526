"""The conversion of MiMo-Audio-7B with the whole audio tokenizer to Q4_K, beside `cp` of the same shards:
`python -m benchmarks.mimo_audio.conversion --size full`.

Everything is made in a temporary folder and deleted; at full size that takes 46 GB of disk. The table goes into
docs/benchmarks.md.
"""

import tempfile
from pathlib import Path

import click

from benchmarks.document import insert_lines
from benchmarks.full_size import HEAD, cat_cold, convert, cp_cold, row, shards
from benchmarks.generate import generate_speaking, size_option
from benchmarks.machine import machine
from mimo_convert.threads import default_threads

ROUNDS = 3  # one after the other, since neighbours come and go; the middle one of each counts
MOST, MOST_RSS = 1.2, 300e6  # what was asked: times `cp`, and bytes


@click.command()
@size_option
@click.option("--checkpoint", type=click.Path(path_type=Path), help="A pair that benchmarks.generate --speaks made.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where to make everything.  [default: a temporary one]")
def main(size: str, checkpoint: Path | None, folder: Path | None) -> None:
    """Measure, print, and put the table into docs/benchmarks.md."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        lines = measure(Path(name), size, checkpoint)
    insert_lines("mimo-audio", lines)


def measure(folder: Path, size: str, checkpoint: Path | None) -> list[str]:
    """Lines of Markdown: the machine, the table, and each target with what was found."""
    threads = default_threads()
    made = (checkpoint / "MiMo-Audio-7B-Instruct", checkpoint / "tokenizer") if checkpoint else None
    lm, tokenizer = made or generate_speaking(folder / "checkpoint", size)
    files = shards(lm, tokenizer)
    rounds = [
        (cat_cold(files), cp_cold(files, folder), convert(lm, tokenizer, ["q4_k"], folder, threads))
        for _ in range(ROUNDS)
    ]
    cat, cp, q4_k = (sorted(found, key=lambda m: m.wall)[ROUNDS // 2] for found in zip(*rounds, strict=True))
    ratios = ", ".join(f"{to.wall / by.wall:.2f}" for _, by, to in rounds)
    nbytes = sum(file.stat().st_size for file in files)
    return [
        f"Measured on {machine()} Input: {len(files)} shards, {nbytes:,} bytes of bf16 and, in the audio tokenizer, "
        f"f32 (`--size {size}`); {ROUNDS} rounds, the middle one of each.",
        "",
        HEAD,
        "|" + " --- |" * (HEAD.count("|") - 1),
        *(row(name, m, cat, cp, {}, threads) for name, m in (("cat", cat), ("cp", cp), ("q4_k", q4_k))),
        "",
        "| asked | measured |",
        "| --- | --- |",
        f"| at most {MOST} × `cp` | {q4_k.wall / cp.wall:.2f} × (rounds: {ratios}) |",
        f"| peak RSS at most {MOST_RSS / 1e6:.0f} MB | {q4_k.peak_rss / 1e6:.0f} MB |",
    ]


if __name__ == "__main__":
    main()
