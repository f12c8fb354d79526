"""`make bench`, last part: what proving files of the real size costs, beside `cat`, and how fast the harness is.

Everything is made in a temporary folder and deleted: about 40 GB of disk, 20 minutes. The tables go into
docs/benchmarks.md.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.document import insert_lines
from benchmarks.full_size import cat_cold, forget, shards
from benchmarks.generate import pair, pair_options
from benchmarks.machine import machine, machine_kind
from runtime_check.audio.jfk import JFK

POLL_SECONDS = 0.02
CONVERT, CHECK = (Path(sys.executable).with_name(name) for name in ("mimo-convert", "mimo-check"))
NEW_TOKENS = "24"  # random weights never come to an end
# A peer's C++ runtime on the same ggml and machine: seconds for 11 s of audio, a prompt of 97 groups, and a step.
PEER = {"tokenize": 5.2, "prefill": 7.4, "step": 0.1179}
WAYS = "mapped", "repacked", "own"  # ggml's products twice, and the own ones


@dataclass(frozen=True)
class Watched:
    """A command: seconds, most resident memory with mapped pages and of its own, in bytes, and what it printed."""

    wall: float
    peak_rss: int
    own: int
    output: str


def watched(*command: object) -> Watched:
    """Run a command to its end. Raises CalledProcessError if it was used wrongly; a failed gate is a result."""
    begin = time.perf_counter()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True, env=environment)
    most = {"VmHWM": 0, "RssAnon": 0}

    def poll() -> None:
        while process.poll() is None:
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
            except OSError:
                return
            for name in most:
                found = re.search(rf"{name}:\s+(\d+) kB", status)
                most[name] = max(most[name], int(found[1]) * 1024 if found else 0)
            time.sleep(POLL_SECONDS)

    thread = threading.Thread(target=poll)
    thread.start()
    output = process.communicate()[0]
    wall = time.perf_counter() - begin
    thread.join()
    if process.returncode not in (0, 1):
        raise subprocess.CalledProcessError(process.returncode, process.args)
    return Watched(wall, most["VmHWM"], most["RssAnon"], output)


@click.command()
@pair_options
def main(size: str, checkpoint: Path | None, folder: Path | None) -> None:
    """Measure, print, and put the tables into docs/benchmarks.md."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        lm, tokenizer = pair(checkpoint, Path(name) / "checkpoint", size)
        out = Path(name) / "gguf"
        for outtype in ("f16", "q4_k"):
            types = ["--outtype", outtype, "--fuse-qkv", "--no-check", "--force", "--out", out]
            watched(CONVERT, lm, "--tokenizer", tokenizer, *types)
        insert_lines("validation", validation_lines(lm, tokenizer, out, Path(name)))
        insert_lines(f"harness {machine_kind()}", harness_lines(out, Path(name)))


def validation_lines(lm: Path, tokenizer: Path, out: Path, folder: Path) -> list[str]:
    """The machine, and a table of the cost of each way to validate a file."""
    files = {name: out / f"mimo-asr-{name}.gguf" for name in ("f16", "q4_k")}
    rows = []

    def measure(name: str, *command: object, cold: Sequence[Path] = ()) -> None:
        forget(cold)
        found = watched(*command)
        cat = cat_cold(cold).wall if cold else None
        verdict = re.findall(r"^(PASS|FAIL|NOT COMPARED)", found.output, re.MULTILINE)
        phases = sum(seconds_of_phases(found.output))
        beside_phases = f"{found.wall / phases:.2f} ×" if phases else ""
        cells = [
            f"{found.wall:.1f} s", beside_phases, f"{found.peak_rss / 1e9:.2f} GB", f"{found.own / 1e9:.2f} GB",
            f"{found.wall / cat:.2f} × {cat:.1f} s" if cat else "", ", ".join(dict.fromkeys(verdict)),
        ]  # fmt: skip
        rows.append(f"| {name} | {' | '.join(cells)} |")
        click.echo(rows[-1], err=True)

    checked = CHECK, "reference", lm, "--tokenizer", tokenizer
    for dtype in ("f32", "bf16"):
        stored = folder / f"{dtype}.safetensors"
        measure(f"reference, {dtype}", *checked, "--reference-dtype", dtype, "-o", stored, cold=shards(lm, tokenizer))
    for products in ("auto", "ggml"):
        measure(f"`q4_k` alone, {products} products", CHECK, files["q4_k"], "--audio", JFK, "--products", products,
                "--max-new-tokens", NEW_TOKENS)  # fmt: skip
    reference = "--reference", folder / "f32.safetensors", "--max-new-tokens", NEW_TOKENS
    for name, file in files.items():
        for products in ("auto", "ggml"):
            measure(f"`{name}` against the f32 reference, {products} products", CHECK, file, *reference,
                    "--products", products)  # fmt: skip
    measure("`f16` against the bf16 reference", CHECK, files["f16"], "--reference",
            folder / "bf16.safetensors", "--max-new-tokens", NEW_TOKENS)  # fmt: skip
    for name, file in files.items():
        measure(f"`{name}`, --static", CHECK, file, "--static", cold=[file])
    for name, file in files.items():
        both = [*shards(lm), file]
        measure(f"`{name}`, --checkpoint", CHECK, file, "--checkpoint", lm, cold=both)
    against = "--against", files["f16"], "--max-new-tokens", NEW_TOKENS
    measure("`q4_k`, --against `f16`", CHECK, files["q4_k"], *against)
    return [
        f"Measured on {machine()}",
        "",
        "| | wall | × its phases | peak RSS | own memory | × cat of what it reads | verdict |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *rows,
    ]


def seconds_of_phases(output: str) -> list[float]:
    """The seconds of each phase that a check prints; of decoding, those of all NEW_TOKENS."""
    line = next((line for line in output.splitlines() if line.startswith("load ")), "")
    seconds = [float(found) for found in re.findall(r"([\d.]+) s\b", line)]
    return seconds + [float(found) / 1000 * int(NEW_TOKENS) for found in re.findall(r"([\d.]+) ms per token", line)]


def harness_lines(out: Path, folder: Path) -> list[str]:
    """The phases of a run with mapped and with repacked weights, beside a peer's and the memory's bandwidth."""
    report = folder / "harness.json"
    watched(
        sys.executable, "-m", "benchmarks.harness", out / "mimo-asr-q4_k.gguf", out / "mimo-tokenizer-q8_0.gguf", report
    )
    found = json.loads(report.read_text())
    rows = []
    for phase, peer in PEER.items():
        mapped, repacked, own = (found[f"{way} {phase}"] for way in WAYS)
        seconds = " | ".join(f"{each:.4g} s" for each in (peer, mapped, repacked, own))
        rows.append(f"| {phase} | {seconds} | {mapped / own:.2f} × | {repacked / own:.2f} × |")
    once = ", ".join(f"{way} {found[way + ' step by reading once']:.2f} ×" for way in WAYS)
    return [
        f"Measured on {machine()} Q4_K; medians. A step reads {found['read_by_step'] / 1e9:.2f} GB of weights, and "
        f"takes, beside reading so much once at the memory's bandwidth just before: {once}, the last at "
        f"{found['own bandwidth'] / 1e9:.1f} GB/s. Loading takes "
        f"{found['load_s']:.2f} s, repacking {found['repacked_bytes'] / 1e9:.2f} GB {found['repack_s']:.1f} s.",
        "",
        f"| | peer | {' | '.join(WAYS)} | mapped / own | repacked / own |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *rows,
    ]


if __name__ == "__main__":
    main()
