"""What a conversion with an importance matrix costs beside one without, of a quarter of the decoder's layers."""

from pathlib import Path
from statistics import median

from benchmarks.full_size import Measured
from benchmarks.machine import machine
from tests.qwen3_checkpoint import REAL_AUDIO, REAL_TEXT, write_qwen3_asr
from tests.system.calibrations import write_imatrix

from .checkpoint import size_of
from .conversion import convert

ROUNDS = 3
LAYERS = REAL_TEXT["num_hidden_layers"] // 4
TYPES = "q6_k", "q5_k", "q4_k", "q3_k", "iq4_xs"
MOST = 1.1  # times as long as without: what was asked


def lines(folder: Path) -> list[str]:
    """The machine, and the table."""
    checkpoint, imatrix = folder / "quarter", folder / "imatrix.gguf"
    if not checkpoint.exists():
        write_qwen3_asr(checkpoint, n_shards=2, text=REAL_TEXT | {"num_hidden_layers": LAYERS}, audio=REAL_AUDIO)
    write_imatrix(checkpoint, imatrix)
    rounds = [{name: both(checkpoint, folder, imatrix, name) for name in TYPES} for _ in range(ROUNDS)]
    return [
        f"Measured on {machine()} Medians of {ROUNDS} rounds, ratios of each round's own; {LAYERS} layers of the "
        f"decoder and the whole audio tower, {size_of(checkpoint) / 1e9:.2f} GB; random sums for every matrix.",
        "",
        "| | without | with | × | in the quantizers, × | asked |",
        "|" + " --- |" * 6,
        *(row(name, [of[name] for of in rounds]) for name in TYPES),
    ]


def both(checkpoint: Path, folder: Path, imatrix: Path, name: str) -> tuple[Measured, Measured]:
    """A conversion without the importance matrix, then one with it."""
    plain = convert(checkpoint, folder, "--outtype", name)
    return plain, convert(checkpoint, folder, "--outtype", name, "--imatrix", imatrix)


def row(name: str, rounds: list[tuple[Measured, Measured]]) -> str:
    """Medians of a type."""
    walls = [median(found[i].wall for found in rounds) for i in range(2)]
    times = median(with_it.wall / plain.wall for plain, with_it in rounds)
    kernels = median(with_it.quantizer_seconds / plain.quantizer_seconds for plain, with_it in rounds)
    return f"| {name} | {walls[0]:.1f} s | {walls[1]:.1f} s | {times:.2f} | {kernels:.2f} | at most {MOST} × |"
