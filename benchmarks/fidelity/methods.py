"""Ways to store the matrices at a size, by the engines of mimo-convert: plain, with an importance matrix, with error
feedback, and a mix of types under a budget."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from quantize.backends import SIMD
from quantize.budget.allocate import allocate
from quantize.budget.items import Candidate, Item
from quantize.feedback import rounding
from quantize.feedback.choice import ALPHAS, error
from quantize.feedback.factor import factor
from quantize.feedback.library import takes
from quantize.kernels import Bytes, Floats, to_float32
from quantize.rows import convert
from quantize.types import F32, TYPES, Type

from .calibrated import Known
from .package import padded

CANDIDATES = ("q3_k", "iq4_xs", "q4_k", "q5_k", "q6_k", "q8_0")  # of a mix


class Stored(NamedTuple):
    """The matrices as they are read back, by name, and bits of each weight of them."""

    matrices: Mapping[str, Tensor]
    bits: float


def stored(originals: Mapping[str, Floats], blocks: Mapping[str, tuple[Type, Bytes]]) -> Stored:
    """Blocks of padded rows as the model uses them. Bits are of the weights that there are."""
    read = {name: read_back(*blocks[name], rows.shape[1]) for name, rows in originals.items()}
    bits = sum(blocks[name][0].bits_per_weight * rows.size for name, rows in originals.items())
    return Stored(read, bits / sum(rows.size for rows in originals.values()))


def read_back(type: Type, blocks: Bytes, columns: int) -> Tensor:
    """Blocks as (rows, columns) float32."""
    return torch.from_numpy(to_float32(blocks, type)[:, :columns].copy())


def plain(rows: Floats, type: Type) -> Bytes:
    """Rows by the search alone."""
    return convert(padded(rows).view(np.uint8), F32, type, SIMD)


def weighted(rows: Floats, type: Type, known: Known) -> Bytes:
    """Rows by the search with the importance of columns."""
    return convert(padded(rows).view(np.uint8), F32, type, SIMD, imatrix=known.sensitivity.importance)


def with_feedback(rows: Floats, type: Type, known: Known) -> Bytes:
    """Rows with error feedback, the best of α and of none, on inputs of clips that it was not made with."""
    whole = padded(rows)
    found = [weighted(rows, type, known), plain(rows, type)]
    if takes(type):
        factors = (factor(known.moments, alpha) for alpha in ALPHAS)
        found += [rounding.with_feedback(whole, found[0], type, one) for one in factors]
    return min(found, key=lambda blocks: error(whole, blocks, type, known.inputs))


def predicted(rows: Floats, type: Type, blocks: Bytes, known: Known) -> float:
    """The KL divergence that a matrix adds by its error, in nats a token."""
    return known.sensitivity.divergence(to_float32(blocks, type) - padded(rows), 0)


def mix(originals: Mapping[str, Floats], known: Mapping[str, Known], bits: float) -> dict[str, Type]:
    """The type of each matrix that the predicted KL divergence is least with, at so many bits a weight at most."""
    items = []
    for name, rows in originals.items():
        types = [TYPES[type] for type in CANDIDATES]
        costs = [predicted(rows, type, weighted(rows, type, known[name]), known[name]) for type in types]
        sizes = [int(type.bits_per_weight * rows.size / 8) for type in types]
        items.append(Item(name, tuple(map(Candidate, CANDIDATES, sizes, costs))))
    total = sum(rows.size for rows in originals.values())
    chosen = allocate(items, int(bits * total / 8)).chosen
    return {item.name: TYPES[CANDIDATES[k]] for item, k in zip(items, chosen, strict=True)}


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Rank correlation."""
    ranks = [np.argsort(np.argsort(x)) for x in (a, b)]
    return float(np.corrcoef(*ranks)[0, 1])
