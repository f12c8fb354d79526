"""How fast the harness runs JFK with a Q4_K file of the real size: own products and ggml's, beside a peer."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from benchmarks.validation import CONVERT, watched
from mimo_convert.threads import default_threads

from .checkpoint import checkpoint_in
from .running import POSITIONS, ROUNDS, STEPS, WAYS

# A C++ runtime on the same ggml and machine, measured by others beside other jobs: seconds for JFK.
PEER = {"encoder": 5.5, "prefill": 8.8}
PHASES = ("mel", "encoder", "prefill", "step")


def lines(folder: Path) -> list[str]:
    """The machine, the table, and what was asked."""
    checkpoint, report = checkpoint_in(folder), folder / "running.json"
    watched(CONVERT, checkpoint, "--outtype", "q4_k", "--no-check", "--force", "--quiet", "--out", folder / "gguf")
    file = next((folder / "gguf").glob("*-q4_k.gguf"))
    watched(sys.executable, "-m", "benchmarks.qwen3.running", file, report)
    found = json.loads(report.read_text())
    own = found["own"]
    read = f"{found['read_by_step'] / 1e9:.2f} GB at {own['bandwidth'] / 1e9:.1f} GB/s"
    operations = {name: found["flops"][name] / own[f"{name} products"] / 1e9 for name in ("encoder", "prefill")}
    return [
        f"Measured on {machine()} {default_threads()} threads; medians of {ROUNDS} rounds. "
        f"{file.stat().st_size / 1e9:.2f} GB; a prompt of {POSITIONS} positions. Own kernels: "
        f"{', '.join(found['codes'])}.",
        "",
        "| | peer | ggml | own | ggml / own | products alone, own | × products, ggml | × products, own |",
        "|" + " --- |" * 8,
        *(row(phase, found) for phase in PHASES),
        "",
        f"A step reads {read}: its products alone take {own['step products by reading once']:.2f} times as long as "
        f"that. Products make {operations['encoder']:.0f} billion operations a second in the encoder, "
        f"{operations['prefill']:.0f} in the prefill.",
        "",
        "| asked | measured |",
        "| --- | --- |",
        *(f"| {asked} | {measured} |" for asked, measured in targets(found)),
    ]


def row(phase: str, found: Mapping[str, Any]) -> str:
    """A phase by both, and beside its products."""
    own, by_ggml = (found[way][phase] for way in WAYS)
    peer = f"{PEER[phase]} s" if phase in PEER else ""
    products = f"{found['own'][f'{phase} products']:.4g} s" if phase != "mel" else ""
    times = (f"{found[way][f'{phase} by products']:.2f}" if phase != "mel" else "" for way in reversed(WAYS))
    cells = [peer, f"{by_ggml:.4g} s", f"{own:.4g} s", f"{by_ggml / own:.2f} ×", products, *times]
    return f"| {phase} | {' | '.join(cells)} |"


def targets(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was asked, and what was found."""
    own, peer = found["own"], sum(PEER.values())
    both = f"{own['encoder and prefill']:.2f} s"
    return [
        (f"mel, encoder and prefill together: at most half of {peer:.1f} s", both),
        ("the same: at most 1.5 × their products alone", f"{own['encoder and prefill by products']:.2f} ×"),
        (
            "a step: at most 1.3 × reading its weights once at the bandwidth measured just before",
            f"{own['step by reading once']:.2f} × (ggml {found['ggml']['step by reading once']:.2f} ×)",
        ),
        (
            f"real-time factor of JFK, {STEPS} tokens",
            f"{own['real-time factor']:.2f} (ggml {found['ggml']['real-time factor']:.2f})",
        ),
    ]
