"""Compare rows of a GGUF file with the rows they were made from.

The expected rows are computed here: the source's rows, converted by the path that the file records. If the file records
its backends, any other bytes are wrong. If not, bytes may differ, but no block may have much more error than direct
conversion.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mimo_convert.formats.tensor import TensorSlice
from mimo_convert.write.chunks import Chunk
from mimo_convert.write.rows import absmax_if_finite
from quantize.kernels import Bytes, Floats, Scratch, is_float, to_float32
from quantize.rows import convert
from quantize.types import Type

from .conversion_paths import ConversionPath, backend_of, has_good_kernel, round_trip


class Limits(NamedTuple):
    """Allowed ratios of another backend's error to ours, per row and per block; and the relative error up to which a
    block always passes."""

    row: float
    block: float
    alone: float


# ggml differs from our kernels where it was compiled to contract, and then by a rounding; floats are compared like it.
# What others make with an imatrix is made for a few columns at the cost of the rest: where 4 of 512 columns mattered
# 10,000 times as much, ggml had up to 3.4 times the error over a row, and 12 times over a block, half of its weights.
# Of ours with an imatrix, over weights of a t distribution and importance of eight in 1,024 columns 10,000 times as
# large, or of normal numbers to the fourth power: 6.6 times over a row, and 0.72 of a block's weights where it was more
# than 4 times ours. Of error feedback over such, 5.3 times over a row, and 0.41 of such a block's weights.
OF_GGML, OF_OTHERS, OF_IMATRIX = Limits(1.5, 3.0, 0.0), Limits(4.0, 4.0, 0.6), Limits(8.0, 4.0, 0.8)
SLACK = 0.25  # may be added, of the error that the type has for ordinary weights, where ours happens to be exact

# Sums of squares between these, of rows whose sums are not too far apart, are as good in float32 as in float64.
SMALL, LARGE, ALIKE = 1e-12, 1e30, 1e4
MAX_SEGMENT = 8192  # OpenBLAS uses threads of its own for dot products of more than 10,000

LISTED = 3  # wrong rows of a tensor that are described
NO_NUMBER = "holds NaN or infinity"

OURS, X, Y, DIFFERENCE, EXPECTED, M = (Scratch() for _ in range(6))

Numbers = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Rule:
    """How rows are compared: `exact` with a checkpoint's rows; `floats` and `blocks` by bytes; otherwise by error,
    within `limits`."""

    exact: bool
    floats: bool
    blocks: bool
    limits: Limits

    def by_bytes(self, ggml_type: Type) -> bool:
        """Whether rows of `ggml_type` are compared by bytes: only if they can be reproduced here."""
        return self.floats if is_float(ggml_type) else self.blocks and has_good_kernel(ggml_type)


class Sums(NamedTuple):
    """Per row, (n,) float64: the sums of source², ours², ours × source and (ours - source)²."""

    source: Numbers
    ours: Numbers
    product: Numbers
    error: Numbers


class RowResults(NamedTuple):
    """Rows from `first` on: their sums; `expected`, the squared error of direct conversion; which rows are reproduced
    by the conversion path; which are wrong, and descriptions of the first few by row number."""

    first: int
    sums: Sums
    expected: Numbers
    equal: Mask
    wrong: Mask
    problems: dict[int, str]


class Differing(NamedTuple):
    """Rows that are not reproduced by direct conversion or by the conversion path: `found` and `made` as bytes; source
    `x`, ours `y` and direct conversion `m` as float32; the norms of their sums."""

    ggml_type: Type
    stored: Type
    path: ConversionPath
    equal: Mask
    found: Bytes
    made: Bytes
    x: Floats
    y: Floats
    m: Floats
    norms: Sums
    expected: Numbers


Verdict = tuple[Mask, Callable[[int], str]]  # which of the rows are wrong; what is wrong with one


def evaluate_rows(chunk: Chunk, rows: Bytes, ours: TensorSlice, rule: Rule, path: ConversionPath) -> RowResults:
    """Compare a chunk's rows, (n, row bytes) as the source stores them, with the same rows of `ours`, expected by
    `path`.

    Raises WorthlessError if the source holds NaN or infinity, InputError if ours cannot be read.
    """
    as_stored, ggml_type = rows, ours.ggml_type
    rows, stored = chunk.source.weights(chunk.first, rows)
    found = ours.read(chunk.first, chunk.n, OURS.take(chunk.n * ours.row_bytes))
    with np.errstate(all="ignore"):  # what is not finite is looked for
        x, y = to_float32(rows, stored, X), to_float32(found, ggml_type, Y)
        sums = sums_of(x, y)
        if not np.isfinite(sums.source).all():
            absmax_if_finite(chunk, as_stored)
        weights, backend = path.importance, backend_of(ggml_type)
        direct = convert(rows, stored, ggml_type, backend, floats=x, imatrix=weights, scratch=EXPECTED)
        direct = path.round(x, direct, ggml_type)
        equal = is_direct = equal_rows(found, direct)
        made = direct
        if not path.is_direct:
            made = path.make(rows, stored, x, ggml_type)
            equal = equal_rows(found, made)
        expected, wrong = sums.error.copy(), ~np.isfinite(sums.ours)
        problems = {int(i): NO_NUMBER for i in np.flatnonzero(wrong)[:LISTED]}
        differ = np.flatnonzero(~(equal & is_direct))
        if differ.size:
            part, m = x[differ], to_float32(direct[differ], ggml_type, M)
            expected[differ] = sums_of(part, m).error
            norms = Sums(*(np.sqrt(of_rows[differ]) for of_rows in sums))
            differing = Differing(
                ggml_type, stored, path, equal[differ], found[differ], made[differ], part, y[differ], m, norms,
                np.sqrt(expected[differ]),
            )  # fmt: skip
            is_wrong, describe = evaluate(differing, rule)
            wrong[differ] |= is_wrong
            problems = {int(differ[i]): describe(int(i)) for i in np.flatnonzero(is_wrong)[:LISTED]} | problems
    first = most_telling(problems)
    return RowResults(chunk.first, sums, expected, equal, wrong, {chunk.first + row: problems[row] for row in first})


def most_telling(problems: Mapping[int, str]) -> list[int]:
    """The rows whose problems are listed: those with NaN or infinity first."""
    return sorted(problems, key=lambda row: (problems[row] != NO_NUMBER, row))[:LISTED]


def equal_rows(found: Bytes, made: Bytes) -> Mask:
    """Which rows are equal, (n,) bool."""
    return np.ones(len(found), np.bool_) if np.array_equal(found, made) else (found == made).all(axis=1)


def sums_of(x: Floats, y: Floats) -> Sums:
    """Row sums of two (n, row) float32 arrays; in float64 where float32 is not precise enough."""
    difference = np.subtract(y, x, out=DIFFERENCE.take(x.nbytes).view(np.float32).reshape(x.shape))
    source, ours, error = map(squares, (x, y, difference))
    sums = Sums(source, ours, (source + ours - error) / 2, error)
    least, most = np.minimum(source, ours), np.maximum(source, ours)
    for row in np.flatnonzero(~((least > SMALL) & (most < LARGE) & (most < ALIKE * least))):
        a, b = x[row].astype(np.float64), y[row].astype(np.float64)
        for of_rows, total in zip(sums, (a @ a, b @ b, a @ b, (b - a) @ (b - a)), strict=True):
            of_rows[row] = total
    return sums


def squares(rows: Floats) -> Numbers:
    """Sum of squares of each row, in segments that BLAS does not distribute over threads of its own."""
    n, row = rows.shape
    segments = rows.reshape(n, -1, segment(row))
    return np.vecdot(segments, segments).sum(axis=1, dtype=np.float64)


@cache
def segment(row: int) -> int:
    """The largest divisor of `row` that is at most MAX_SEGMENT."""
    return next(length for length in range(min(row, MAX_SEGMENT), 0, -1) if row % length == 0)


@cache
def usual_error(ggml_type: Type) -> float:
    """The relative RMSE of standard normal weights in `ggml_type`."""
    x = np.random.default_rng(0).standard_normal((64, 1024), np.float32)
    sums = sums_of(x, round_trip(x, ggml_type))
    return float(np.sqrt(sums.error.sum() / sums.source.sum()))


def evaluate(d: Differing, rule: Rule) -> Verdict:
    """Find wrong rows."""
    by_bytes = rule.by_bytes(d.ggml_type)
    if by_bytes and is_float(d.ggml_type):
        return ~d.equal, lambda i: describe_weight(d, i)
    too_far, describe = evaluate_errors(d, rule)
    if not by_bytes:
        return too_far, describe
    return too_far | ~d.equal, lambda i: describe(i) if too_far[i] else describe_block(d, i)


def evaluate_errors(d: Differing, rule: Rule) -> Verdict:
    """Find rows, or blocks, whose error exceeds that of direct conversion by more than the limits.

    Unless the rule is `exact`, the error that the source's own type adds is allowed, too.
    """
    limits = OF_GGML if is_float(d.ggml_type) else rule.limits
    lost: Floats | None = None
    if not rule.exact:
        y = np.nan_to_num(d.y, posinf=0.0, neginf=0.0)
        lost = round_trip(y, d.stored) - y

    def norms(rows: Floats) -> Numbers:
        blocks = rows.reshape(len(rows), -1, d.ggml_type.block)
        return np.sqrt(np.einsum("rbi,rbi->rb", blocks, blocks))

    of_lost = None if lost is None else np.sqrt(np.einsum("ij,ij->i", lost, lost, dtype=np.float64))
    rows = Errors(d.norms.error, d.expected, d.norms.source)
    wrong_rows = rows.too_large(d, limits.row, d.norms.ours, of_lost)
    if is_float(d.ggml_type):
        return wrong_rows, lambda i: rows.describe(d, i)
    blocks = Errors(norms(d.y - d.x), norms(d.m - d.x), norms(d.x))
    wrong_blocks = blocks.too_large(d, limits.block, norms(d.y), None if lost is None else norms(lost))
    wrong_blocks &= ~(blocks.found <= limits.alone * blocks.source)

    def describe(i: int) -> str:
        if wrong_rows[i]:
            return rows.describe(d, i)
        block = int(np.argmax(wrong_blocks[i]))
        return blocks.describe(d, (i, block), f" in {place_of_block(d, block)}")

    return wrong_rows | wrong_blocks.any(axis=1), describe


class Errors(NamedTuple):
    """Norms per row or per block: of ours - source, of expected - source, and of the source."""

    found: Numbers
    expected: Numbers
    source: Numbers

    def too_large(self, d: Differing, limit: float, ours: Numbers, lost: Numbers | None) -> Mask:
        """Which errors exceed `limit`; `ours` and `lost` are the norms of the file's weights and of the source type's
        error."""
        usual, expected = usual_error(d.ggml_type) * self.source, np.nan_to_num(self.expected, posinf=0.0)
        bound = limit * expected + SLACK * usual
        if lost is not None:
            bound = limit * np.hypot(np.maximum(expected, usual), np.maximum(lost, usual_error(d.stored) * ours))
        return ~(self.found <= bound)

    def describe(self, d: Differing, i: int | tuple[int, int], where: str = "") -> str:
        """Describe an error that is too large."""
        found, expected = (relative(norms[i] ** 2, self.source[i] ** 2) for norms in (self.found, self.expected))
        verb = "rounding" if is_float(d.ggml_type) else "quantizing"
        itself = "" if is_float(d.stored) else f" (and the source is {d.stored.name} itself)"
        return (
            f"has a relative RMSE of {found:.3g}{where}, {verb} it to {d.ggml_type.name} gives {expected:.3g}{itself}"
        )


def relative(error: Numbers | float, of: Numbers | float) -> Numbers:
    """√(error² / of²) of squared inputs: 0 without error, infinite relative to zero."""
    error, of = np.asarray(error, np.float64), np.asarray(of, np.float64)
    with np.errstate(all="ignore"):
        found = np.where(error == 0, 0.0, np.sqrt(error / of))
    return np.nan_to_num(found, nan=np.inf, posinf=np.inf)


def describe_block(d: Differing, i: int) -> str:
    """Describe a row that is near the source but not reproduced by the kernels."""
    differ = d.found[i] != d.made[i]
    block = int(np.argmax(differ)) // d.ggml_type.block_bytes
    made = f"what our kernels make of the source{d.path.text}"
    return f"is not {made}: {place_of_block(d, block)} is the first that differs"


def place_of_block(d: Differing, block: int) -> str:
    """A block's place in its row."""
    return f"block {block} (columns {block * d.ggml_type.block} to {(block + 1) * d.ggml_type.block - 1})"


def describe_weight(d: Differing, i: int) -> str:
    """Describe a row of floats that are not the source's, rounded."""
    nbytes = d.ggml_type.block_bytes
    differ = (d.found[i] != d.made[i]).reshape(-1, nbytes).any(axis=1)
    first = int(np.argmax(differ))
    expected = to_float32(d.made[i : i + 1], d.ggml_type)[0, first]
    return (
        f"has {int(differ.sum())} of {differ.size} weights that are not the source's in {d.ggml_type.name}"
        f"{d.path.text}: that of column {first} is {d.y[i, first]}, expected {expected}"
    )
