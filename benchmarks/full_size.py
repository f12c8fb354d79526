"""`make bench`, last part: conversions of the real shapes, measured beside `cat`, `cp` and ggml's own quantizer.

Everything is made in a temporary folder and deleted; at full size that takes about 50 GB of disk and a quarter of an
hour. The tables go into docs/benchmarks.md.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click
import numpy as np

from benchmarks.document import insert_lines
from benchmarks.generate import generate, pair, pair_options
from benchmarks.machine import machine
from mimo_convert.threads import default_threads
from quantize.kernels import quantize_rows
from quantize.types import TYPES
from tests.synthetic import REAL_VOCAB_SIZE, write_audio_tokenizer, write_speech_lm

SAMPLE_WEIGHTS = 1 << 26  # quantized on one thread, to know ggml's speed here and now


@dataclass(frozen=True)
class Measured:
    """One command: seconds of wall, user and system time; bytes read from and written to the disk, and resident."""

    wall: float
    user: float
    system: float
    read: int
    written: int
    peak_rss: int = 0
    quantizer: dict[str, tuple[float, float]] = field(default_factory=dict)  # type → seconds over all threads, weights

    @property
    def quantizer_seconds(self) -> float:
        return sum(seconds for seconds, _ in self.quantizer.values())


def run(command: Sequence[str | Path], **options: object) -> Measured:
    """Run a command to its end, with what the system counted for it. Raises CalledProcessError if it failed."""
    begin = time.perf_counter()
    process = subprocess.Popen(list(map(str, command)), **options)  # type: ignore[call-overload]
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begin
    if status:
        raise subprocess.CalledProcessError(status, process.args)
    return Measured(wall, usage.ru_utime, usage.ru_stime, usage.ru_inblock * 512, usage.ru_oublock * 512)


def forget(files: Sequence[Path]) -> None:
    """Let the system drop the files from its page cache, so that whoever reads them next reads the disk."""
    for file in files:
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def convert(lm: Path, tokenizer: Path, outtypes: Sequence[str], folder: Path, threads: int, *more: str) -> Measured:
    """A conversion of the pair, from a cold page cache; the files are deleted."""
    forget(shards(lm, tokenizer))
    report, out = folder / "report.json", folder / "out"
    types = [word for name in outtypes for word in ("--outtype", name)]
    command = [sys.executable, "-m", "benchmarks.timed", report, lm, "--tokenizer", tokenizer, "--no-check"]
    found = run([*command, "--threads", str(threads), "--out", out, *types, *more], stdout=subprocess.DEVNULL)
    shutil.rmtree(out)
    return shown(" ".join([*outtypes, *more]), Measured(**(vars(found) | json.loads(report.read_text()))))


def cat_cold(files: Sequence[Path]) -> Measured:
    forget(files)
    return shown("cat", run(["cat", *files], stdout=subprocess.DEVNULL))


def cp_cold(files: Sequence[Path], folder: Path) -> Measured:
    forget(files)
    (folder / "copy").mkdir()
    found = run(["cp", *files, folder / "copy"])
    shutil.rmtree(folder / "copy")
    return shown("cp", found)


def shown(name: str, m: Measured) -> Measured:
    """The same, printed: whoever ends a run early has what was measured."""
    click.echo(f"{name}: wall {m.wall:.1f} s, user {m.user:.1f} s, system {m.system:.1f} s", err=True)
    return m


def shards(*folders: Path) -> list[Path]:
    return [file for folder in folders for file in sorted(folder.glob("*.safetensors"))]


def one_thread_rates(types: Sequence[str]) -> dict[str, float]:
    """Weights a second that ggml's quantizer makes on one thread."""
    rows = np.random.default_rng(0).standard_normal((SAMPLE_WEIGHTS // 4096, 4096), np.float32)
    rates = {}
    for name in types:
        begin = time.perf_counter()
        for i in range(0, len(rows), 128):
            quantize_rows(rows[i : i + 128], TYPES[name])
        rates[name] = rows.size / (time.perf_counter() - begin)
    return rates


def row(name: str, m: Measured, cat: Measured, cp: Measured, rates: dict[str, float], threads: int) -> str:
    one_thread = sum(weights / rates[type] for type, (_, weights) in m.quantizer.items() if type in rates)
    cells = [
        f"{m.wall:.1f} s", f"{m.user:.1f} s", f"{m.system:.1f} s", f"{m.peak_rss / 1e6:.0f} MB" if m.peak_rss else "",
        f"{m.read / 1e9:.2f} GB", f"{m.written / 1e9:.2f} GB", f"{(m.read + m.written) / m.wall / 1e9:.2f}",
        f"{m.wall / cat.wall:.2f}", f"{m.wall / cp.wall:.2f}", f"{m.wall / one_thread:.2f}" if one_thread else "",
        f"{m.quantizer_seconds / m.wall / threads:.1%}" if m.quantizer else "",
    ]  # fmt: skip
    return f"| {name} | {' | '.join(cells)} |"


HEAD = "| | wall | user | system | peak RSS | read | written | GB/s | × cat | × cp | × ggml | in the quantizer |"


@click.command()
@pair_options
def main(size: str, checkpoint: Path | None, folder: Path | None) -> None:
    """Measure, print, and put the tables into docs/benchmarks.md."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        lines = measure(Path(name), size, checkpoint)
    insert_lines("full size", lines)


def measure(folder: Path, size: str, checkpoint: Path | None) -> list[str]:
    """Lines of Markdown: the machine, the table, and each target with what was found."""
    threads = default_threads()
    lm, tokenizer = pair(checkpoint, folder / "checkpoint", size)
    files = shards(lm, tokenizer)
    nbytes = sum(file.stat().st_size for file in files)

    # neighbours come and go: three times one after the other, and the middle one of each
    wanted = [["f16"], ["q8_0"], ["q4_k"], ["f16", "q8_0", "q4_k"]]
    rounds = [
        (
            cat_cold(files),
            cp_cold(files, folder),
            *(convert(lm, tokenizer, types, folder, threads) for types in wanted),
        )
        for _ in range(3)
    ]
    cat, cp, *converted = (sorted(found, key=lambda m: m.wall)[1] for found in zip(*rounds, strict=True))
    runs = {" + ".join(types): found for types, found in zip(wanted, converted, strict=True)}
    by_ggml = convert(lm, tokenizer, ["q4_k"], folder, threads, "--quantizer", "ggml")
    if not checkpoint:
        shutil.rmtree(folder / "checkpoint")
    quarter = convert(*generate(folder / "quarter", "quarter"), ["f16"], folder, threads)
    shutil.rmtree(folder / "quarter")
    thin = write_speech_lm(folder / "thin", vocab_size=REAL_VOCAB_SIZE)
    every = convert(thin, write_audio_tokenizer(folder / "thin-tokenizer"), list(TYPES), folder, threads)

    f16, q8_0, q4_k, three = runs.values()
    everything = {"cat": cat, "cp": cp, **runs, "q4_k, `--quantizer ggml`": by_ggml}
    rates = one_thread_rates(sorted({type for m in runs.values() for type in m.quantizer} - {"f32"}))
    most = max(m.peak_rss for m in (*runs.values(), by_ggml, every))
    separate = f16.wall + q8_0.wall + q4_k.wall
    targets = [
        ("f16: at most 1.5 × `cp`", f"{f16.wall / cp.wall:.2f} ×"),
        ("q8_0: at most 1.5 × `cp`", f"{q8_0.wall / cp.wall:.2f} ×"),
        ("q4_k: at most 3 × `cp`", f"{q4_k.wall / cp.wall:.2f} ×"),
        (
            f"q4_k by ggml: at least 95 % of the {threads} cores' time in its quantizer",
            f"{by_ggml.quantizer_seconds / by_ggml.wall / threads:.1%} of wall time × cores, "
            f"{by_ggml.quantizer_seconds / (by_ggml.user + by_ggml.system):.1%} of the processor time it got",
        ),
        (
            "three files in one run: one read of the input, and less than three runs",
            f"{three.read / 1e9:.2f} GB read of {nbytes / 1e9:.2f}; {three.wall:.1f} s of {separate:.1f}",
        ),
        (
            "peak RSS at most 1.0 GB for any set of types",
            f"{most / 1e6:.0f} MB at most; {every.peak_rss / 1e6:.0f} MB with all {len(TYPES)} types at once, "
            "on narrow layers and the real vocabulary",
        ),
        (
            "peak RSS: under 5 % more for all layers than for a quarter of them (f16)",
            f"{quarter.peak_rss / 1e6:.1f} → {f16.peak_rss / 1e6:.1f} MB, {f16.peak_rss / quarter.peak_rss - 1:+.1%}",
        ),
    ]
    speeds = ", ".join(f"{name} {rate / 1e6:.0f}" for name, rate in rates.items())
    return [
        f"Measured on {machine()} ggml's quantizer on one thread, in the same run: {speeds} million weights a second. "
        f"Input: {len(files)} shards, {nbytes:,} bytes of bf16.",
        "",
        HEAD,
        "|" + " --- |" * (HEAD.count("|") - 1),
        *(row(name, found, cat, cp, rates, threads) for name, found in everything.items()),
        "",
        "| asked | measured |",
        "| --- | --- |",
        *(f"| {asked} | {found} |" for asked, found in targets),
    ]


if __name__ == "__main__":
    main()
