"""Every weight of a file looked at once: what is no number, tensors that say nothing, blocks with absurd scales."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from math import isfinite, prod
from typing import NamedTuple

import numpy as np

from mimo_convert.convert import advance, progress_bar
from mimo_convert.gguf_file import GGUFFile
from mimo_convert.one_pass import one_pass
from mimo_convert.request import Chunk
from mimo_convert.shards import LocalShards
from mimo_convert.stored import StoredTensor
from quantize.kernels import Bytes, Floats, is_float, peak, to_float32
from quantize.types import Type

CHUNK_BYTES = 1 << 21
ABSURD = 1000  # times the median: no block of a trained model comes near
FEW = 64  # weights or blocks, of which hardly ever all are equal


class Scales(NamedTuple):
    """Where a block has its F16 scale, and its minimum if it has one, in halves; a weight is at most
    `scale × by + minimum × minimum_by`."""

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


class Look(NamedTuple):
    """What is in a chunk. `wrong` counts weights that are NaN or infinite, `first_wrong` is the first's place in the
    tensor, and what it is; `constant` the value of all of them, if it is one.

    Of floats `peak` is the greatest magnitude. Of blocks, `typical` is the median of what their scales reach, and
    `largest` the most, which block number `where` does.
    """

    wrong: int = 0
    first_wrong: tuple[int, str] = (0, "")
    constant: float | None = None
    peak: float = 0.0
    typical: float = 0.0
    largest: float = 0.0
    where: int = 0


@dataclass
class Looks:
    """What is in a tensor: in each of its chunks, in any order."""

    tensor: StoredTensor
    chunks: list[Look] = field(default_factory=list)

    @property
    def peak(self) -> float:
        """The greatest magnitude, if it is one of floats; infinity if something in it is no number."""
        return max((look.peak if isfinite(look.peak) else np.inf for look in self.chunks), default=0.0)

    @property
    def n_weights(self) -> int:
        return prod(self.tensor.shape)

    @property
    def n_blocks(self) -> int:
        """Blocks with scales: none of plain floats."""
        return 0 if is_float(self.tensor.type) else self.n_weights // self.tensor.type.block


def look_at_weights(file: GGUFFile, threads: int) -> dict[str, Looks]:
    """Reads every tensor once. Raises InputError where the disk refuses."""
    tensors = list(file.tensors.values())
    looks = [Looks(tensor) for tensor in tensors]
    with (
        progress_bar(sum(tensor.nbytes for tensor in tensors)) as progress,
        closing(one_pass(look_at, list(_chunks(tensors)), LocalShards(), threads)) as done,
    ):
        for chunk, look in done:
            looks[chunk.tensor].chunks.append(look)
            advance(progress, chunk.source.name, chunk.n * chunk.source.row_bytes)
    return {look.tensor.name: look for look in looks}


def _chunks(tensors: list[StoredTensor]) -> Iterator[Chunk]:
    """Each tensor as one run of blocks, cut without regard to its shape, which may be any in a damaged file."""
    for i, tensor in enumerate(tensors):
        type = tensor.type
        blocks = replace(tensor, shape=(prod(tensor.shape) // type.block, type.block))
        step = CHUNK_BYTES // type.block_bytes
        for first in range(0, blocks.n_rows, step):
            yield Chunk(0, i, blocks, first, min(step, blocks.n_rows - first), first * type.block)


def look_at(chunk: Chunk, rows: Bytes) -> Look:
    """What is in blocks as stored: (n, bytes of a block) uint8."""
    type = chunk.source.type
    if is_float(type):
        top = peak(rows, type)
        look, sound = Look(peak=top), isfinite(top)
    else:
        with np.errstate(invalid="ignore"):  # NaN is what is looked for
            reached = reach(rows, type)
        finite = np.isfinite(reached)
        sound = bool(finite.all())
        reached = reached if sound else np.where(finite, reached, np.float32(0))
        largest = int(reached.argmax())
        look = Look(typical=_typical(reached), largest=float(reached[largest]), where=chunk.first + largest)
    if sound:
        return look._replace(constant=_constant(rows, type))
    wrong, first_wrong = _wrong(chunk, rows)
    return look._replace(wrong=wrong, first_wrong=first_wrong)


def reach(rows: Bytes, type: Type) -> Floats:
    """(n, bytes of a block) uint8 → (n,) float32: what no weight of the block exceeds."""
    halves = rows.view(np.float16)
    scales = SCALES[type.name]
    reached = np.abs(halves[:, scales.scale].astype(np.float32)) * np.float32(scales.by)
    if scales.minimum is not None:
        reached += np.abs(halves[:, scales.minimum].astype(np.float32)) * np.float32(scales.minimum_by)
    return reached


def _typical(reached: Floats) -> float:
    """The median of those that reach anything; a vocabulary's unused rows may be zero."""
    some = reached[reached > 0]
    return float(np.partition(some, len(some) // 2)[len(some) // 2]) if len(some) else 0.0


def _wrong(chunk: Chunk, rows: Bytes) -> tuple[int, tuple[int, str]]:
    numbers = to_float32(rows, chunk.source.type).reshape(-1)
    wrong = np.flatnonzero(~np.isfinite(numbers))
    what = "NaN" if np.isnan(numbers[wrong[0]]) else "infinity"
    return len(wrong), (chunk.n_before + int(wrong[0]), what)


def _constant(rows: Bytes, type: Type) -> float | None:
    for some in (rows[:FEW], rows):
        numbers = to_float32(some, type)
        if numbers.min() != numbers.max():
            return None
    return float(numbers[0, 0])


def numbers(looks: Looks) -> Iterator[str]:
    """What is wrong with a tensor that holds NaN or infinity."""
    wrong = [look for look in looks.chunks if look.wrong]
    if wrong:
        place, what = min(look.first_wrong for look in wrong)
        n = sum(look.wrong for look in wrong)
        more = f", and {n - 1:,} more that are no numbers" if n > 1 else ""
        yield f"tensor {looks.tensor.name} holds {what} in row {place // looks.tensor.row}{more}; expected numbers"


def constant(looks: Looks) -> Iterator[str]:
    """What is wrong with a tensor whose weights are all the same; norms are of ones before they are trained."""
    values = {look.constant for look in looks.chunks}
    untrained = values == {1.0} and len(looks.tensor.shape) == 1
    if looks.n_weights > 1 and len(values) == 1 and None not in values and not untrained:
        n, value = f"{looks.n_weights:,}", values.pop()
        yield f"tensor {looks.tensor.name}: each of its {n} weights is {value:g}; expected different ones"


def scales(looks: Looks) -> Iterator[str]:
    """What is wrong with the blocks of a tensor, of each chunk the worst: absurd is what no other comes near."""
    typical = [look.typical for look in looks.chunks if look.typical]
    median = float(np.median(typical)) if typical else 0.0
    blocks_a_row = looks.tensor.row // looks.tensor.type.block
    for look in sorted(looks.chunks, key=lambda look: look.where):
        if look.largest > ABSURD * median:
            row, block = divmod(look.where, blocks_a_row)
            yield (
                f"tensor {looks.tensor.name}, row {row}, block {block}: its scales reach {look.largest:.4g}; expected "
                f"less than {ABSURD} times the median block's {median:.4g}"
            )
