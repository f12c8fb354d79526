"""Second moments of the inputs of a step's matrices, Σ x xᵀ / count, in float64 sums of float32 products.

A file for each step is written as soon as all clips are behind it, so that the sums of one step are in memory.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mimo_convert.disk import free_bytes, sha256_of
from mimo_convert.formats.calibration import CALIBRATION
from mimo_convert.formats.hessians import MOST_INPUTS, SecondMoment, file_of, origin_of, packed_bytes, write_layer
from mimo_convert.numbers_text import size
from quantize.errors import InputError
from quantize.kernels import Floats
from runtime_check.pytorch.weights import Weights

from .collect import Recorder
from .per_clip.sums import AllSums
from .structure import Input

BLOCK = 512  # rows of a triangle that are summed at once
STRIP = 8  # rows of a block that are added to float64 sums at once: their conversion takes little memory
POSITIONS = 1024  # whose products are in float32, before they are added to the sums

Names = Callable[[str], tuple[str, ...]]  # of a checkpoint's matrix in GGUF files, separate and fused


class InputSums:
    """Σ x xᵀ of one input of `n` columns: blocks of rows of its lower triangle, in float64."""

    def __init__(self, n: int) -> None:
        begins = range(0, n, BLOCK)
        shapes = [(min(BLOCK, n - begin), min(begin + BLOCK, n)) for begin in begins]
        self.blocks = [torch.zeros(shape, dtype=torch.float64) for shape in shapes]
        self.n, self.positions = n, 0
        self.waiting: list[Tensor] = []

    def add(self, x: Tensor) -> None:
        """Add positions, (positions, n) float32."""
        self.waiting.append(x)
        self.positions += len(x)
        if sum(map(len, self.waiting)) >= POSITIONS:
            self._sum()

    def _sum(self) -> None:
        waiting, self.waiting = self.waiting, []
        for x in _chunks(waiting):
            for block in self.blocks:
                end = block.shape[1]
                product = x[:, end - len(block) : end].T @ x[:, :end]
                for sums, part in zip(block.split(STRIP), product.split(STRIP), strict=True):
                    sums += part

    def packed(self) -> Iterator[Floats]:
        """The lower triangle of the mean, row by row, n (n + 1) / 2 float32 in pieces; the sums are given up for it."""
        if self.waiting:
            self._sum()
        while self.blocks:
            block = self.blocks.pop(0)
            block /= self.positions
            means = block.float().numpy()
            yield np.concatenate([row[:i] for i, row in enumerate(means, block.shape[1] - len(block) + 1)])


def _chunks(waiting: list[Tensor]) -> Iterator[Tensor]:
    """The positions that wait, POSITIONS at a time, and the rest; `waiting` is given up for them."""
    while waiting:
        some, n = list[Tensor](), 0
        while waiting and n < POSITIONS:
            taken = waiting[0][: POSITIONS - n]
            waiting[0] = waiting[0][len(taken) :]
            some.append(taken)
            n += len(taken)
            if not len(waiting[0]):
                del waiting[0]
        yield some[0] if len(some) == 1 else torch.cat(some)


class Sample:
    """At most MOST_INPUTS of all positions, each as likely as the others; the same ones for the same `seed`."""

    def __init__(self, n: int, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.ranks, self.rows = np.empty(0), np.empty((0, n), np.float32)

    def add(self, x: Tensor) -> None:
        """Consider positions, (positions, n) float32."""
        ranks = np.concatenate([self.ranks, self.random.random(len(x))])
        kept = np.argsort(ranks, kind="stable")[:MOST_INPUTS]
        self.ranks, self.rows = ranks[kept], np.concatenate([self.rows, x.numpy()])[kept]


class StepMoments:
    """The second moments of one step, and samples of its inputs."""

    def __init__(self, inputs: Sequence[Input], seed: int) -> None:
        self.inputs = {one.matrices[0]: one for one in inputs}
        self.sums = {name: InputSums(one.columns) for name, one in self.inputs.items()}
        self.samples = {name: Sample(one.columns, seed) for name, one in self.inputs.items()}

    def add(self, name: str, x: Tensor) -> None:
        """Add an input of a calibration clip, (…, columns), of a matrix; of those that share it the first counts."""
        if name in self.sums:
            self.sums[name].add(x.reshape(-1, x.shape[-1]))

    def sample(self, name: str, x: Tensor) -> None:
        """Sample an input of a selection clip, likewise."""
        if name in self.samples:
            self.samples[name].add(x.reshape(-1, x.shape[-1]))

    def taken(self, names: Names) -> Iterator[SecondMoment]:
        """The results, one after the other; the sums are given up for them."""
        for name, one in self.inputs.items():
            sums = self.sums.pop(name)
            if sums.positions:
                tensors = tuple(dict.fromkeys(tensor for matrix in one.matrices for tensor in names(matrix)))
                yield SecondMoment(tensors, sums.packed(), self.samples.pop(name).rows, sums.positions)


class HessianFolder:
    """The files of a model's second moments in `folder`, of which those that have the same `origin`, a hash, are
    complete."""

    def __init__(self, folder: Path, steps: Sequence[Sequence[Input]], names: Names, origin: str) -> None:
        self.folder, self.steps, self.names, self.origin = folder, steps, names, origin
        self._hashes: dict[str, str] = {}

    @property
    def hashes(self) -> dict[str, str]:
        """The sha256 of every file, by its name."""
        paths = [file_of(self.folder, i) for i, inputs in enumerate(self.steps) if inputs]
        return {path.name: self._hashes.get(path.name) or sha256_of(path) for path in paths}

    @property
    def missing(self) -> list[int]:
        """The steps whose file is not complete."""
        return [i for i, inputs in enumerate(self.steps) if inputs and not self._is_complete(i)]

    def check_room(self) -> int:
        """The bytes that are still to be written. Raises InputError if the disk has not the room."""
        needed = sum(packed_bytes([one.columns for one in self.steps[i]]) for i in self.missing)
        free = free_bytes(self.folder)
        if needed > free:
            what = f"{size(needed)} of second moments do not fit on the disk, of which {size(free)} are free"
            raise InputError(self.folder, what, todo="make room, or calibrate without --hessian")
        return needed

    def begin(self, step: int) -> StepMoments | None:
        """What is to be summed at a step; None if its file is complete, or it multiplies nothing."""
        if not self.steps[step] or self._is_complete(step):
            return None
        return StepMoments(self.steps[step], int(self.origin[:16], 16))

    def finish(self, step: int, moments: StepMoments) -> None:
        """Write the file of a step. Raises InputError if it cannot be written."""
        self.folder.mkdir(exist_ok=True)
        path = file_of(self.folder, step)
        self._hashes[path.name] = write_layer(path, moments.taken(self.names), self.origin)

    def _is_complete(self, step: int) -> bool:
        path = file_of(self.folder, step)
        try:
            return path.exists() and origin_of(path) == self.origin
        except InputError:
            return False


class MomentRecorder(Recorder):
    """A recorder that also sums up second moments, and samples the clips for selection."""

    def __init__(self, weights: Weights, sums: AllSums, folder: HessianFolder) -> None:
        super().__init__(weights, sums)
        self.folder = folder
        self.moments: StepMoments | None = None

    def begin(self, step: int, *, is_last: bool) -> None:
        """All clips go through a step now."""
        super().begin(step, is_last=is_last)
        self.moments = self.folder.begin(step)

    def end(self, step: int) -> None:
        """All clips are behind a step, whose file is written."""
        super().end(step)
        if self.moments:
            self.folder.finish(step, self.moments)
        self.moments = None

    def record(self, name: str, x: Tensor) -> None:
        """Record an input, (…, columns), of a matrix."""
        if self.moments and self.part == CALIBRATION:
            self.moments.add(name, x)
        elif self.moments:
            self.moments.sample(name, x)
