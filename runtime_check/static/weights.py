"""Lint rules of weights: NaN and infinity, constant tensors, implausible block scales. The file is read once."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from math import isfinite, prod
from typing import NamedTuple

import numpy as np

from mimo_convert.formats.gguf import GGUFFile
from mimo_convert.formats.tensor import TensorSlice
from mimo_convert.listener import phase
from mimo_convert.model.model_file import OpenFiles
from mimo_convert.write.chunks import Chunk, by_place
from mimo_convert.write.one_pass import one_pass
from mimo_convert.write.shard_hashes import ShardHashes
from quantize.kernels import Bytes, Floats, absmax_of, is_float, to_float32
from quantize.types import Type

CHUNK_BYTES = 1 << 21
ABSURD = 1000  # times the median: no block of a trained model comes near
FEW = 64  # weights or blocks, of which hardly ever all are equal


class Scales(NamedTuple):
    """Where a block stores its F16 scale and minimum, in halves; |weight| ≤ scale × `by` + minimum × `minimum_by`."""

    scale: int
    by: float
    minimum: int | None = None
    minimum_by: float = 0.0


# The blocks of ggml-common.h: the largest quant, times the largest scale of a sub-block where there are such.
SCALES = {
    "q4_0": Scales(0, 8), "q4_1": Scales(0, 15, 1, 1), "q5_0": Scales(0, 16), "q5_1": Scales(0, 31, 1, 1),
    "q8_0": Scales(0, 128), "iq4_nl": Scales(0, 127), "iq4_xs": Scales(0, 32 * 127),
    "q2_k": Scales(40, 15 * 3, 41, 15), "q3_k": Scales(54, 32 * 4), "q4_k": Scales(0, 63 * 15, 1, 63),
    "q5_k": Scales(0, 63 * 31, 1, 63), "q6_k": Scales(104, 128 * 32),
}  # fmt: skip


class ChunkStats(NamedTuple):
    """Statistics of a chunk: `wrong` counts NaN and infinite weights, `first_wrong` is the first one's index in the
    tensor and its kind; `constant` is the value of all weights, if they are equal.

    For floats, `absmax`. For blocks, `typical` is the median and `largest` the maximum of the bound that their scales
    set on weights; `where` is the block of the maximum.
    """

    wrong: int = 0
    first_wrong: tuple[int, str] = (0, "")
    constant: float | None = None
    absmax: float = 0.0
    typical: float = 0.0
    largest: float = 0.0
    where: int = 0


@dataclass
class TensorStats:
    """Statistics of a tensor, chunk by chunk, in any order."""

    tensor: TensorSlice
    chunks: list[ChunkStats] = field(default_factory=list)

    @property
    def absmax(self) -> float:
        """The absmax of a float tensor; infinity if it holds NaN or infinity."""
        return max((chunk.absmax if isfinite(chunk.absmax) else np.inf for chunk in self.chunks), default=0.0)

    @property
    def n_weights(self) -> int:
        """Number of weights."""
        return prod(self.tensor.shape)

    @property
    def n_blocks(self) -> int:
        """Blocks with scales; 0 for floats."""
        return 0 if is_float(self.tensor.ggml_type) else self.n_weights // self.tensor.ggml_type.block


def scan_weights(file: GGUFFile, files: OpenFiles, threads: int, hashed: bool) -> dict[str, TensorStats]:
    """Compute statistics of every tensor, and if it is to be `hashed` the file's sha256, in one read. Raises InputError
    if the disk fails."""
    tensors = list(file.tensors.values())
    stats = [TensorStats(tensor) for tensor in tensors]
    with (
        phase(f"examining {file.path.name}", sum(tensor.nbytes for tensor in tensors)) as progress,
        ShardHashes(files.shards) as hashes,
        closing(one_pass(scan, by_place(_chunks(tensors)), files.shards, threads, hashes if hashed else None)) as done,
    ):
        for chunk, found in done:
            stats[chunk.tensor].chunks.append(found)
            progress.advance(chunk.n * chunk.source.row_bytes, chunk.source.name)
        if hashed:
            files.set_sha256(file.path, hashes.sha256(file.path))
    return {one.tensor.name: one for one in stats}


def _chunks(tensors: list[TensorSlice]) -> Iterator[Chunk]:
    """Cut tensors into runs of blocks, whatever their shape, which may be damaged."""
    for i, tensor in enumerate(tensors):
        ggml_type = tensor.ggml_type
        blocks = replace(tensor, shape=(prod(tensor.shape) // ggml_type.block, ggml_type.block))
        step = CHUNK_BYTES // ggml_type.block_bytes
        for first in range(0, blocks.n_rows, step):
            yield Chunk(0, i, blocks, first, min(step, blocks.n_rows - first), first * ggml_type.block)


def scan(chunk: Chunk, rows: Bytes) -> ChunkStats:
    """Statistics of (n, bytes of a block) uint8."""
    ggml_type = chunk.source.ggml_type
    if is_float(ggml_type):
        top = absmax_of(rows, ggml_type)
        stats, finite = ChunkStats(absmax=top), isfinite(top)
    else:
        with np.errstate(invalid="ignore"):  # NaN is what is looked for
            reached = bounds_of_blocks(rows, ggml_type)
        mask = np.isfinite(reached)
        finite = bool(mask.all())
        reached = reached if finite else np.where(mask, reached, np.float32(0))
        largest = int(reached.argmax())
        stats = ChunkStats(typical=_median_bound(reached), largest=float(reached[largest]), where=chunk.first + largest)
    if finite:
        return stats._replace(constant=_constant(rows, ggml_type))
    wrong, first_wrong = _nonfinite_weights(chunk, rows)
    return stats._replace(wrong=wrong, first_wrong=first_wrong)


def bounds_of_blocks(rows: Bytes, ggml_type: Type) -> Floats:
    """The bound that a block's scales set on its weights: (n, bytes of a block) uint8 → (n,) float32."""
    halves = rows.view(np.float16)
    scales = SCALES[ggml_type.name]
    reached = np.abs(halves[:, scales.scale].astype(np.float32)) * np.float32(scales.by)
    if scales.minimum is not None:
        reached += np.abs(halves[:, scales.minimum].astype(np.float32)) * np.float32(scales.minimum_by)
    return reached


def _median_bound(reached: Floats) -> float:
    """The median of the positive bounds: unused rows of an embedding may be zero."""
    some = reached[reached > 0]
    return float(np.partition(some, len(some) // 2)[len(some) // 2]) if len(some) else 0.0


def _nonfinite_weights(chunk: Chunk, rows: Bytes) -> tuple[int, tuple[int, str]]:
    numbers = to_float32(rows, chunk.source.ggml_type).reshape(-1)
    wrong = np.flatnonzero(~np.isfinite(numbers))
    what = "NaN" if np.isnan(numbers[wrong[0]]) else "infinity"
    return len(wrong), (chunk.n_before + int(wrong[0]), what)


def _constant(rows: Bytes, ggml_type: Type) -> float | None:
    for some in (rows[:FEW], rows):
        numbers = to_float32(some, ggml_type)
        if numbers.min() != numbers.max():
            return None
    return float(numbers[0, 0])


def nonfinite_findings(stats: TensorStats) -> Iterator[str]:
    """Findings about NaN and infinity in a tensor."""
    wrong = [chunk for chunk in stats.chunks if chunk.wrong]
    if wrong:
        place, what = min(chunk.first_wrong for chunk in wrong)
        n = sum(chunk.wrong for chunk in wrong)
        more = f", and {n - 1:,} more that are not finite" if n > 1 else ""
        yield f"tensor {stats.tensor.name} holds {what} in row {place // stats.tensor.row}{more}; expected numbers"


def constant_findings(stats: TensorStats) -> Iterator[str]:
    """Findings about a tensor whose weights are all equal, except untrained norms, which are ones."""
    values = {chunk.constant for chunk in stats.chunks}
    untrained = values == {1.0} and len(stats.tensor.shape) == 1
    if stats.n_weights > 1 and len(values) == 1 and None not in values and not untrained:
        n, value = f"{stats.n_weights:,}", values.pop()
        yield f"tensor {stats.tensor.name}: each of its {n} weights is {value:g}; expected different ones"


def scale_findings(stats: TensorStats) -> Iterator[str]:
    """Findings about blocks whose scales exceed ABSURD × the median; the worst block of each chunk."""
    typical = [chunk.typical for chunk in stats.chunks if chunk.typical]
    median = float(np.median(typical)) if typical else 0.0
    blocks_a_row = stats.tensor.row // stats.tensor.ggml_type.block
    for chunk in sorted(stats.chunks, key=lambda chunk: chunk.where):
        if chunk.largest > ABSURD * median:
            row, block = divmod(chunk.where, blocks_a_row)
            yield (
                f"tensor {stats.tensor.name}, row {row}, block {block}: its scales reach {chunk.largest:.4g}; expected "
                f"less than {ABSURD} times the median block's {median:.4g}"
            )
