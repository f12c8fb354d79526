"""Choose how the rows of a matrix are rounded: plain, by an importance matrix, or with error feedback."""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

from quantize.backends import IMATRIX
from quantize.errors import InputError
from quantize.kernels import Bytes, Floats, to_float32
from quantize.rows import convert
from quantize.types import F32, Type

from .factor import factor
from .library import BLOCK, takes
from .rounding import with_feedback

PLAIN, PREFIX = "plain", "feedback-"
ALPHAS = (0.1, 0.3, 0.6)  # what correlations may be shrunk by
METHODS = (PLAIN, IMATRIX, *(f"{PREFIX}{alpha}" for alpha in ALPHAS))
MOST_ROWS = 256  # of a matrix by which it is judged
LEAST_INPUTS = 16  # fewer decide nothing
EQUAL = "equal"  # no method: by importance of which all is equal, whose search is finer than the plain one
LEAST_GAIN = 0.05  # of the error without a calibration, below which it taught nothing

Key = TypeVar("Key", bound=Hashable)


class Sampled(NamedTuple):
    """Rows of a matrix, (≤ MOST_ROWS, n) float32, and what they are quantized to."""

    rows: Floats
    ggml_type: Type
    backend: str


@dataclass(frozen=True)
class Choice:
    """The method of a matrix, one of METHODS, and the errors of all that were tried, and of EQUAL, relative to that of
    PLAIN."""

    method: str
    errors: Mapping[str, float]


def alpha_of(method: str) -> float | None:
    """The α of a method with error feedback; None of another."""
    return float(method.removeprefix(PREFIX)) if method.startswith(PREFIX) else None


def spread(n_rows: int) -> list[int]:
    """The rows of a matrix that it is judged by, evenly spread, ascending."""
    count = min(n_rows, MOST_ROWS)
    return [i * n_rows // count for i in range(count)]


def choose(
    matrices: Mapping[Key, Sampled], moments: Floats, inputs: Floats, importance: Floats, threads: int = 1
) -> dict[Key, Choice]:
    """Choose the method of matrices that are multiplied with the same x, (n,): the one whose error (W - Ŵ) · x has the
    least square over `inputs`, (k, n), which are not in `moments`, (n, n). `importance` is that of columns, (n,).

    PLAIN stays where no other method takes LEAST_GAIN of what both it and the search by EQUAL importance leave: where
    the calibration taught nothing. It also stays where there are fewer than LEAST_INPUTS inputs.
    Errors are compared by six decimals of their ratio, so that the order of a sum decides nothing.
    """
    if len(inputs) < LEAST_INPUTS:
        return {key: Choice(PLAIN, {}) for key in matrices}
    errors: dict[Key, dict[str, float]] = {key: {} for key in matrices}
    searched: dict[Key, Bytes] = {}
    for key, (rows, ggml_type, backend) in matrices.items():
        for name, weights in ((PLAIN, None), (EQUAL, np.ones_like(importance)), (IMATRIX, importance)):
            searched[key] = convert(rows.view(np.uint8), F32, ggml_type, backend, floats=rows, imatrix=weights)
            errors[key][name] = error(rows, searched[key], ggml_type, inputs)
    with_it = {key: one for key, one in matrices.items() if takes(one.ggml_type) and one.rows.shape[1] % BLOCK == 0}
    for alpha in ALPHAS if with_it else ():
        try:
            factored = factor(moments, alpha, threads=threads)
        except InputError:  # no method of matrices that nothing can be learnt of
            continue
        for key, (rows, ggml_type, _) in with_it.items():
            made = with_feedback(rows, searched[key], ggml_type, factored, sweeps=0)  # refinement changes little
            errors[key][f"{PREFIX}{alpha}"] = error(rows, made, ggml_type, inputs)
        del factored  # before the next one is made: the larger ones are 0.5 GB
    return dict(_best(errors))


def _best(errors: Mapping[Key, Mapping[str, float]]) -> Iterator[tuple[Key, Choice]]:
    for key, found in errors.items():
        relative = {method: round(one / found[PLAIN], 6) if found[PLAIN] else 1.0 for method, one in found.items()}
        best = min(relative.keys() - {EQUAL}, key=lambda method: (relative[method], METHODS.index(method)))
        is_gain = relative[best] <= (1 - LEAST_GAIN) * min(relative[PLAIN], relative[EQUAL])
        yield key, Choice(best if is_gain else PLAIN, relative)


def error(rows: Floats, blocks: Bytes, ggml_type: Type, inputs: Floats) -> float:
    """Σ ((W - Ŵ) · x)² over rows and inputs."""
    difference = (rows.astype(np.float64) - to_float32(blocks, ggml_type)) @ inputs.T.astype(np.float64)
    return float(np.square(difference).sum())
