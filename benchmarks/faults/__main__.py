"""`make bench`, last part: what conversions leave that are killed, that the disk fails, and that meet another.

Processes as a user starts them, and real signals; calls of the system fail by a preloaded library (faults.c, which
takes a C compiler). Everything is made in a temporary folder and deleted: 3 GB of disk, some minutes. The tables go
into docs/benchmarks.md; what should not be is printed, and the exit status is then 1.
"""

import dataclasses
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks.document import insert_lines
from benchmarks.faults import failing, killed, overlapping
from benchmarks.faults.undisturbed import Command
from benchmarks.machine import machine
from tests.synthetic import write_audio_tokenizer, write_speech_lm

LM = {"hidden_size": 1024, "num_hidden_layers": 3, "vocab_size": 6000, "intermediate_size": 3072, "n_shards": 2}
SMALL_LM = {"hidden_size": 512, "num_hidden_layers": 3, "vocab_size": 6000, "intermediate_size": 1536, "n_shards": 2}
TYPES = ["f16", "q8_0", "q4_k", "q2_k"]
KILLS, KILLS_OF_QUANTIZE, PAIRS = 200, 40, 6


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), help="Where to make everything.  [default: a temporary one]")
@click.option("--seed", default=0, show_default=True, help="Of all that is random.")
@click.option("--kills", default=KILLS, show_default=True, help="Of mimo-convert.")
def main(folder: Path | None, seed: int, kills: int) -> None:
    """Measure, print, and put the tables into docs/benchmarks.md."""
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(dir=folder) as name:
        place = Path(name).resolve()
        # code is compiled once, not by each of a thousand processes
        environment = {"PYTHONPYCACHEPREFIX": str(place / "compiled"), "PYTHONDONTWRITEBYTECODE": ""}
        of_kills = list(kill(place / "kills", environment, seed, kills))
        of_faults = failing.fail_everywhere(small(place / "faults", environment), place / "faults", seed)
        of_pairs = list(meet(place / "pairs", environment, seed))
    minutes = (time.monotonic() - begin) / 60
    insert_lines("faults", [
        f"Measured on {machine()} Took {minutes:.0f} minutes.", "",
        *kill_rows(of_kills), "", *fault_rows(of_faults), "", *pair_rows(of_pairs),
    ])  # fmt: skip
    problems = [text for tally in (*of_kills, *of_faults, *of_pairs) for text in tally.problems]
    print(*problems, sep="\n", file=sys.stderr)
    sys.exit(bool(problems))


def conversion(
    lm: Path, tokenizer: Path, environment: dict[str, str], *types: str, of_tokenizer: str = "f16"
) -> Command:
    words = [word for type in types for word in ("--outtype", type)]
    words += ["--tokenizer-outtype", of_tokenizer, "--no-check", "--out", "OUT"]
    return Command("mimo-convert", [lm, "--tokenizer", tokenizer, *words], environment)


def small(folder: Path, environment: dict[str, str]) -> Command:
    """A conversion to two types that flushes a few times, on one thread, so that its calls come in nearly one order."""
    lm = write_speech_lm(folder / "lm", **SMALL_LM)
    command = conversion(lm, write_audio_tokenizer(folder / "tokenizer"), environment, "f16", "q4_k")
    command = dataclasses.replace(command, arguments=[*command.arguments, "--threads", "1"])
    return command.undisturbed(folder / "whole")


def kill(folder: Path, environment: dict[str, str], seed: int, kills: int) -> Iterator[killed.Tally]:
    """Kills of mimo-convert, and of mimo-quantize on one of its files."""
    lm = write_speech_lm(folder / "lm", **LM)
    tokenizer = write_audio_tokenizer(folder / "tokenizer")
    command = conversion(lm, tokenizer, environment, *TYPES).undisturbed(folder / "whole")
    yield killed.kill_many(command, kills, folder, seed)
    f16 = folder / "whole" / "mimo-asr-f16.gguf"
    arguments = [f16, "OUT/quantized.gguf", "--fuse-qkv"]  # large enough to be flushed a few times
    command = Command("mimo-quantize", arguments, environment).undisturbed(folder / "whole quantized")
    yield killed.kill_many(command, KILLS_OF_QUANTIZE * kills // KILLS, folder, seed)


def meet(folder: Path, environment: dict[str, str], seed: int) -> Iterator[overlapping.Tally]:
    """Pairs of runs with all, some, or only the names of their files in common."""
    lm, other = (write_speech_lm(folder / f"lm-{i}", seed=i, **SMALL_LM) for i in range(2))
    tokenizer = write_audio_tokenizer(folder / "tokenizer")
    f16, q8_0, of_other = (
        conversion(model, tokenizer, environment, type).undisturbed(folder / f"{model.name}-{type}")
        for model, type in ((lm, "f16"), (lm, "q8_0"), (other, "f16"))
    )
    pairs = [
        overlapping.Pair("the same command", f16, f16),
        overlapping.Pair("the same command, `--force`, over older files", f16, f16, force=True),
        overlapping.Pair("another type, the same tokenizer file", f16, q8_0),
        overlapping.Pair("another type, the same tokenizer file, `--force`", f16, q8_0, force=True),
        overlapping.Pair("another model, the same names, `--force`", f16, of_other, force=True),
    ]
    for i, pair in enumerate(pairs):
        yield overlapping.overlap(pair, PAIRS, folder, seed + i)


def table(*rows: Sequence[Any]) -> list[str]:
    """Lines of Markdown; the first row is the head."""
    head, *others = ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return [head, "| --- " * len(rows[0]) + "|", *others]


def kill_rows(tallies: Sequence[killed.Tally]) -> list[str]:
    head = (
        "SIGKILL", "kills while it wrote", "with chunks in the journals", "between the names", "conversions",
        "runs that resumed", "incomplete under a final name", "byte-identical in the end",
    )  # fmt: skip
    return table(head, *(
        (f"`{t.command}`", t.kills, t.with_chunks, t.while_naming, t.conversions, t.resumed, t.incomplete,
         f"{t.identical} of {t.conversions}")
        for t in tallies
    ))  # fmt: skip


def fault_rows(tallies: Sequence[failing.Tally]) -> list[str]:
    head = (
        "fault", "at", "of", "places", "as asked", "incomplete under a final name", "rerun byte-identical",
    )  # fmt: skip
    return table(head, *(
        (t.wanted.kind, ", ".join(t.wanted.calls), t.wanted.what, t.places, t.as_asked, t.incomplete, t.identical)
        for t in tallies
    ))  # fmt: skip


def pair_rows(tallies: Sequence[overlapping.Tally]) -> list[str]:
    head = ("two at once", "pairs", "refused: another is writing", "one after the other", "right in the end")
    return table(head, *((t.what, t.pairs, t.refused, t.in_turn, t.right) for t in tallies))


if __name__ == "__main__":
    main()
