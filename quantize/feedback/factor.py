"""Factor shrunk second moments, H = A · D · Aᵀ, in the order in which columns are rounded."""

import ctypes
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import numpy.typing as npt

from quantize.errors import InputError
from quantize.kernels import Floats

from .library import BLOCK, CFactor, library, variants

LAMBDA = 0.01  # of the mean of the diagonal, which is added to it
STRIPS = 768  # columns that a thread takes at a time: a multiple of every strip
PADDING = 16  # floats between rows, so that columns do not fall into the same cache lines

Ints = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Factor:
    """A factor of (n, n) second moments, in the order of `order`, which has the column of each place; `places` has the
    place of each column.

    `a` is A transposed, (n, n + PADDING) float32, whose lower triangle is unit triangular; what is above it means
    nothing. `d` is the diagonal D, (n,), and `moments`, (n, BLOCK), are the blocks on the diagonal of what was
    factored. `variant` is the instruction set that rows are rounded with.
    """

    a: Floats
    d: Floats
    moments: Floats
    order: Ints
    places: Ints
    variant: int

    def in_c(self, raw: int = 0) -> CFactor:
        """The factor as the kernels take it."""
        return CFactor(self.a.ctypes.data, self.d.ctypes.data, raw, len(self.a), self.a.shape[1])


def factor(moments: Floats, alpha: float, lam: float = LAMBDA, *, threads: int = 1, variant: str = "") -> Factor:
    """Factor (1 - α) · H + α · diag(H) + λ · mean(diag(H)) · I, its columns in descending order of diag(H), ties by
    index. `moments` is H, (n, n) float32, symmetric, n a multiple of 256.

    α takes from correlations that few positions make up; λ bounds what columns that were hardly used may move (as in
    GPTQ, arXiv 2210.17323). The result does not depend on `threads` nor on the variant. Takes 4 n² bytes.

    Raises InputError if the moments are not those of anything: not finite, or not positive definite.
    """
    n = len(moments)
    assert moments.shape == (n, n), f"second moments of shape {moments.shape}"
    assert n % BLOCK == 0, f"{n} columns are no multiple of {BLOCK}"
    diag = moments.diagonal()
    mean = math.fsum(diag.tolist()) / n
    if not (mean > 0 and np.isfinite(mean)):
        raise InputError("second moments", f"their mean is {mean:g}", expected="a number above 0")
    order = np.argsort(-diag, kind="stable").astype(np.int32)
    places = np.empty(n, np.int32)
    places[order] = np.arange(n, dtype=np.int32)
    number = variants().index(variant) if variant else 0
    made = Factor(
        np.empty((n, n + PADDING), np.float32), np.empty(n, np.float32), np.empty((n, BLOCK), np.float32),
        order, places, number,
    )  # fmt: skip
    raw = np.empty(BLOCK * (n + 4 * PADDING), np.float32)
    moments = np.ascontiguousarray(moments, np.float32)
    kernels, in_c = library(), made.in_c(raw.ctypes.data)
    firsts = range(0, n, BLOCK)

    pointer = ctypes.byref(in_c)

    def shrink(first: int) -> None:
        kernels.feedback_shrink_rows(
            number, moments.ctypes.data, order.ctypes.data, 1 - alpha, lam * mean, first, pointer
        )
        made.moments[first : first + BLOCK] = made.a[first : first + BLOCK, first : first + BLOCK]

    def strips(first: int, begin: int) -> None:
        kernels.feedback_factor_strips(number, first, begin, min(begin + STRIPS, first), pointer)

    def subtract(first: int, above: int) -> None:
        kernels.feedback_subtract_block(number, first, above, pointer)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(shrink, reversed(firsts)))
        for first in reversed(firsts):
            if not kernels.feedback_factor_block(number, first, pointer):
                what = "they are not positive definite: no moments of anything"
                raise InputError("second moments", what, todo="collect them again")
            list(pool.map(strips, repeat(first), range(0, first, STRIPS)))
            list(pool.map(subtract, repeat(first), reversed(range(0, first, BLOCK))))
    return made
