"""The kernels of `products/kernels`: products of quantized weights, where they lie in the mapped file, and activations.

They are compiled for several instruction sets, of which the fastest that this processor has is the default. A graph
calls them as custom operations of ggml, in which no Python runs. Where none was built for the platform, ggml
multiplies.
"""

import ctypes
import warnings
from functools import cache
from typing import Any

import ggml

import runtime_check.products
from quantize.backends import BackendWarning
from quantize.libraries import load_library, variant_names
from quantize.types import Type

LIBRARY = "kernels/products.so"
FIELDS = ("ne", "nb", "src", "data")  # of ggml_tensor, that the kernels read


class ProductsWarning(BackendWarning):
    """Products are computed by ggml although own kernels were expected."""


class Kernel(ctypes.Structure):
    """`products::Kernel` of kernels/variant.h."""

    _fields_ = [
        ("type", ctypes.c_int), ("activations", ctypes.c_int), ("weights", ctypes.c_int),
        ("column_bytes", ctypes.c_int), ("quantize", ctypes.c_void_p),
        ("multiply", ctypes.c_void_p), ("multiply_few", ctypes.c_void_p), ("few", ctypes.c_int),
    ]  # fmt: skip


class Product(ctypes.Structure):
    """`Product` of kernels/products.cpp: a product in a graph, as long as which it must live."""

    _fields_ = [
        ("kernel", ctypes.POINTER(Kernel)), ("from_float", ctypes.c_void_p), ("weights", ctypes.c_void_p),
        ("row_bytes", ctypes.c_int64), ("n_rows", ctypes.c_int64), ("row", ctypes.c_int64),
        ("claimed", ctypes.c_int64), ("finished", ctypes.c_int64),
    ]  # fmt: skip


@cache
def variants() -> tuple[str, ...]:
    """Instruction sets that both the processor and the kernels support, the fastest first."""
    library = _library()
    return variant_names(library.products_variant) if library else ()


@cache
def kernel(ggml_type: Type, variant: str) -> "ctypes._Pointer[Kernel] | None":
    """The kernel of a variant for `ggml_type`; None without one, or if ggml quantizes activations to another type."""
    library = _library()
    if library is None or variant not in variants():
        return None
    found = library.products_kernel(variants().index(variant), ggml_type.ggml)
    if not found:
        return None
    rounded_to = ggml.ggml_get_type_traits_cpu(ggml_type.ggml).contents.vec_dot_type
    # Activations of products with floats are not rounded at all.
    return found if found.contents.activations in (rounded_to, ggml.GGML_TYPE_F32) else None


@cache
def layers(variant: str) -> int:
    """Where the layers of a variant are, `products::Layers` of kernels/variant.h."""
    library = _library()
    assert library is not None
    return library.products_layers(variants().index(variant))


@cache
def are_few(ggml_type: Type, variant: str, n_columns: int) -> bool:
    """Whether a variant has another kernel for so few columns than for several."""
    found = kernel(ggml_type, variant)
    return found is not None and n_columns <= found.contents.few


def new_product(ggml_type: Type, variant: str, address: int | None, n_rows: int, row: int) -> Product:
    """A product with the (n_rows, row) weights at `address`, of a type that has a kernel; `row` a multiple of its
    block. Weights that the graph computes have no address yet."""
    found = kernel(ggml_type, variant)
    assert found is not None, f"no kernel for {ggml_type.name}"
    assert row % ggml_type.block == 0, f"rows of {row} are no multiple of {ggml_type.block}"
    traits = ggml.ggml_get_type_traits_cpu(found.contents.activations).contents
    from_float = ctypes.cast(traits.from_float, ctypes.c_void_p)
    return Product(found, from_float, address, ggml_type.nbytes(row), n_rows, row, 0, 0)


def columns_bytes(product: Product, n_columns: int) -> int:
    """Bytes of `n_columns` columns of activations, quantized for `product`."""
    library = _library()
    assert library is not None
    return library.products_columns_bytes(ctypes.byref(product), n_columns)


@cache
def operation(name: str) -> Any:
    """The operation of that name in C, as ggml_custom_4d takes it; its userdata is a Product or, for the operations of
    layers.py, a Layer."""
    library = _library()
    assert library is not None
    return ggml.ggml_custom_op_t(ctypes.cast(getattr(library, name), ctypes.c_void_p).value)


@cache
def _library() -> ctypes.CDLL | None:
    """Load the kernels; None if they were not built, or for another ggml."""
    library = load_library(runtime_check.products.__path__, LIBRARY, "ggml multiplies", ProductsWarning)
    if library is None:
        return None
    library.products_variant.argtypes, library.products_variant.restype = [ctypes.c_int], ctypes.c_char_p
    library.products_kernel.argtypes = [ctypes.c_int, ctypes.c_int]
    library.products_kernel.restype = ctypes.POINTER(Kernel)
    library.products_layers.argtypes, library.products_layers.restype = [ctypes.c_int], ctypes.c_void_p
    library.products_columns_bytes.argtypes = [ctypes.POINTER(Product), ctypes.c_int64]
    library.products_columns_bytes.restype = ctypes.c_int64
    library.products_offsets.restype = ctypes.POINTER(ctypes.c_int64)
    offsets = library.products_offsets()[: len(FIELDS)]
    if offsets != [getattr(ggml.ggml_tensor, field).offset for field in FIELDS]:
        warnings.warn(
            "ggml's tensors are laid out otherwise than the kernels of products expect; ggml multiplies: "
            "install the ggml-python that mimo-convert requires", ProductsWarning, stacklevel=2,
        )  # fmt: skip
        return None
    return library
