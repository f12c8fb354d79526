"""A calibration as text: what was collected of each tensor, and how the clips are split."""

from collections.abc import Collection, Iterator, Sequence

import numpy as np

from mimo_convert.formats.calibration import PARTS, Calibration, ColumnSums

LEAST_POSITIONS = 100  # fewer say little of a matrix
HEAD = ("tensor", "columns", "positions", "rms", "peak/rms", "zeros", "")


def describe_calibration(calibration: Calibration, matrices: Collection[str]) -> str:
    """A table with a row for each tensor, and what is missing of the model's `matrices`."""
    rows = [row_of(name, of) for name, of in sorted(calibration.columns.items(), key=lambda one: natural(one[0]))]
    widths = [max(len(row[i]) for row in (HEAD, *rows)) for i in range(len(HEAD))]
    lines = [" ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:-1], widths[1:]), row[-1]]).rstrip()
             for row in (HEAD, *rows)]  # fmt: skip
    return "\n".join([*lines, "", *facts(calibration, matrices)])


def row_of(name: str, of: ColumnSums) -> Sequence[str]:
    """The cells of a tensor: the root mean square of what it is multiplied with, the largest column's beside it, and
    the number of columns that were always zero."""
    if not of.count:
        return name, str(len(of.squares)), "0", "–", "–", "–", "not reached"
    means = of.squares.astype(np.float64) / of.count
    rms, zeros = float(np.sqrt(means.mean())), int((means == 0).sum())
    remarks = []
    if zeros:
        remarks.append("columns of zeros alone" if zeros < len(means) else "zeros alone")
    if of.count < LEAST_POSITIONS:
        remarks.append("few positions")
    peak = f"{np.sqrt(means.max()) / rms:.1f}" if rms else "–"
    return name, str(len(means)), f"{of.count:,}", f"{rms:.3g}", peak, str(zeros), ", ".join(remarks)


def facts(calibration: Calibration, matrices: Collection[str]) -> Iterator[str]:
    """Lines about the whole of it."""
    reached = [name for name in matrices if name in calibration.columns and calibration.columns[name].count]
    missing = [name for name in matrices if name not in reached]
    yield f"{len(reached)} of {len(matrices)} matrices were reached" + (f"; not {named(missing)}" if missing else "")
    if calibration.fisher:
        yield f"Fisher information of {len(calibration.fisher)} tensors"
    if calibration.hessians:
        yield f"second moments in {len(calibration.hessians)} files"
    if calibration.tokens:
        yield f"{calibration.tokens:,} predicted tokens"
    for part in PARTS:
        names = [clip.name for clip in calibration.clips if clip.part == part]
        if names:
            yield f"{part}: {len(names)} clip{'s' * (len(names) > 1)}, {named(names)}"
    if calibration.is_synthetic:
        yield "synthetic: no clip is a recording"


def named(names: Sequence[str], most: int = 3) -> str:
    """The first of some names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def natural(name: str) -> list[tuple[int, str]]:
    """What names are sorted by, so that block 2 comes before block 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in name.split(".")]
