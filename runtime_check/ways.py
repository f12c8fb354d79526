"""What a file says of how it was made → the ways by which a tensor's rows may have come from the checkpoint's.

A way is a chain of types: mimo-quantize makes a file of another, and each may have changed the weights. Of a file that
tells all of it there is one; earlier versions did not record files of floats, and whichever lay between may be any.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import groupby
from typing import NamedTuple

import numpy as np

from mimo_convert.models import Tensor
from mimo_convert.provenance import Intermediate, Provenance
from quantize import simd
from quantize.kernels import Bytes, Floats, Scratch, is_float, quantize_rows, to_float32
from quantize.quantizer import AUTO, GGML, SIMD, quantizer_of
from quantize.recipes import choose_type
from quantize.types import F32, TYPES, Type

FLOATS = tuple(map(Intermediate, ("f16", "bf16", "f32")))  # files that earlier versions did not record
RULED = Intermediate("q8_0")  # what a rule, which they did not record either, may have made of a tensor between
Types = tuple[Type, ...]


class Way(NamedTuple):
    """The types that a tensor had between the source and the file, the first one first, and what made its blocks."""

    between: Types = ()
    quantizer: str = AUTO

    def make(self, rows: Bytes, stored: Type, x: Floats, type: Type) -> Bytes:
        """Rows as stored, which are `x` as float32, in `type`, by this way.

        A type in which they would not be finite is left out: mimo-quantize keeps such tensors in F32.
        """
        for between in self.between:
            there = converted(rows, stored, x, between, self.quantizer)
            y = to_float32(there, between)
            if np.isfinite(y).all():
                rows, stored, x = there, between, y
        return converted(rows, stored, x, type, self.quantizer)

    @property
    def text(self) -> str:
        """By way of which types; empty if there are none."""
        return f" by way of {', '.join(type.name for type in self.between)}" if self.between else ""


DIRECT = Way()


def ways_of(told: Provenance, tensor: Tensor, type: Type, makers: frozenset[str]) -> list[Way]:
    """Every way by which a tensor may have become `type`; first what the file says. `tensor` has Q, K and V apart.

    Where ggml made blocks, its own are right, too, should they differ from our kernels'.
    """
    recorded = told.intermediates
    histories = [recorded] if told.is_complete else [recorded, *unrecorded(recorded)]
    chains = [[type_between(between, tensor) for between in history] for history in histories]
    quantizers = [AUTO, GGML] if GGML in makers else [AUTO]
    short = dict.fromkeys(shortened(chain, type) for chain in chains)
    return [Way(chain, quantizer) for quantizer in quantizers for chain in short]


def type_between(between: Intermediate, tensor: Tensor) -> Type:
    """The type that a tensor had in a file."""
    row, own = tensor.shape[-1], between.types.get(tensor.name)
    if own:
        return choose_type("matrix", row, TYPES[own])[0]  # as it is, if it can be
    return choose_type(tensor.role, row, TYPES[between.type])[0]


def unrecorded(recorded: Sequence[Intermediate]) -> Iterator[Sequence[Intermediate]]:
    """What may have been, where files of floats, and the rules of others, were not recorded."""
    yield ()
    for i in range(len(recorded) + 1):
        yield from ((*recorded[:i], floats, *recorded[i:]) for floats in FLOATS)
    yield from ((floats,) for floats in FLOATS)
    if recorded:
        yield (RULED,)


def shortened(chain: Sequence[Type], type: Type) -> Types:
    """The chain that ends in `type`, without what changes nothing: a type once more, and F32 at its beginning."""
    first = next((i for i, between in enumerate(chain) if between is not F32), len(chain))
    return tuple(between for between, _ in groupby((*chain[first:], type)))[:-1]


def converted(
    rows: Bytes, stored: Type, x: Floats, type: Type, quantizer: str = AUTO, scratch: Scratch | None = None
) -> Bytes:
    """Rows as stored, which are `x` as float32, converted to `type` as mimo-quantize does."""
    if type is stored:
        return rows
    if is_float(type) or quantizer == GGML or not has_good_kernel(type):
        return quantize_rows(x, type, scratch)
    if is_float(stored):
        return simd.quantize_rows(rows, stored, type, scratch)
    return simd.quantize_rows(x.view(np.uint8), F32, type, scratch)


def there_and_back(x: Floats, type: Type) -> Floats:
    """What is left of float32 rows that were converted to `type`."""
    return to_float32(converted(x.view(np.uint8), F32, x, type), type)


@cache
def has_good_kernel(type: Type) -> bool:
    """Whether our kernel makes the blocks of `type` here."""
    return quantizer_of(type, AUTO) == SIMD
