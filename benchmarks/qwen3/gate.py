"""The strict gate of F16 at the real size: its verdict, and memory beyond the mapped pages."""

import re
from pathlib import Path

from benchmarks.machine import machine
from benchmarks.validation import CHECK, CONVERT, NEW_TOKENS, watched
from runtime_check.audio.jfk import JFK

from .checkpoint import checkpoint_in, size_of

OWN_BYTES = 2_000_000_000


def lines(folder: Path) -> list[str]:
    """The machine, the table, and what was asked."""
    checkpoint, reference = checkpoint_in(folder), folder / "reference.safetensors"
    watched(CONVERT, checkpoint, "--outtype", "f16", "--no-check", "--force", "--quiet", "--out", folder / "gguf")
    file = next((folder / "gguf").glob("*-f16.gguf"))
    english = "--audio", JFK, "--language", "english"
    stored = watched(CHECK, "reference", checkpoint, *english, "-o", reference)
    found = watched(CHECK, file, *english, "--reference", reference, "--max-new-tokens", NEW_TOKENS)
    verdict = ", ".join(dict.fromkeys(re.findall(r"^(PASS|FAIL|NOT COMPARED)", found.output, re.MULTILINE)))
    rows = {"the fp32 reference, from the checkpoint": stored, "`f16` against it": found}
    return [
        f"Measured on {machine()} Checkpoint {size_of(checkpoint) / 1e9:.2f} GB, file {file.stat().st_size / 1e9:.2f} "
        "GB, JFK, random weights.",
        "",
        "| | wall | peak RSS | own memory |",
        "| --- | --- | --- | --- |",
        *(
            f"| {name} | {one.wall:.1f} s | {one.peak_rss / 1e9:.2f} GB | {one.own / 1e9:.2f} GB |"
            for name, one in rows.items()
        ),
        "",
        "| asked | measured |",
        "| --- | --- |",
        f"| the strict gate of F16 passes | {verdict} |",
        f"| at most {OWN_BYTES / 1e9:.0f} GB beyond mapped pages | {found.own / 1e9:.2f} GB |",
    ]
