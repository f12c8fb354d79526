"""Measure what types do to the output: one pass over the weights, which are quantized to each of them and compared."""

import hashlib
import math
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from mimo_convert.formats.gguf import is_array
from mimo_convert.listener import phase
from mimo_convert.model.source_model import SourceModel
from mimo_convert.plan.plan import PlannedTensor
from mimo_convert.write.chunks import Chunk, by_place, chunks
from mimo_convert.write.one_pass import one_pass
from mimo_convert.write.origin import WRITER
from mimo_convert.write.rows import absmax_of_floats_if_finite, as_floats
from quantize.backend_choice import choose_backend
from quantize.backends import GGML, SIMD
from quantize.kernels import Bytes, Floats, Scratch, is_float, to_float32
from quantize.rows import convert
from quantize.types import F16, F32, Type

from .divergence import Sensitivity
from .errors_file import Errors

SAVED_AFTER = 20  # seconds, after which what was measured is written
STORED, BLOCKS, BACK = Scratch(), Scratch(), Scratch()

Wanted = Mapping[str, Sequence[Type]]  # the types that each tensor is to be measured in, by its name; of one of which
# nothing is known there are none, and its weights are read for those beyond F16's range


def identity_of(model: SourceModel, calibration_sha256: str, quantizer: str) -> str:
    """A hash over what decides every divergence: the program, the weights and how they are adapted, the calibration,
    and what makes the blocks."""
    files = {tensor.file for tensor in model.tensors.values() if tensor.is_stored}
    found = hashlib.sha256(f"{WRITER}\n{calibration_sha256}\n{quantizer}\n".encode())
    for file in sorted(files):
        found.update(os.fsencode(f"{model.shards.identity(file)}\n"))
    for entry in model.metadata:  # an adapter is recorded there
        if not is_array(entry.value):
            found.update(f"{entry.key}={entry.value}\n".encode(errors="replace"))
    return found.hexdigest()


def lacks(wanted: Wanted, errors: Errors) -> bool:
    """Whether a tensor is yet to be read."""
    return any(is_unread(name, wanted, errors) for name in wanted)


def is_unread(name: str, wanted: Wanted, errors: Errors) -> bool:
    """Whether a tensor is yet to be measured in a type that is wanted, or read for its absmax."""
    if name not in wanted or name in errors.absmax:
        return False
    return name not in errors.by_type or any(errors.lacks(name, one.name) for one in wanted[name])


def measure(
    model: SourceModel, tensors: Sequence[PlannedTensor], wanted: Wanted, sensitivities: Mapping[str, Sensitivity],
    errors: Errors, quantizer: str, threads: int,
) -> None:  # fmt: skip
    """Measure the divergence of `tensors` in the types that are `wanted` of each, as far as `errors` lacks it, and add
    it there.

    Reads every weight of these tensors once; those of an interrupted run, or of another target, are not read again.
    Sums are exact, so that they depend neither on the number of threads nor on which chunk is done first. Raises
    InputError for a weight that is NaN or infinite.
    """
    missing = {name: [one for one in of if errors.lacks(name, one.name)] for name, of in wanted.items()}
    todo = [tensor for tensor in tensors if is_unread(tensor.name, wanted, errors)]
    every = by_place(chunks(todo))
    left = Counter(i for chunk in every for i in chunk.tensors)
    sums = {i: Sums() for i in left}
    backends = {one.name: backend_of(one, quantizer) for of in missing.values() for one in of}

    def work(chunk: Chunk, rows: Bytes) -> list[Measured]:
        of = [todo[i] for i in chunk.tensors]
        return [measured(chunk, rows, missing[one.name], backends, sensitivities.get(one.name)) for one in of]

    model.fetch_adapter()
    saved = time.monotonic()
    total = sum(chunk.n * chunk.source.row_bytes for chunk in every)
    try:
        with (
            phase("measuring types", total) as progress,
            closing(one_pass(work, every, model.shards, threads)) as done,
        ):
            for chunk, found in done:
                progress.advance(chunk.n * chunk.source.row_bytes, todo[chunk.tensor].name)
                for i, one in zip(chunk.tensors, found, strict=True):
                    sums[i].add(one)
                    left[i] -= 1
                    if not left[i]:
                        sums.pop(i).record(todo[i].name, errors)
                if time.monotonic() - saved > SAVED_AFTER:
                    errors.write()
                    saved = time.monotonic()
    finally:
        errors.write()
    model.shards.check_unchanged(sorted({tensor.file for one in todo for tensor in one.sources if tensor.is_stored}))


@dataclass
class Sums:
    """Of a tensor: the greatest absmax of its chunks, and their divergences by type."""

    absmax: float = 0.0
    divergences: dict[str, list[float]] = field(default_factory=dict)

    def add(self, one: "Measured") -> None:
        """Add a chunk, in any order."""
        self.absmax = max(self.absmax, one.absmax)
        for type_name, divergence in one.divergences.items():
            self.divergences.setdefault(type_name, []).append(divergence)

    def record(self, name: str, errors: Errors) -> None:
        """Record the whole tensor; of one with a weight beyond F16's range only that."""
        if self.absmax >= F16.overflow:
            errors.absmax[name] = self.absmax
            return
        errors.by_type.setdefault(name, {})
        for type_name, parts in self.divergences.items():
            errors.add(name, type_name, math.fsum(parts))


class Measured(NamedTuple):
    """Of a chunk: its absmax, and the divergence of each type."""

    absmax: float
    divergences: dict[str, float]


def measured(
    chunk: Chunk, rows: Bytes, types: Iterable[Type], backends: Mapping[str, str], sensitivity: Sensitivity | None
) -> Measured:
    """Quantize the rows of a chunk to each of the types, and compare, unless nothing is known of its tensor. Raises
    InputError for NaN and infinity."""
    rows, stored = chunk.source.weights(chunk.first, rows)
    floats, float_type = as_floats(rows, stored)
    absmax = absmax_of_floats_if_finite(chunk, floats, float_type)
    if absmax >= F16.overflow or not sensitivity:
        return Measured(absmax, {})
    exact = to_float32(floats, float_type, STORED)
    first = chunk.n_before // chunk.source.row
    found = {}
    for ggml_type in types:
        blocks = convert(
            rows, stored, ggml_type, backends[ggml_type.name], floats=exact,
            imatrix=sensitivity.importance, scratch=BLOCKS,
        )  # fmt: skip
        found[ggml_type.name] = sensitivity.divergence(difference(blocks, ggml_type, exact), first)
    return Measured(absmax, found)


def difference(blocks: Bytes, ggml_type: Type, exact: Floats) -> Floats:
    """What blocks are off from the weights, (n, row) float32, in a buffer of this thread's."""
    assert ggml_type is not F32, "its weights are not of this thread's buffer"
    back = to_float32(blocks, ggml_type, BACK)
    return np.subtract(back, exact, out=back)


def backend_of(ggml_type: Type, quantizer: str) -> str:
    """What quantizes to a type, as in a plan."""
    return SIMD if not is_float(ggml_type) and choose_backend(ggml_type, quantizer) == SIMD else GGML
