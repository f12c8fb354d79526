"""Sums of a checkpoint's matrices by the names of tensors in GGUF files: of every layout, fused and separate."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np

from mimo_convert.model.family import Family, Tensor
from quantize.errors import InputError
from quantize.kernels import Floats

T = TypeVar("T")


class Sized(NamedTuple):
    """A family and the sizes of a model of it."""

    family: Family
    dimensions: Any


def tensors_of(models: Iterable[Sized]) -> Iterator[tuple[Tensor, tuple[str, ...]]]:
    """Every tensor of two or more dimensions of files of the models, of each layout, and the checkpoint's names of its
    sources; each once."""
    seen = set()
    for family, dimensions in models:
        for layout in family.layouts:
            for tensor in family.tensors(dimensions, layout):
                if len(tensor.shape) > 1 and tensor.name not in seen:
                    seen.add(tensor.name)
                    yield tensor, tuple(family.tied.get(source.name, source.name) for source in tensor.sources)


def matrices_of(model: Sized) -> list[str]:
    """The names of the matrices in a file of a model with all its parts, in order."""
    tensors = model.family.tensors(model.dimensions, model.family.layouts[0])
    return [tensor.name for tensor in tensors if tensor.role.endswith("matrix") or tensor.role == "head"]


def by_tensor(models: Iterable[Sized], found: Mapping[str, T]) -> dict[str, T]:
    """What was `found` of the checkpoint's matrices, by the names of the tensors that hold them; a fused one has what
    its first source has, since all are multiplied with the same."""
    return {tensor.name: found[sources[0]] for tensor, sources in tensors_of(models) if sources[0] in found}


def rows_by_tensor(models: Iterable[Sized], found: Mapping[str, Floats]) -> dict[str, Floats]:
    """What was `found` of the rows of the checkpoint's matrices, by the names of the tensors that hold them; a fused
    one has those of all its sources, one behind the other."""
    return {
        tensor.name: np.concatenate([found[source] for source in sources])
        for tensor, sources in tensors_of(models) if all(source in found for source in sources)
    }  # fmt: skip


def names_by_matrix(models: Iterable[Sized]) -> dict[str, tuple[str, ...]]:
    """The names of the tensors that hold a checkpoint's matrix, or some of whose rows it has, by its name."""
    found: dict[str, tuple[str, ...]] = {}
    for tensor, sources in tensors_of(models):
        for source in sources:
            found[source] = (*found.get(source, ()), tensor.name)
    return found


def check_known(names: Iterable[str], models: Iterable[Sized], where: Any) -> None:
    """Raise InputError, about the file `where`, unless each name is that of a matrix of the models."""
    known = {tensor.name for tensor, _ in tensors_of(models)}
    for name in names:
        if name not in known:
            raise InputError(where, f"has sums of {name}, which no file of this model has", expected="the same model's")
