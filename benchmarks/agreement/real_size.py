"""Agreement at the real size: `python -m benchmarks.agreement.real_size` → docs/agreement.md.

Qwen3-ASR 1.7B with random weights in Q4_K, on JFK in as many conditions as there are to be clips: what the command
takes beyond the phases of its runs, and what a step of several clips costs (steps.py). Random weights end no response:
each has as many tokens as JFK's.
"""

import json
import sys
import tempfile
from pathlib import Path

import click

from benchmarks.document import insert_lines
from benchmarks.machine import machine
from benchmarks.qwen3.checkpoint import checkpoint_in
from benchmarks.qwen3.running import POSITIONS
from benchmarks.validation import CONVERT, watched
from mimo_agreement.records import ALL_CONDITIONS
from runtime_check.audio.jfk import JFK

from .__main__ import DOCUMENT, computing, timed
from .steps import CLIPS

TOKENS = 32  # of a response
ASKED, ASKED_BEYOND = 1.2, 0.03


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), help="Where a checkpoint is or is made, and kept.")
@click.option("--clips", default=100, show_default=True)
def main(folder: Path | None, clips: int) -> None:
    """Measure, print, and put the lines into the document."""
    with tempfile.TemporaryDirectory() as name:
        insert_lines("real size", measure(folder or Path(name), Path(name), clips), DOCUMENT)


def measure(folder: Path, temporary: Path, clips: int) -> list[str]:
    """Lines of Markdown: the machine, and what was found beside what was asked."""
    out, report = temporary / "gguf", temporary / "steps.json"
    watched(CONVERT, checkpoint_in(folder), "--outtype", "q4_k", "--no-check", "--quiet", "--out", out)
    file = next(out.glob("*-q4_k.gguf"))
    watched(sys.executable, "-m", "benchmarks.agreement.steps", file, report)
    step = json.loads(report.read_text())
    conditions = [f"noise:white:{snr / 4:g}dB" for snr in range(clips)]
    wall, found = timed([file], JFK, temporary, conditions, "--max-new-tokens", TOKENS)
    seconds, [row] = computing(found), [row for row in found.rows if row.condition == ALL_CONDITIONS]
    steps = ", ".join(f"{step[f'step of {n}'] * 1e3:.0f} ms of {n}" for n in CLIPS)
    return [
        f"Qwen3-ASR 1.7B with random weights, Q4_K ({file.stat().st_size / 1e9:.2f} GB), JFK in {clips} conditions, "
        f"responses of {TOKENS} tokens; {machine()}",
        "",
        f"A step: {steps} clips; reading its weights once {step['reading'] * 1e3:.0f} ms, at "
        f"{step['bandwidth'] / 1e9:.1f} GB/s; a position of a prompt of {POSITIONS} {step['position'] * 1e3:.1f} ms. A "
        f"position of a clip's cache takes {step['cache of a position'] / 1e3:.0f} kB; a run of four took "
        f"{row.peak_memory / 1e9:.2f} GB, the mapped file included.",
        "",
        "| asked | measured |",
        "| --- | --- |",
        f"| a step of 4 clips: at most {ASKED} × the longer of reading the weights once and 4 positions of a prompt | "
        f"{step['by bound']:.2f} × |",
        f"| beyond tokenizing, prefill and decoding: under {ASKED_BEYOND:.0%} on 100 clips | "
        f"{(wall - seconds) / seconds:.1%} of {seconds:.0f} s, loading and hashing the file included |",
        f"| real-time factor | {seconds / row.seconds:.2f} |",
    ]


if __name__ == "__main__":
    main()
