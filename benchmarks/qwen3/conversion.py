"""What a conversion of the real size costs beside `cp` of its shards, and an adapter beside none."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import median

from benchmarks.full_size import Measured, cp_cold, forget, run, shards, shown
from benchmarks.machine import machine
from mimo_convert.threads import default_threads

from .checkpoint import adapter_in, checkpoint_in, size_of

ROUNDS = 3
PEER = "46 s and 4.0 GB of memory to F16, and 131 s more to Q4_K"
ASKED = {"q4_k": ("cp", 1.2, 300), "q4_k with the adapter": ("q4_k", 1.5, None)}  # at most × which, and MB


def lines(folder: Path) -> list[str]:
    """The machine, the table, and what was asked."""
    checkpoint, adapter = checkpoint_in(folder), adapter_in(folder)
    # neighbours come and go: three times one after the other, ratios from each round
    rounds = [
        {
            "cp": cp_cold(shards(checkpoint), folder),
            "q4_k": convert(checkpoint, folder, "--outtype", "q4_k"),
            "q4_k with the adapter": convert(checkpoint, folder, "--outtype", "q4_k", "--adapter", adapter),
        }
        for _ in range(ROUNDS)
    ]
    f16 = convert(checkpoint, folder, "--outtype", "f16")
    return [
        f"Measured on {machine()} Medians of {ROUNDS} rounds. Input: {size_of(checkpoint) / 1e9:.2f} GB in "
        f"{len(shards(checkpoint))} shards; the adapter: 539 pairs, {size_of(adapter) / 1e6:.0f} MB. A C++ runtime's "
        f"converter, as measured by others beside other jobs: {PEER}; ours, once, {f16.wall:.1f} s and "
        f"{f16.peak_rss / 1e6:.0f} MB to F16.",
        "",
        "| | wall | user | system | in the quantizers | peak RSS | read | written | × cp | × q4_k |",
        "|" + " --- |" * 10,
        *(row(name, rounds) for name in rounds[0]),
        "",
        "| asked | measured |",
        "| --- | --- |",
        *(f"| {asked} | {found} |" for asked, found in targets(rounds)),
    ]


def convert(checkpoint: Path, folder: Path, *options: str | Path) -> Measured:
    """A conversion from a cold page cache; the file is deleted."""
    forget(shards(checkpoint, *(Path(option) for option in options if Path(option).is_dir())))
    report, out = folder / "report.json", folder / "out"
    command = [sys.executable, "-m", "benchmarks.timed", report, checkpoint, "--no-check", "--out", out]
    found = run([*command, "--threads", str(default_threads()), *options], stdout=subprocess.DEVNULL)
    shutil.rmtree(out)
    return shown(" ".join(map(str, options)), Measured(**(vars(found) | json.loads(report.read_text()))))


def ratio(rounds: list[dict[str, Measured]], name: str, other: str) -> float:
    """How many times as long as another one of the same round: the median."""
    return median(found[name].wall / found[other].wall for found in rounds)


def row(name: str, rounds: list[dict[str, Measured]]) -> str:
    """Medians of a command, each of its own."""
    parts = "wall", "user", "system", "quantizer_seconds", "read", "written"
    wall, user, system, quantizers, read, written = (
        median(getattr(found[name], part) for found in rounds) for part in parts
    )
    most = max(found[name].peak_rss for found in rounds)
    cells = [
        f"{wall:.1f} s", f"{user:.1f} s", f"{system:.1f} s", f"{quantizers:.1f} s" if quantizers else "",
        f"{most / 1e6:.0f} MB" if most else "",
        f"{read / 1e9:.2f} GB", f"{written / 1e9:.2f} GB",
        *(f"{ratio(rounds, name, other):.2f}" for other in ("cp", "q4_k")),
    ]  # fmt: skip
    return f"| {name} | {' | '.join(cells)} |"


def targets(rounds: list[dict[str, Measured]]) -> list[tuple[str, str]]:
    """What was asked of each, and what was found."""
    found = []
    for name, (other, times, megabytes) in ASKED.items():
        found.append((f"{name}: at most {times:g} × {other}", f"{ratio(rounds, name, other):.2f} ×"))
        if megabytes:
            most = max(one[name].peak_rss for one in rounds)
            found.append((f"{name}: peak RSS at most {megabytes} MB", f"{most / 1e6:.0f} MB"))
    return found
