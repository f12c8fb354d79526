"""What a calibration says of the matrices of a model: which of its entries are of which tensor, whatever file named
them."""

import re
from collections.abc import Iterable, Iterator, Mapping

from mimo_convert.formats.calibration import Calibration, ColumnSums
from mimo_convert.model.family import Family, Layout, Tensor
from mimo_convert.model.source_model import SourceModel
from mimo_convert.model.uses import HEAD, LLAMA_CPP_NAMES, Use
from quantize.errors import InputError
from quantize.kernels import Floats
from quantize.quoting import quoted
from quantize.rows import importance

NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")
NO_ENTRY = "no entry in the imatrix: quantized plain"
UNREACHED = "reached by no clip: quantized plain"
ANOTHER = "give the calibration of this model"


def tensors_of(family: Family, dims: object) -> Iterator[Tensor]:
    """The tensors of files of a model of these sizes, in every layout, first the complete one with separate Q, K and
    V."""
    for fuse_qkv in (False, True) if family.can_fuse_qkv else (False,):
        yield from family.tensors(dims, Layout(fuse_qkv, rare=frozenset(family.rare)))


def matrices_of(family: Family, dims: object) -> Iterator[Tensor]:
    """Those of two dimensions."""
    return (tensor for tensor in tensors_of(family, dims) if len(tensor.shape) == 2)


def entries_of(model: SourceModel, names: Iterable[str]) -> dict[str, tuple[str, Tensor]]:
    """The entry, among `names`, of each matrix of the checkpoint, with the tensor that it is of, by source name.

    An entry is named as the tensor in a file of any layout, or else as llama.cpp names it.
    """
    known, found = frozenset(names), dict[str, tuple[str, Tensor]]()
    tensors = list(matrices_of(model.family, model.dims))
    for name_of in (lambda tensor: tensor.name, llama_cpp_names(model.family, tensors).get):
        for tensor in tensors:
            if (name := name_of(tensor) or "") in known:
                for source in tensor.sources:
                    found.setdefault(source.name, (name, tensor))
    return found


def llama_cpp_names(family: Family, tensors: Iterable[Tensor]) -> dict[Tensor, str]:
    """llama.cpp's names of the tensors of a text decoder, which are its first stack of blocks; none of other models."""
    found: dict[Tensor, str] = {}
    if family.text is None:
        return found
    first: dict[str, Use] = {}
    for use in family.uses:
        first.setdefault(use.use, use)
    for tensor in tensors:
        for name, use in first.items():
            layer = use.layer_of(tensor.name)
            if layer is not None and name in LLAMA_CPP_NAMES:
                found[tensor] = f"blk.{layer}.{LLAMA_CPP_NAMES[name]}.weight"
            elif layer is not None and name == HEAD and "output.weight" not in found.values():
                found[tensor] = "output.weight"
    return found


def columns_of(model: SourceModel, calibration: Calibration | None) -> Mapping[str, ColumnSums]:
    """What the matrices of a model were multiplied with, by source name; empty if the calibration is of other files
    alone. Raises InputError for an entry with other columns than its tensor: it is of another model."""
    if calibration is None:
        return {}
    found = {}
    for source, (name, tensor) in entries_of(model, calibration.columns).items():
        columns, row = calibration.columns[name], tensor.shape[-1]
        if len(columns.squares) != row:
            what = (
                f"is of another model{of_architecture(calibration)}: {quoted(name)} has {len(columns.squares)} columns"
            )
            raise InputError(calibration.where, what, expected=f"{row}, as in {model.where}", todo=ANOTHER)
        found[source] = columns
    return found


def importance_of(columns: ColumnSums | None) -> tuple[Floats | None, str]:
    """The importance of a matrix's columns, (columns,) float32; None if nothing is known, with the reason."""
    if columns is None:
        return None, NO_ENTRY
    if not columns.is_reached:
        return None, UNREACHED
    return importance(columns.squares, columns.count), ""


def check_calibration(
    models: Iterable[SourceModel], calibration: Calibration | None, families: Iterable[Family]
) -> None:
    """Raise InputError unless entries of the calibration are of matrices of the models, and every other one of a file
    of another of the `families`, which may have been calibrated beside them."""
    if calibration is None:
        return
    models = list(models)
    matched = {name for model in models for name, _ in entries_of(model, calibration.columns).values()}
    names = {tensor.name for model in models for tensor in tensors_of(model.family, model.dims)}
    where = " and ".join(dict.fromkeys(str(model.where) for model in models))
    if not matched:
        what = f"is of another model{of_architecture(calibration)}: no file has {quoted(min(calibration.columns))}"
        raise InputError(calibration.where, what, expected=f"entries of {where}", todo=ANOTHER)
    alike = {NUMBER.sub("#", name) for name in names}
    others = [use for family in families for use in family.uses]
    for name in sorted(calibration.columns.keys() - matched - names):
        is_of_another = any(use.layer_of(name) is not None for use in others)
        if NUMBER.sub("#", name) in alike or not is_of_another:
            what = f"has an entry of {quoted(name)}, which is no tensor of the model"
            raise InputError(calibration.where, what, expected=f"entries of {where}", todo=ANOTHER)


def of_architecture(calibration: Calibration) -> str:
    """What files a calibration says that it is for, in brackets; empty if it says nothing."""
    return f" ({quoted(calibration.architecture)})" if calibration.architecture else ""
