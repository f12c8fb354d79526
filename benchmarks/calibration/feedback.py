"""Error feedback: what it takes of a structured random matrix's error, and what it costs at the real size.

`python -m benchmarks.calibration.feedback`; the tables go into docs/benchmarks.md.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from statistics import median

import numpy as np

from benchmarks.document import insert_lines
from benchmarks.machine import machine, peak_memory
from mimo_convert.write.chunks import CHUNK_WEIGHTS
from quantize.backends import SIMD
from quantize.feedback.choice import ALPHAS, MOST_ROWS
from quantize.feedback.factor import LAMBDA, Factor, factor
from quantize.feedback.library import variants
from quantize.feedback.rounding import with_feedback
from quantize.kernels import Bytes, Floats, to_float32
from quantize.rows import convert
from quantize.types import F32, TYPES, Type

# A matrix of random weights, and inputs whose channels are log-normal, with a spectrum of 1/k.
ROWS, COLUMNS, POSITIONS = 512, 1024, 8192
NAMES = ("q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_xs")
# The matrices of a block of the 8 B model by input: columns, rows of each.
INPUTS = {
    "q, k, v": (4096, (4096, 1024, 1024)),
    "o": (4096, (4096,)),
    "gate, up": (4096, (11008, 11008)),
    "down": (11008, (4096,)),
}
BLOCKS, THREADS, ROUNDS = 36, 2, 3


def weights_of(rows: int, columns: int) -> Floats:
    return (np.random.default_rng(0).standard_t(5, (rows, columns)) * 0.02).astype(np.float32)


def errors(name: str, rows: Floats, moments: Floats, test: Floats) -> list[float]:
    """The errors of each way relative to plain rounding, on inputs that the moments are not of."""
    ggml_type, importance = TYPES[name], np.ascontiguousarray(moments.diagonal())
    plain, imatrix = (searched(rows, ggml_type, weights) for weights in (None, importance))
    factored = factor(moments, 0.0)
    ways = [
        plain,
        imatrix,
        with_feedback(rows, plain, ggml_type, factored, sweeps=0),
        *(with_feedback(rows, imatrix, ggml_type, factored, sweeps) for sweeps in (0, 1)),
        with_feedback(rows, imatrix, ggml_type, in_float64(factored, moments), sweeps=0),
    ]
    found = [float(np.square((to_float32(blocks, ggml_type) - rows) @ test.T).sum(dtype=np.float64)) for blocks in ways]
    return [one / found[0] for one in found]


def in_float64(factored: Factor, moments: Floats) -> Factor:
    """The same factor computed by numpy in float64."""
    exact = moments.astype(np.float64)[np.ix_(factored.order, factored.order)]
    exact += LAMBDA * np.trace(exact) / len(exact) * np.eye(len(exact))
    upper = np.linalg.cholesky(exact[::-1, ::-1])[::-1, ::-1]
    a = np.array(factored.a)
    a[:, : len(exact)] = (upper / upper.diagonal()).T
    return replace(factored, a=a, d=(upper.diagonal() ** 2).astype(np.float32))


def searched(rows: Floats, ggml_type: Type, importance: Floats | None) -> Bytes:
    return convert(rows.view(np.uint8), F32, ggml_type, SIMD, floats=rows, imatrix=importance)


def experiment() -> list[str]:
    """A row for each type."""
    random = np.random.default_rng(0)
    mixing = np.linalg.qr(random.standard_normal((COLUMNS, COLUMNS)))[0] / np.sqrt(np.arange(1, COLUMNS + 1))[:, None]
    mixing *= np.exp(0.75 * random.standard_normal(COLUMNS))
    inputs, test = ((random.standard_normal((POSITIONS, COLUMNS)) @ mixing).astype(np.float32) for _ in range(2))
    moments = (inputs.T.astype(np.float64) @ inputs / POSITIONS).astype(np.float32)
    rows, table = weights_of(ROWS, COLUMNS), []
    for name in NAMES:
        table.append(f"| {name} | {' | '.join(f'{one:.3f}' for one in errors(name, rows, moments, test))} |")
        print(table[-1], flush=True)
    return table


def seconds(work: Callable[[], object], rounds: int = 1) -> float:
    spent = []
    for _ in range(rounds):
        begin = time.perf_counter()
        work()
        spent.append(time.perf_counter() - begin)
    return median(spent)


def moments_of(n: int) -> Floats:
    """Second moments of as many positions as a large corpus has of the widest input."""
    inputs = np.random.default_rng(1).standard_normal((1024, n), np.float32)
    inputs *= np.exp(np.random.default_rng(2).standard_normal(n, np.float32))
    return inputs.T @ inputs / np.float32(len(inputs))


def costs(n: int, name: str = "q4_k") -> tuple[float, float]:
    """Seconds of a factor, by all threads; and of a row, chunks of rows in all threads."""
    moments, rows = moments_of(n), weights_of(CHUNK_WEIGHTS // n, n)
    begin = time.perf_counter()
    factored = factor(moments, 0.3, threads=THREADS)
    of_factor = time.perf_counter() - begin
    blocks = searched(rows, TYPES[name], np.ascontiguousarray(moments.diagonal()))
    del moments

    def in_threads() -> None:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(lambda _: with_feedback(rows, blocks, TYPES[name], factored), range(THREADS)))

    return of_factor, seconds(in_threads, ROUNDS) / (THREADS * len(rows))


def cost() -> list[str]:
    """What single matrices cost, and all of 36 blocks by these."""
    measured = {n: costs(n) for n in sorted({n for n, _ in INPUTS.values()})}
    table, total = [], 0.0
    for name, (n, rows) in INPUTS.items():
        of_factor, of_row = measured[n]
        factors = of_factor * (len(ALPHAS) + 1)  # to choose, and to convert
        rounding = of_row * (sum(rows) + len(ALPHAS) * MOST_ROWS * len(rows) / 3)  # of these, no refinement
        total += BLOCKS * (factors + rounding)
        gflops = [n**3 / 3 / of_factor / 1e9, 3 * n**2 / of_row / 1e9]
        table.append(
            f"| {name} | {n} | {', '.join(map(str, rows))} | {of_factor:.1f} s, {gflops[0]:.0f} GFlop/s | "
            f"{1e3 * of_row:.2f} ms, {gflops[1]:.0f} GFlop/s | {factors + rounding:.1f} s |"
        )
        print(table[-1], flush=True)
    peak = peak_memory() / 1e9
    how = (
        f"{BLOCKS} times the sum, with {len(ALPHAS)} factors an input and {MOST_ROWS} rows a matrix for each to "
        "choose, and one factor to convert"
    )
    return [
        "| input | columns | rows | a factor | a row, with a sweep of refinement | a block |",
        "| --- | --- | --- | --- | --- | --- |",
        *table,
        "",
        "| asked | measured |",
        "| --- | --- |",
        f"| `--feedback` for the 8 B model in at most 60 min | {total / 60:.0f} min: {how} |",
        f"| at most 2.5 GB | {peak:.2f} GB at most, of this program, second moments of 11008 columns included |",
    ]


def measure() -> list[str]:
    spent = cost()
    table = experiment()
    return [
        f"Measured on {machine()} {THREADS} threads, {variants()[0]}.",
        "",
        "| | plain | imatrix | feedback, plain scales | feedback, imatrix scales | and a sweep of refinement | "
        "factor in float64 |",
        "|" + " --- |" * 7,
        *table,
        "",
        *spent,
    ]


if __name__ == "__main__":
    insert_lines("feedback", measure())
