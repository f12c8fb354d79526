"""What matrices are multiplied with, seen by numpy itself: matrices that add up the squares of whatever stands to the
left of their transpose, in float64."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


class Seen(NamedTuple):
    """Positions, Σ x² and Σ x of a matrix."""

    count: int
    squares: Array
    sums: Array


class Watched(dict[str, Any]):
    """Weights by name, whose matrices tell `seen`, by name."""

    def __init__(self, weights: Mapping[str, Array]) -> None:
        super().__init__(weights)
        self.seen: dict[str, Seen] = {}

    def __getitem__(self, name: str) -> Any:
        array = super().__getitem__(name)
        if array.ndim != 2:
            return array
        matrix = array.view(Matrix)
        matrix.name, matrix.seen = name, self.seen
        return matrix


class Matrix(np.ndarray[Any, Any]):
    name: str
    seen: dict[str, Seen]

    def __getitem__(self, i: Any) -> Any:
        return np.asarray(self)[i]

    @property
    def T(self) -> Any:  # noqa: N802
        turned = np.asarray(self).T.view(Transposed)
        turned.name, turned.seen = self.name, self.seen
        return turned


class Transposed(np.ndarray[Any, Any]):
    name: str
    seen: dict[str, Seen]

    def __rmatmul__(self, x: Any) -> Any:
        rows = np.asarray(x).reshape(-1, len(self))
        before = self.seen.get(self.name, Seen(0, np.zeros(len(self)), np.zeros(len(self))))
        self.seen[self.name] = Seen(
            before.count + len(rows), before.squares + (rows**2).sum(0), before.sums + rows.sum(0)
        )
        return np.asarray(x) @ np.asarray(self)
