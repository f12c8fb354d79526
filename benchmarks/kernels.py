"""`make bench`, second part: our kernels against ggml's quantizer, on the same rows, in one run.

The table goes into docs/benchmarks.md.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import numpy as np

from benchmarks.document import insert_lines
from benchmarks.machine import machine
from mimo_convert.write.chunks import CHUNK_WEIGHTS
from quantize import simd
from quantize.backend_choice import sample_imatrix
from quantize.kernels import Bytes, Scratch, quantize_rows, to_float32
from quantize.types import BF16, TYPES, Type

ROW = 4096
ROUNDS = 7
SECONDS = 0.1  # of each measurement in a round
SIZES = [1 << 20, 1 << 24, 1 << 28]  # weights
WANTED = {
    "q4_k": {"avx512": 10, "avx2": 6}, "q5_k": {"avx512": 10, "avx2": 6}, "q2_k": {"avx512": 10, "avx2": 6},
    "q6_k": {"avx512": 4, "avx2": 4}, "q3_k": {"avx512": 4, "avx2": 4},
}  # fmt: skip
WANTED_WITH_IMATRIX = ["q4_0", "q4_1", "q5_0", "q5_1"]

OUT = Scratch()


def rows_of(n_weights: int) -> Bytes:
    """Gaussian bf16 weights, as stored."""
    weights = np.random.default_rng(0).standard_normal((n_weights // ROW, ROW), np.float32) * np.float32(0.02)
    return quantize_rows(weights, BF16)


def rate(work: Callable[[], None], n_weights: int) -> float:
    """Weights a second, over at least SECONDS."""
    n, begin = 0, time.perf_counter()
    while (spent := time.perf_counter() - begin) < SECONDS:
        work()
        n += 1
    return n * n_weights / spent


def rates(type: Type) -> dict[tuple[str, bool], list[float]]:
    """Weights a second on one core, by (ggml or a variant, with an imatrix or without): measured in turn, so that all
    have the same neighbours.

    ggml gets its rows widened already; the kernels do that themselves.
    """
    stored = rows_of(CHUNK_WEIGHTS)
    floats = to_float32(stored[: len(stored) // 8], BF16)  # an eighth, since ggml needs the longer
    contenders: dict[tuple[str, bool], tuple[Callable[[], None], int]] = {}
    for imatrix in (None, sample_imatrix(ROW)):
        if imatrix is not None and not simd.takes_imatrix(type):
            continue
        weighted = imatrix is not None
        contenders["ggml", weighted] = (
            lambda imatrix=imatrix: void(quantize_rows(floats, type, OUT, imatrix=imatrix)),
            floats.size,
        )
        for variant in simd.variants():
            if simd.has_kernel(type, variant):
                contenders[variant, weighted] = (
                    lambda variant=variant, imatrix=imatrix: void(
                        simd.quantize_rows(stored, BF16, type, OUT, imatrix=imatrix, variant=variant)
                    ),
                    CHUNK_WEIGHTS,
                )
    found: dict[tuple[str, bool], list[float]] = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, (work, n_weights) in contenders.items():
            found[name].append(rate(work, n_weights))
    return found


def void(_: object) -> None:
    """A result that nobody needs."""


def in_chunks(rows: Bytes, type: Type, threads: int) -> float:
    """Weights a second of a whole tensor, cut as a conversion cuts it."""
    step = CHUNK_WEIGHTS // ROW
    pieces = [rows[i : i + step] for i in range(0, len(rows), step)]
    with ThreadPoolExecutor(threads) as pool:
        begin = time.perf_counter()
        for _ in pool.map(lambda piece: void(simd.quantize_rows(piece, BF16, type, OUT)), pieces):
            pass
        return rows.size / 2 / (time.perf_counter() - begin)


def measure() -> list[str]:
    """Lines of Markdown: the machine, a row a type without an imatrix and with one, and each target with what was
    found."""
    variants = simd.variants()
    found = {}
    for type in TYPES.values():
        if type.block > 1:
            found[type.name] = rates(type)
            print(
                type.name,
                {of: f"{median(of_rounds) / 1e6:.0f}" for of, of_rounds in found[type.name].items()},
                flush=True,
            )
    ratios = {
        (name, variant, weighted): ratio(of, (variant, weighted), ("ggml", weighted))
        for name, of in found.items()
        for variant, weighted in of
        if variant != "ggml"
    }
    slower = {
        (name, variant): ratio(of, (variant, False), (variant, True))
        for name, of in found.items()
        for variant, weighted in of
        if weighted and variant != "ggml"
    }
    return [
        f"Measured on {machine()} Million weights a second on one core, and how many times ggml's speed that is "
        f"(medians of {ROUNDS}); bf16 rows of {ROW}, {CHUNK_WEIGHTS:,} weights a call.",
        "",
        *table(found, variants, False, lambda name, variant: f"{ratios[name, variant, False]:.1f} ×"),
        "",
        "With an importance matrix, beside ggml with the same; then how many times the time without one that is.",
        "",
        *table(
            found, variants, True,
            lambda name, variant: f"{ratios[name, variant, True]:.1f} × · {slower[name, variant]:.2f} × the time",
        ),
        "",
        "| asked | measured |",
        "| --- | --- |",
        *(
            f"| {asked} | {measured} |"
            for asked, measured in (
                *speed_targets({(name, variant): x for (name, variant, weighted), x in ratios.items() if not weighted}),
                *imatrix_targets({(name, variant): x for (name, variant, weighted), x in ratios.items() if weighted}),
                *scaling_targets(TYPES["q4_k"]),
            )
        ),
    ]  # fmt: skip


def ratio(of: Mapping[tuple[str, bool], list[float]], ours: tuple[str, bool], theirs: tuple[str, bool]) -> float:
    """How many times faster, as the median of pairs that were measured one after the other."""
    return median(a / b for a, b in zip(of[ours], of[theirs], strict=True))


def table(
    found: Mapping[str, Mapping[tuple[str, bool], list[float]]],
    variants: Sequence[str],
    weighted: bool,
    compared: Callable[[str, str], str],
) -> Iterator[str]:
    """A row a type, with the speed of ggml and of each variant, and what `compared` says of the latter."""
    yield f"| | ggml | {' | '.join(variants)} |"
    yield "|" + " --- |" * (len(variants) + 2)
    for name, of in found.items():
        if ("ggml", weighted) not in of:
            continue
        cells = [f"{median(of['ggml', weighted]) / 1e6:.0f}"]
        for variant in variants:
            measured = (variant, weighted) in of
            cells.append(f"{median(of[variant, weighted]) / 1e6:.0f} · {compared(name, variant)}" if measured else "")
        yield f"| {name} | {' | '.join(cells)} |"


def speed_targets(ratios: Mapping[tuple[str, str], float]) -> Iterator[tuple[str, str]]:
    """What was asked of each type, and of all, with what was found."""
    for name, wanted in WANTED.items():
        asked = ", ".join(f"{least} × with {variant}" for variant, least in wanted.items())
        yield f"{name}: at least {asked}", ", ".join(f"{ratios[name, v]:.1f} ×" for v in wanted if (name, v) in ratios)
    slowest = min(ratios, key=lambda pair: ratios[pair])
    yield "none slower than ggml", f"{ratios[slowest]:.1f} × at least ({', '.join(slowest)})"


def imatrix_targets(ratios: Mapping[tuple[str, str], float]) -> Iterator[tuple[str, str]]:
    """What was asked of the types of one scale a block, with an imatrix."""
    yield (
        f"{', '.join(WANTED_WITH_IMATRIX)} with an imatrix: at least 6 × ggml",
        ", ".join(f"{ratios[name, simd.variants()[0]]:.1f} ×" for name in WANTED_WITH_IMATRIX),
    )


def scaling_targets(type: Type) -> Iterator[tuple[str, str]]:
    """How speed depends on the size of a tensor, and on threads."""
    rows = rows_of(SIZES[-1])
    by_size = [median(in_chunks(rows[: size // ROW], type, 1) for _ in range(3)) for size in SIZES]
    yield (
        f"{type.name}: cost per weight does not grow with the tensor",
        ", ".join(f"{rate / 1e6:.0f}" for rate in by_size) + " million weights a second in tensors of "
        + ", ".join(f"{size / 1e6:.0f}" for size in SIZES) + " million",
    )  # fmt: skip
    quarter = rows[: len(rows) // 4]
    gains = []
    for _ in range(ROUNDS):
        one, two = (in_chunks(quarter, type, threads) for threads in (1, 2))
        gains.append(two / one)
    yield f"{type.name}: two threads at least 1.85 × one", f"{median(gains):.2f} ×"


if __name__ == "__main__":
    insert_lines("kernels", measure())
