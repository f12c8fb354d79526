"""`python -m benchmarks.versions --old BIN`: this version beside an older one, command by command, in turn.

BIN is the `bin` folder of an environment with the older version (git worktree add /tmp/old c3945bd; python -m venv
/tmp/old-venv; /tmp/old-venv/bin/pip install '/tmp/old[reference]'). The table goes into docs/benchmarks.md.
"""

import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import click

from benchmarks.document import BENCHMARKS, insert_lines
from benchmarks.full_size import forget, shards
from benchmarks.generate import pair, pair_options
from benchmarks.machine import machine
from benchmarks.validation import watched
from quantize.types import TYPES
from tests.synthetic import REAL_VOCAB_SIZE, write_audio_tokenizer, write_speech_lm

NEW = Path(sys.executable).parent
ROUNDS = 3


class Ran(NamedTuple):
    """Seconds and bytes of peak RSS of a command."""

    seconds: float
    peak: int


def ran(folder: Path, command: Sequence[object], cold: Sequence[Path]) -> Ran:
    """Run the command of the version in `folder`, from a cold page cache. Raises CalledProcessError, but not for a
    failed gate: weights are random."""
    forget(cold)
    name, *arguments = command
    found = watched(folder / str(name), *arguments)
    return Ran(found.wall, found.peak_rss)


def row(what: str, old: Path, command: Sequence[object], cold: Sequence[Path]) -> str:
    """A line of the table: both versions, in turn."""
    rounds = [(ran(old, command, cold), ran(NEW, command, cold)) for _ in range(ROUNDS)]
    ratio = median(new.seconds / before.seconds for before, new in rounds)
    before, new = (tuple(map(median, zip(*runs, strict=True))) for runs in zip(*rounds, strict=True))
    cells = (
        f"{before[0]:.1f} s",
        f"{new[0]:.1f} s",
        f"{ratio:.2f}",
        f"{before[1] / 1e6:.0f} MB",
        f"{new[1] / 1e6:.0f} MB",
    )
    line = f"| {what} | {' | '.join(cells)} |"
    click.echo(line, err=True)
    return line


class Job(NamedTuple):
    """A row to measure: a command, and the files that are not to be in the page cache before."""

    what: str
    command: Sequence[object]
    cold: Sequence[Path] = ()


def jobs(folder: Path, size: str, checkpoint: Path | None) -> list[Job]:
    """Every row of the table, on files that are made in `folder`."""
    lm, tokenizer = pair(checkpoint, folder / "checkpoint", size)
    thin, thin_tokenizer = write_speech_lm(folder / "thin", vocab_size=REAL_VOCAB_SIZE), folder / "thin-tokenizer"
    write_audio_tokenizer(thin_tokenizer)
    out, stored, made = folder / "out", folder / "reference.safetensors", folder / "made"

    def convert(types: Sequence[str], source: Path, beside: Path, to: Path) -> list[object]:
        options = [word for name in types for word in ("--outtype", name)] + ["--tokenizer-outtype", types[0]]
        return ["mimo-convert", source, "--tokenizer", beside, *options, "--no-check", "--force", "--out", to]

    reference = ["mimo-check", "reference", lm, "--tokenizer", tokenizer, "-o", stored]
    ran(NEW, convert(["f16", "q4_k"], lm, tokenizer, made), [])
    ran(NEW, reference, [])
    every = convert(list(TYPES), thin, thin_tokenizer, out)
    found = [
        Job(f"convert to {', '.join(types)}", convert(types, lm, tokenizer, out), shards(lm, tokenizer))
        for types in (["q8_0"], ["f16", "q8_0", "q4_k"])
    ]
    found.append(Job(f"all {len(TYPES)} types, narrow layers, the real vocabulary", every))
    found.append(Job("reference in float32", reference, shards(lm, tokenizer)))
    beside = ["--tokenizer", made / "mimo-tokenizer-f16.gguf"]
    for name in ("f16", "q4_k"):
        file = made / f"mimo-asr-{name}.gguf"
        check, few = ["mimo-check", file], ["--max-new-tokens", "24"]
        found += [
            Job(f"{name}, static", [*check, "--static"], [file]),
            Job(f"{name}, with its checkpoint", [*check, "--checkpoint", lm], [*shards(lm), file]),
            Job(f"{name}, with the reference", [*check, *beside, "--reference", stored, *few], [file]),
            Job(f"{name}, transcript alone", [*check, *beside, *few], [file]),
        ]
    return found


def lines(folder: Path, old: Path, size: str, checkpoint: Path | None, only: str) -> list[str]:
    """The machine and the table, whose rows in which `only` is not found are those of the document."""
    known = dict(re.findall(r"(?m)^\| ([^|]+) (\| [\d.]+ s \|.*)$", BENCHMARKS.read_text(encoding="utf-8")))
    rows = []
    for what, command, cold in jobs(folder, size, checkpoint):
        if re.search(only, what):
            rows.append(row(what, old, command, cold))
        elif what in known:
            rows.append(f"| {what} {known[what]}")
    return [
        f"Measured on {machine()} Medians of {ROUNDS}; the ratio is the median of theirs. Size: {size}.",
        "",
        "| | older | this | this / older | older, peak RSS | this, peak RSS |",
        "| --- | --- | --- | --- | --- | --- |",
        *rows,
    ]


@click.command()
@click.option("--old", type=click.Path(path_type=Path), required=True, help="`bin` of the older version's environment.")
@click.option("--only", default="", metavar="REGEX", help="Measure rows in whose name REGEX is found; the others stay.")
@pair_options
def main(old: Path, only: str, size: str, checkpoint: Path | None, folder: Path | None) -> None:
    """Measure, print, and put the table into docs/benchmarks.md."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        insert_lines("versions", lines(Path(name), old, size, checkpoint, only))


if __name__ == "__main__":
    main()
