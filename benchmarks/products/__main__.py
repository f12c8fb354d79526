"""Products of the own kernels beside ggml's, mapped and repacked: `python -m benchmarks.products`.

Each is a graph of the harness over matrices in a mapped file, with all threads, quantization of the activations
included. All are run in turn, so that they have the same neighbours; ratios are medians of pairs. The table goes into
docs/benchmarks.md, one for each kind of machine.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.document import insert_lines
from benchmarks.machine import bandwidth, machine, machine_kind
from mimo_convert.formats.gguf import GGUFFile
from mimo_convert.formats.tensor import TensorSlice
from mimo_convert.threads import default_threads
from quantize.kernels import quantize_rows
from quantize.types import TYPES, Type
from runtime_check.choices import GGML, OWN
from runtime_check.ggml.graph import Backend, Graph, Weights
from runtime_check.products.library import variants

ROWS, ROW = 11008, 4096
POSITIONS = (1, 2, 4, 16, 94, 512)
OF_ALL_TYPES = (1, 2, 4, 16, 94)  # of types beside those that are measured in more detail
DETAILED = ("q4_k", "q6_k", "q8_0")
ROUNDS = 7
BYTES = 100_000_000  # of weights in a graph of few positions: more than caches hold
READ_BYTES = 400_000_000
# One block of the model: (rows, row) of qkv, o, gate, up, down.
BLOCK = ((6144, 4096), (4096, 4096), (11008, 4096), (11008, 4096), (4096, 11008))

Runs = dict[str, Callable[[], object]]


def write(path: Path, type: Type, shapes: list[tuple[int, int]]) -> GGUFFile:
    """A file of matrices of Gaussian weights."""
    random, tensors = np.random.default_rng(0), {}
    with path.open("wb") as file:
        for i, (n_rows, row) in enumerate(shapes):
            rows = quantize_rows(random.standard_normal((64, row), np.float32) * np.float32(0.02), type)
            tensors[f"m{i}.weight"] = TensorSlice(f"m{i}.weight", path, type, (n_rows, row), file.tell())
            file.write(np.resize(rows, (n_rows, rows.shape[1])).tobytes())
    return GGUFFile(path, {}, {}, tensors, path.stat().st_size)


def graph(weights: Weights, n: int, code: str) -> Callable[[], object]:
    """The product of each matrix with `n` positions, by GGML or a variant of the kernels."""
    backend = Backend(default_threads(), GGML if code == GGML else OWN)
    if code != GGML:
        backend.products.variant = code
    g = Graph(backend, weights)
    inputs = {}
    for i, tensor in enumerate(weights.file.tensors.values()):
        name, row = f"x{tensor.shape[1]}", tensor.shape[1]
        if name not in inputs:
            inputs[name] = np.random.default_rng(row).standard_normal((n, row), np.float32)
            g.input(name, (n, row))
        g.output(f"y{i}", g.linear(g.inputs[name], f"m{i}"))
    return lambda: g.run(inputs)


def contenders(file: GGUFFile, n: int) -> Runs:
    """Graphs by name: `mapped` and, where ggml has such a layout, `repacked`, and the variants of the kernels."""
    repacked = Weights(file)
    runs = {"mapped": graph(Weights(file), n, GGML)}
    if repacked.repack(list(file.tensors), default_threads()):
        runs["repacked"] = graph(repacked, n, GGML)
    return runs | {variant: graph(Weights(file), n, variant) for variant in variants()}


def measure(runs: Runs) -> dict[str, list[float]]:
    """Seconds of each, in turn, after a run of each."""
    for run in runs.values():
        run()
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            begin = time.perf_counter()
            run()
            found[name].append(time.perf_counter() - begin)
    return found


def ratio(found: dict[str, list[float]], slow: str, fast: str) -> str:
    """How many times as fast, the median of pairs; empty if one was not run."""
    if slow not in found or fast not in found:
        return ""
    return f"{median(a / b for a, b in zip(found[slow], found[fast], strict=True)):.2f} ×"


def cells(found: dict[str, list[float]], n_matrices: int) -> Iterator[str]:
    """Milliseconds of a matrix, then the ratios."""
    for name in ("mapped", "repacked", *variants()):
        yield f"{median(found[name]) / n_matrices * 1e3:.2f}" if name in found else ""
    for slow in ("mapped", "repacked"):
        yield ratio(found, slow, variants()[0])
    for variant in variants()[1:]:
        yield ratio(found, "mapped", variant)


def rows_of(type: Type, folder: Path, steps: list[str]) -> Iterator[str]:
    """Rows of the table for a type; `steps` gets what a step takes beside reading its weights."""
    for n in POSITIONS if type.name in DETAILED else OF_ALL_TYPES:
        n_matrices = max(1, round(BYTES / type.nbytes(ROWS * ROW))) if n < 16 else 1
        found = measure(contenders(write(folder / "m.gguf", type, [(ROWS, ROW)] * n_matrices), n))
        yield f"| {type.name} {ROWS} × {ROW} | {n} | {' | '.join(cells(found, n_matrices))} |"
    if type.name in DETAILED:
        for n in (1, 94):
            file, read = write(folder / "m.gguf", type, list(BLOCK)), bandwidth(READ_BYTES, default_threads())
            found = measure(contenders(file, n))
            if n == 1:
                beside = median(found[variants()[0]]) * read / file.size
                steps.append(f"{type.name} {beside:.2f} × ({read / 1e9:.0f} GB/s)")
            yield f"| {type.name}, a block of the model | {n} | {' | '.join(cells(found, 1))} |"


def main() -> None:
    """Measure, print, and put the table into docs/benchmarks.md."""
    assert variants(), "no kernels for this processor"
    best, others = variants()[0], variants()[1:]
    heads = ["mapped", "repacked", *variants(), f"mapped / {best}", f"repacked / {best}"]
    heads += [f"mapped / {other}" for other in others]
    load, table, steps = os.getloadavg()[0], [], []
    with tempfile.TemporaryDirectory() as folder:
        for type in TYPES.values():
            for row in rows_of(type, Path(folder), steps):
                table.append(row)
                print(row, flush=True)
    lines = [
        f"Measured on {machine()} Load before {load:.1f}; milliseconds of a matrix, of the five of a block; medians of "
        f"{ROUNDS}, ratios medians of pairs; {default_threads()} threads.",
        "",
        f"| | positions | {' | '.join(heads)} |",
        "|" + " --- |" * (len(heads) + 2),
        *table,
        "",
        f"A single position by {best} takes, beside reading the weights of a block once at the bandwidth measured just "
        f"before: {', '.join(steps)}.",
    ]
    insert_lines(f"products {machine_kind()}", lines)


if __name__ == "__main__":
    main()
