"""What repacking costs and saves, type by type: `python -m benchmarks.harness.repacking`.

Matrices of Gaussian weights in a temporary file, one thread, and the processor's time of this process, which
neighbours change less than the wall's. The table goes into docs/benchmarks.md; what `runtime_check/ggml/repack.py`
reckons with is from it and from `python -m benchmarks.harness`. Takes a minute.
"""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.document import insert_lines
from benchmarks.machine import machine
from mimo_convert.disk import sha256_of
from mimo_convert.formats.gguf import GGUFFile
from mimo_convert.formats.tensor import TensorSlice
from mimo_convert.model.model_file import FileHash
from quantize.backend_choice import choose_backend
from quantize.backends import AUTO
from quantize.kernels import quantize_rows
from quantize.rows import convert
from quantize.types import BF16, TYPES, Type
from runtime_check.choices import GGML
from runtime_check.ggml.graph import Backend, Graph, Weights

N_MATRICES, SIDE = 8, 4096  # more than a core's caches hold
PROMPT = 97  # positions, as in the benchmark of the harness
STEPS = 16  # that are measured together
ROUNDS = 5


def write_matrices(path: Path, stored: Type) -> GGUFFile:
    """A file of equal matrices, (SIDE, SIDE), and nothing else."""
    weights = np.random.default_rng(0).standard_normal((SIDE, SIDE), np.float32) * np.float32(0.02)
    rows = convert(quantize_rows(weights, BF16), BF16, stored, choose_backend(stored, AUTO))
    path.write_bytes(rows.tobytes() * N_MATRICES)
    names = [f"matrix{i}.weight" for i in range(N_MATRICES)]
    tensors = {name: TensorSlice(name, path, stored, (SIDE, SIDE), i * rows.nbytes) for i, name in enumerate(names)}
    return GGUFFile(path, {}, {}, tensors, path.stat().st_size)


def seconds(work: Callable[[], object]) -> float:
    """Processor time of `work`."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def repack(file: GGUFFile, weights: Weights, sha256: FileHash | None = None) -> None:
    """Repack all of the matrices."""
    weights.repack(list(file.tensors), 1, sha256)


def products(weights: Weights, n: int, times: int) -> Callable[[], object]:
    """The product of each matrix with `n` positions, so many times."""
    g = Graph(Backend(1, GGML), weights)
    x = g.input("x", (n, SIDE))
    for i in range(N_MATRICES):
        g.output(f"y{i}", g.linear(x, f"matrix{i}"))
    inputs = {"x": np.random.default_rng(1).standard_normal((n, SIDE), np.float32)}
    g.run(inputs)
    return lambda: [g.run(inputs) for _ in range(times)]


def measure(path: Path, stored: Type) -> dict[str, float] | None:
    """Seconds a GB on one thread, and of products a position: medians; None for a type that cannot be repacked."""
    file = write_matrices(path, stored)
    rounds: list[dict[str, float]] = []
    for _ in range(ROUNDS):
        mapped, repacked, nbytes = Weights(file), Weights(file), file.size
        found = {"hash": seconds(lambda: sha256_of(path)), "repack": seconds(partial(repack, file, repacked))}
        found["both"] = seconds(partial(repack, file, Weights(file), FileHash(path, wanted=True)))
        if repacked["matrix0.weight"].contents.extra is None:
            return None
        for name, n, times in (("prompt", PROMPT, 1), ("step", 1, STEPS)):
            for way, weights in (("mapped", mapped), ("repacked", repacked)):
                found[f"{name} {way}"] = seconds(products(weights, n, times)) / (n * times)
        rounds.append({name: value / nbytes * 1e9 for name, value in found.items()})
    return {name: median(found[name] for found in rounds) for name in rounds[0]}


def lines(found: dict[str, dict[str, float]]) -> list[str]:
    """The machine, and a row a type."""
    rows = []
    for name, s in found.items():
        saved = s["prompt mapped"] - s["prompt repacked"]
        cells = [f"{s[part]:.2f} s" for part in ("hash", "repack", "both")]
        for part in ("prompt", "step"):
            cells.append(f"{s[f'{part} mapped'] * 1e3:.1f} → {s[f'{part} repacked'] * 1e3:.1f} ms")
        cells.append(f"{s['repack'] / saved:.0f} positions" if saved > 0 else "never")
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return [
        f"Measured on {machine()} One thread; processor time for 1 GB of matrices, medians of {ROUNDS}.",
        "",
        f"| | hash | repack | both in one reading | a position of {PROMPT} | a step | repaid after |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *rows,
    ]


def main() -> None:
    """Measure, print, and put the table into docs/benchmarks.md."""
    with tempfile.TemporaryDirectory() as folder:
        found = {
            name: measure(Path(folder) / f"{name}.gguf", stored) for name, stored in TYPES.items() if stored.block > 1
        }
    insert_lines("repacking", lines({name: s for name, s in found.items() if s}))


if __name__ == "__main__":
    main()
