"""Rows of a GGUF file and the rows they were made from → how far apart they are, and which are wrong.

What is expected is made here and now: the source's rows, converted to the file's type by the way that the file says.
If it says what made its blocks, other bytes are wrong. If it does not, they may differ. No block may be much worse than
what is made of the source directly.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mimo_convert.request import Chunk
from mimo_convert.rows import check_numbers
from mimo_convert.stored import StoredTensor
from quantize.kernels import Bytes, Floats, Scratch, is_float, to_float32
from quantize.types import Type

from .ways import DIRECT, Way, converted, has_good_kernel, there_and_back


class Limits(NamedTuple):
    """How many times the error of our quantizer another's may have, over a row and over a block; and the relative error
    up to which a block is left alone."""

    row: float
    block: float
    alone: float


# ggml differs from our kernels where it was compiled to contract, and then by a rounding; floats are judged like it.
# What others make with an imatrix is made for a few columns at the cost of the rest: where 4 of 512 columns mattered
# 10,000 times as much, ggml had up to 3.4 times the error over a row, and 12 times over a block, half of its weights.
OF_GGML, OF_OTHERS = Limits(1.5, 3.0, 0.0), Limits(4.0, 4.0, 0.6)
SLACK = 0.25  # may be added, of the error that the type has for ordinary weights, where ours happens to be exact

# Sums of squares between these, of rows whose sums are not too far apart, are as good in float32 as in float64.
SMALL, LARGE, ALIKE = 1e-12, 1e30, 1e4
MAX_PIECE = 8192  # OpenBLAS uses threads of its own for dot products of more than 10,000

LISTED = 3  # wrong rows of a tensor that are described
NO_NUMBER = "holds NaN or infinity"

OURS, X, Y, DIFFERENCE, EXPECTED, M = (Scratch() for _ in range(6))

Numbers = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Rule:
    """How rows are judged: `exact` if they are compared with the checkpoint's; `floats` and `blocks` if there is one
    right result for those, to the last bit; the errors of blocks, and of what there is none for, by these limits."""

    exact: bool
    floats: bool
    blocks: bool
    limits: Limits

    def by_bytes(self, type: Type) -> bool:
        """Whether rows of `type` are; those that cannot be made again here are not."""
        return self.floats if is_float(type) else self.blocks and has_good_kernel(type)


class Sums(NamedTuple):
    """Of each row: the sums of source², ours², ours × source and (ours - source)²."""

    source: Numbers
    ours: Numbers
    product: Numbers
    error: Numbers


class JudgedRows(NamedTuple):
    """Rows from `first` on: their sums; `expected`, the error² of the source's rows converted here, directly; which
    have the very bytes that the way that is asked for gives; which are wrong, and the first few in words, by number."""

    first: int
    sums: Sums
    expected: Numbers
    equal: Mask
    wrong: Mask
    problems: dict[int, str]


class Differing(NamedTuple):
    """Rows of the file that are not what is made of the source, directly or by the way that is asked for: which of them
    are the latter; those of the file, and those; as float32: source, ours, and what is made directly; and the square
    roots of their sums."""

    type: Type
    stored: Type
    way: Way
    equal: Mask
    found: Bytes
    made: Bytes
    x: Floats
    y: Floats
    m: Floats
    norms: Sums
    expected: Numbers


Verdict = tuple[Mask, Callable[[int], str]]  # which of the rows are wrong; what is wrong with one


def judge_rows(chunk: Chunk, rows: Bytes, ours: StoredTensor, rule: Rule, way: Way) -> JudgedRows:
    """Compare a chunk's rows, as the source stores them, with the same rows of `ours`, made by `way`.

    Raises WorthlessError if the source's hold NaN or infinity, InputError if ours cannot be read.
    """
    stored, type = chunk.source.type, ours.type
    found = ours.read(chunk.first, chunk.n, OURS.take(chunk.n * ours.row_bytes))
    with np.errstate(all="ignore"):  # what is not finite is looked for
        x, y = to_float32(rows, stored, X), to_float32(found, type, Y)
        sums = sums_of(x, y)
        if not np.isfinite(sums.source).all():
            check_numbers(chunk, rows)
        direct = converted(rows, stored, x, type, scratch=EXPECTED)
        equal = is_direct = equal_rows(found, direct)
        made = direct
        if way != DIRECT:
            made = way.make(rows, stored, x, type)
            equal = equal_rows(found, made)
        expected, wrong = sums.error.copy(), ~np.isfinite(sums.ours)
        problems = {int(i): NO_NUMBER for i in np.flatnonzero(wrong)[:LISTED]}
        differ = np.flatnonzero(~(equal & is_direct))
        if differ.size:
            part, m = x[differ], to_float32(direct[differ], type, M)
            expected[differ] = sums_of(part, m).error
            norms = Sums(*(np.sqrt(of_rows[differ]) for of_rows in sums))
            differing = Differing(
                type, stored, way, equal[differ], found[differ], made[differ], part, y[differ], m, norms,
                np.sqrt(expected[differ]),
            )  # fmt: skip
            is_wrong, describe = judge(differing, rule)
            wrong[differ] |= is_wrong
            problems = {int(differ[i]): describe(int(i)) for i in np.flatnonzero(is_wrong)[:LISTED]} | problems
    first = most_telling(problems)
    return JudgedRows(chunk.first, sums, expected, equal, wrong, {chunk.first + row: problems[row] for row in first})


def most_telling(problems: Mapping[int, str]) -> list[int]:
    """The rows whose problems are to be listed: the first of those that hold no numbers, then of the others."""
    return sorted(problems, key=lambda row: (problems[row] != NO_NUMBER, row))[:LISTED]


def equal_rows(found: Bytes, made: Bytes) -> Mask:
    """Which rows are the same."""
    return np.ones(len(found), np.bool_) if np.array_equal(found, made) else (found == made).all(axis=1)


def sums_of(x: Floats, y: Floats) -> Sums:
    """The sums over each row of two (n, row) float32."""
    difference = np.subtract(y, x, out=DIFFERENCE.take(x.nbytes).view(np.float32).reshape(x.shape))
    source, ours, error = map(squares, (x, y, difference))
    sums = Sums(source, ours, (source + ours - error) / 2, error)
    least, most = np.minimum(source, ours), np.maximum(source, ours)
    for row in np.flatnonzero(~((least > SMALL) & (most < LARGE) & (most < ALIKE * least))):
        a, b = x[row].astype(np.float64), y[row].astype(np.float64)
        for of_rows, sum in zip(sums, (a @ a, b @ b, a @ b, (b - a) @ (b - a)), strict=True):
            of_rows[row] = sum
    return sums


def squares(rows: Floats) -> Numbers:
    """The sum of the squares of each row, by pieces that BLAS does not cut for threads of its own."""
    n, row = rows.shape
    pieces = rows.reshape(n, -1, piece(row))
    return np.vecdot(pieces, pieces).sum(axis=1, dtype=np.float64)


@cache
def piece(row: int) -> int:
    """The length of the equal pieces of a row that are as long as may be."""
    return next(length for length in range(min(row, MAX_PIECE), 0, -1) if row % length == 0)


@cache
def usual_error(type: Type) -> float:
    """The relative RMSE of ordinary weights in `type`."""
    x = np.random.default_rng(0).standard_normal((64, 1024), np.float32)
    sums = sums_of(x, there_and_back(x, type))
    return float(np.sqrt(sums.error.sum() / sums.source.sum()))


def judge(d: Differing, rule: Rule) -> Verdict:
    """Which of the rows are wrong."""
    by_bytes = rule.by_bytes(d.type)
    if by_bytes and is_float(d.type):
        return ~d.equal, lambda i: describe_weight(d, i)
    too_far, describe = judge_errors(d, rule)
    if not by_bytes:
        return too_far, describe
    return too_far | ~d.equal, lambda i: describe(i) if too_far[i] else describe_block(d, i)


def judge_errors(d: Differing, rule: Rule) -> Verdict:
    """Which rows, or blocks of them, are farther from the source than what is made of it here, by too much.

    If they are not `exact`, what the source lost counts, too: it is what the source's type would take from ours.
    """
    limits = OF_GGML if is_float(d.type) else rule.limits
    lost: Floats | None = None
    if not rule.exact:
        y = np.nan_to_num(d.y, posinf=0.0, neginf=0.0)
        lost = there_and_back(y, d.stored) - y

    def norms(rows: Floats) -> Numbers:
        blocks = rows.reshape(len(rows), -1, d.type.block)
        return np.sqrt(np.einsum("rbi,rbi->rb", blocks, blocks))

    of_lost = None if lost is None else np.sqrt(np.einsum("ij,ij->i", lost, lost, dtype=np.float64))
    rows = Errors(d.norms.error, d.expected, d.norms.source)
    wrong_rows = rows.too_large(d, limits.row, d.norms.ours, of_lost)
    if is_float(d.type):
        return wrong_rows, lambda i: rows.describe(d, i)
    blocks = Errors(norms(d.y - d.x), norms(d.m - d.x), norms(d.x))
    wrong_blocks = blocks.too_large(d, limits.block, norms(d.y), None if lost is None else norms(lost))
    wrong_blocks &= ~(blocks.found <= limits.alone * blocks.source)

    def describe(i: int) -> str:
        if wrong_rows[i]:
            return rows.describe(d, i)
        block = int(np.argmax(wrong_blocks[i]))
        return blocks.describe(d, (i, block), f" in {block_text(d, block)}")

    return wrong_rows | wrong_blocks.any(axis=1), describe


class Errors(NamedTuple):
    """Of rows, or of blocks: the norms of ours - source, of the expected - source, and of the source."""

    found: Numbers
    expected: Numbers
    source: Numbers

    def too_large(self, d: Differing, limit: float, ours: Numbers, lost: Numbers | None) -> Mask:
        """Which are; `ours` and `lost` are the norms of the file's weights, and of what the source's type takes."""
        usual, expected = usual_error(d.type) * self.source, np.nan_to_num(self.expected, posinf=0.0)
        bound = limit * expected + SLACK * usual
        if lost is not None:
            bound = limit * np.hypot(np.maximum(expected, usual), np.maximum(lost, usual_error(d.stored) * ours))
        return ~(self.found <= bound)

    def describe(self, d: Differing, i: int | tuple[int, int], where: str = "") -> str:
        """One that is too large."""
        found, expected = (relative(norms[i] ** 2, self.source[i] ** 2) for norms in (self.found, self.expected))
        verb = "rounding" if is_float(d.type) else "quantizing"
        itself = "" if is_float(d.stored) else f" (and the source is {d.stored.name} itself)"
        return f"has a relative RMSE of {found:.3g}{where}, {verb} it to {d.type.name} gives {expected:.3g}{itself}"


def relative(error: Numbers | float, of: Numbers | float) -> Numbers:
    """√(error² / of²), both given squared: 0 if there is no error, infinite if there is nothing to relate it to."""
    error, of = np.asarray(error, np.float64), np.asarray(of, np.float64)
    with np.errstate(all="ignore"):
        found = np.where(error == 0, 0.0, np.sqrt(error / of))
    return np.nan_to_num(found, nan=np.inf, posinf=np.inf)


def describe_block(d: Differing, i: int) -> str:
    """A row that is near the source, but is not what our kernels make of it."""
    differ = d.found[i] != d.made[i]
    block = int(np.argmax(differ)) // d.type.block_bytes
    made = f"what our kernels make of the source{d.way.text}"
    return f"is not {made}: {block_text(d, block)} is the first that differs"


def block_text(d: Differing, block: int) -> str:
    """Where a block lies in its row."""
    return f"block {block} (columns {block * d.type.block} to {(block + 1) * d.type.block - 1})"


def describe_weight(d: Differing, i: int) -> str:
    """A row of floats that are not the source's, rounded."""
    nbytes = d.type.block_bytes
    differ = (d.found[i] != d.made[i]).reshape(-1, nbytes).any(axis=1)
    first = int(np.argmax(differ))
    expected = to_float32(d.made[i : i + 1], d.type)[0, first]
    return (
        f"has {int(differ.sum())} of {differ.size} weights that are not the source's in {d.type.name}{d.way.text}: "
        f"that of column {first} is {d.y[i, first]}, and should be {expected}"
    )
