"""Conversion paths: the chains of types by which a tensor may have been converted from the checkpoint.

mimo-quantize makes files from files, and each conversion may change weights. A file that records all of them has one
path; versions before 0.6 did not record files of floats, so that any may have been in between.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import groupby
from typing import NamedTuple

import numpy as np

from mimo_convert.model.family import Tensor
from mimo_convert.model.provenance import Intermediate, Provenance
from mimo_convert.plan.feedback import Rounding
from quantize.backend_choice import choose_backend
from quantize.backends import AUTO, GGML, SIMD
from quantize.kernels import Bytes, Floats, is_float, to_float32
from quantize.recipes import choose_type
from quantize.rows import convert
from quantize.types import F32, TYPES, Type

FLOATS = tuple(map(Intermediate, ("f16", "bf16", "f32")))  # files that earlier versions did not record
RULED = Intermediate("q8_0")  # what a rule, which they did not record either, may have made of a tensor between
Types = tuple[Type, ...]


class ConversionPath(NamedTuple):
    """The types of a tensor between source and file, in order, the requested backend, and how it was quantized last: by
    the importance of columns, (columns,) float32, and with which error feedback."""

    between: Types = ()
    backend: str = AUTO
    importance: Floats | None = None
    rounding: Rounding | None = None

    @property
    def is_direct(self) -> bool:
        """Whether nothing is between source and file, and the usual backend makes the blocks."""
        return not self.between and self.backend == AUTO

    def make(self, rows: Bytes, stored: Type, x: Floats, ggml_type: Type) -> Bytes:
        """Convert rows of type `stored`, which are `x` as float32, to `ggml_type` along the path: (n, row bytes) uint8.

        A type in which a weight would overflow is skipped, since mimo-quantize promotes such tensors to F32.
        """
        for between in self.between:
            there = convert(rows, stored, between, backend_of(between, self.backend), floats=x)
            y = to_float32(there, between)
            if np.isfinite(y).all():
                rows, stored, x = there, between, y
        backend = backend_of(ggml_type, self.backend)
        return self.round(x, convert(rows, stored, ggml_type, backend, floats=x, imatrix=self.importance), ggml_type)

    def round(self, x: Floats, blocks: Bytes, ggml_type: Type) -> Bytes:
        """The blocks of the search for `x`, rounded with error feedback if there was any."""
        return self.rounding.apply(x, blocks, ggml_type) if self.rounding else blocks

    @property
    def text(self) -> str:
        """The intermediate types and the imatrix for a message; empty if there are none."""
        between = f" by way of {', '.join(ggml_type.name for ggml_type in self.between)}" if self.between else ""
        with_feedback = " and error feedback" if self.rounding else ""
        return between if self.importance is None else f"{between} with the imatrix{with_feedback}"


DIRECT = ConversionPath()


def conversion_paths(
    told: Provenance,
    tensor: Tensor,
    ggml_type: Type,
    makers: frozenset[str],
    weights: Floats | None = None,
    rounding: Rounding | None = None,
) -> list[ConversionPath]:
    """Every path by which a tensor may have become `ggml_type`, the recorded one first; `tensor` has Q, K and V
    separate, `weights` is the importance of its columns, `rounding` its error feedback.

    With an importance matrix, a tensor may still be a copy of one that was quantized without. If ggml made blocks, its
    own are accepted where they differ from the kernels'.
    """
    recorded = told.intermediates
    histories = [recorded] if told.is_complete else [recorded, *unrecorded(recorded)]
    chains = [[type_between(between, tensor) for between in history] for history in histories]
    backends = [AUTO, GGML] if GGML in makers else [AUTO]
    short = dict.fromkeys(shortened(chain, ggml_type) for chain in chains)
    plain = [ConversionPath(chain, backend) for backend in backends for chain in short]
    if weights is None:
        return plain
    return [*(path._replace(importance=weights, rounding=rounding) for path in plain), *plain]


def type_between(between: Intermediate, tensor: Tensor) -> Type:
    """The type of a tensor in an intermediate file."""
    row, own = tensor.shape[-1], between.types.get(tensor.name)
    if own:
        return choose_type("matrix", row, TYPES[own])[0]  # as it is, if it can be
    return choose_type(tensor.role, row, TYPES[between.type])[0]


def unrecorded(recorded: Sequence[Intermediate]) -> Iterator[Sequence[Intermediate]]:
    """Histories with files of floats, or with a rule, that were not recorded."""
    yield ()
    for i in range(len(recorded) + 1):
        yield from ((*recorded[:i], floats, *recorded[i:]) for floats in FLOATS)
    yield from ((floats,) for floats in FLOATS)
    if recorded:
        yield (RULED,)


def shortened(chain: Sequence[Type], ggml_type: Type) -> Types:
    """A chain that ends in `ggml_type` without steps that change nothing: repeated types, and F32 at its beginning."""
    first = next((i for i, between in enumerate(chain) if between is not F32), len(chain))
    return tuple(between for between, _ in groupby((*chain[first:], ggml_type)))[:-1]


def backend_of(ggml_type: Type, requested: str = AUTO) -> str:
    """The backend that quantizes to `ggml_type` here: ggml if it was `requested` or there is no kernel, else SIMD."""
    return GGML if is_float(ggml_type) or requested == GGML or not has_good_kernel(ggml_type) else SIMD


def round_trip(x: Floats, ggml_type: Type) -> Floats:
    """Convert float32 rows to `ggml_type` and back."""
    return to_float32(convert(x.view(np.uint8), F32, ggml_type, backend_of(ggml_type), floats=x), ggml_type)


@cache
def has_good_kernel(ggml_type: Type) -> bool:
    """Whether the SIMD kernel of `ggml_type` is used here."""
    return choose_backend(ggml_type, AUTO) == SIMD
