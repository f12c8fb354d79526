"""Choose the code that multiplies: the own kernels where they are equal to ggml on the very weights, else ggml."""

import ctypes
import warnings
from typing import Any

import ggml
import numpy as np

from quantize.errors import InputError
from quantize.types import BY_GGML, Type
from runtime_check.choices import AUTO, GGML, OWN

from . import layers, library
from .comparison import OneProduct, difference, multiply, quantize

# Sums of floats in another order differ by a few times 2⁻²⁴ of the result's norm, by more the longer the row, and where
# the products of levels and of minima nearly cancel: there it is ggml's sums that are the less exact ones.
TOLERANCE, TOLERANCES = 1e-6, {"q4_1": 4e-6, "q5_1": 4e-6}
SAMPLE_ROWS = 75  # no multiple of what is multiplied at once
FEW, SEVERAL = "few columns", "several columns"
SAMPLE_COLUMNS = {FEW: 1, SEVERAL: 9}
ATTENTION, GELU = "attention", "GELU"
LAYERS = {ATTENTION: layers.attention_difference, GELU: layers.gelu_difference}  # between products


class Products:
    """The products of one system. `choice` is AUTO, OWN or GGML; the types that each code multiplied are collected.

    OWN raises InputError where there are no kernels, or where one of them is not equal to ggml; AUTO warns of the
    latter (ProductsWarning), and ggml multiplies. Types without a kernel are multiplied by ggml in any case.
    """

    def __init__(self, choice: str) -> None:
        if choice == OWN and not library.variants():
            what = "there are no kernels for this processor or platform"
            raise InputError("--products own", what, expected=f"{AUTO} or {GGML}")
        self.choice = choice
        self.variant = "" if choice == GGML else next(iter(library.variants()), "")
        self.used: dict[str, set[str]] = {}
        self._sound: dict[object, bool] = {}  # of what was compared with ggml

    def multiplies(self, ggml_type: Type) -> bool:
        """Whether a kernel multiplies with weights of `ggml_type`, if it is equal to ggml."""
        return library.kernel(ggml_type, self.variant) is not None

    def product_of(self, weights: Any, x: Any) -> library.Product | None:
        """The product of a weight, a ggml tensor (n_rows, …) with as many weights a row as x has activations, and
        activations x (…, row); None if ggml computes it."""
        ggml_type = BY_GGML[weights.contents.type]
        variant = self._variant_for(ggml_type, weights, x)
        self.used.setdefault(variant or GGML, set()).add(ggml_type.name)
        if not variant:
            return None
        return library.new_product(ggml_type, variant, _address(weights), *_shape(weights, x))

    def _variant_for(self, ggml_type: Type, weights: Any, x: Any) -> str:
        """The variant that multiplies; empty: ggml does."""
        if not (self.multiplies(ggml_type) and _rows_in_turn(weights) and _in_rows(x)):
            return ""
        kind = FEW if library.are_few(ggml_type, self.variant, ggml.ggml_nrows(x)) else SEVERAL
        if (ggml_type, kind) not in self._sound:
            found = self._sample_difference(ggml_type, weights, _shape(weights, x), kind)
            self._judge((ggml_type, kind), f"{ggml_type.name} for {kind}", found, tolerance(ggml_type))
        return self.variant if self._sound[ggml_type, kind] else ""

    def layer(self, name: str, scale: float = 1.0) -> layers.Layer | None:
        """ATTENTION, with `scale` for its scores, or GELU, of activations that its kernel covers; None if ggml computes
        it."""
        if not self.variant:
            return None
        if name not in self._sound:
            self._judge(name, name, LAYERS[name](self.variant), layers.TOLERANCE)
        return layers.new_layer(self.variant, scale) if self._sound[name] else None

    def _judge(self, key: object, what: str, found: float, most: float) -> None:
        """Whether a kernel may be used that differs from ggml by `found`: warn, or refuse to go on, if not."""
        self._sound[key] = found <= most  # NaN is not
        if self._sound[key]:
            return
        problem = (
            f"the {self.variant} kernel of {what} differs from ggml by {found:.2g} of the result's norm, "
            f"expected at most {most:g}"
        )
        if self.choice == OWN:
            raise InputError("--products own", problem, expected=f"{AUTO} or {GGML}", todo="please report this")
        warnings.warn(f"{problem}; ggml is used: please report this", library.ProductsWarning, stacklevel=2)

    def _sample_difference(self, ggml_type: Type, weights: Any, shape: tuple[int, int], kind: str) -> float:
        """Compare the kernel with ggml on the first rows of (n_rows, row) weights, or on Gaussian ones if the graph
        computes them."""
        n_rows, row = min(shape[0], SAMPLE_ROWS), shape[1]
        address = _address(weights)
        drawn = np.random.default_rng(0).standard_normal((0 if address else n_rows, row), np.float32)
        address = address or drawn.ctypes.data
        return sample_difference(ggml_type, address, n_rows, row, SAMPLE_COLUMNS[kind], self.variant)


def tolerance(ggml_type: Type) -> float:
    """The largest difference from ggml, relative to the result's norm, of a kernel that is sound."""
    return TOLERANCES.get(ggml_type.name, TOLERANCE)


def sample_difference(ggml_type: Type, address: int, n_rows: int, row: int, n: int, variant: str) -> float:
    """The difference of the variant's products from ggml's, relative to the norm, of the (n_rows, row) weights at
    `address` and n columns of Gaussian activations."""
    x = np.random.default_rng(0).standard_normal((n, row), np.float32)
    ours, theirs = (OneProduct(ggml_type, address, n_rows, row, n, code)(x) for code in (variant, ""))
    return difference(ours, theirs)


def add_product(
    context: Any, product: library.Product, weights: Any, x: Any, quantized: dict[tuple[int, int], Any]
) -> Any:
    """The nodes of a product of weights, a tensor, and x (…, row) → (…, n_rows). Activations that were `quantized` for
    another product of the same kind are shared."""
    key = ctypes.addressof(x.contents), product.kernel.contents.activations
    if key not in quantized:
        quantized[key] = quantize(context, product, x)
    return multiply(context, product, quantized[key], x, weights)


def _shape(weights: Any, x: Any) -> tuple[int, int]:
    """The rows of a matrix that is multiplied with x, and the weights of each."""
    row = int(x.contents.ne[0])
    return ggml.ggml_nelements(weights) // row, row


def _address(weights: Any) -> int | None:
    """Where weights of a file lie; None if the graph computes them."""
    return weights.contents.data if weights.contents.op == ggml.GGML_OP_NONE else None


def _rows_in_turn(weights: Any) -> bool:
    """Whether the rows of `weights` lie one behind the other in memory: those of a file, or float32 ones that the graph
    computes."""
    tensor = weights.contents
    of_file = tensor.op == ggml.GGML_OP_NONE and tensor.data and not tensor.extra  # ggml has not repacked it
    computed = tensor.op not in (ggml.GGML_OP_NONE, ggml.GGML_OP_VIEW) and tensor.type == ggml.GGML_TYPE_F32
    return bool((of_file or computed) and ggml.ggml_is_contiguous(weights))


def _in_rows(x: Any) -> bool:
    """Whether the rows of `x` are float32, each in one piece."""
    return x.contents.type == ggml.GGML_TYPE_F32 and x.contents.nb[0] == 4
