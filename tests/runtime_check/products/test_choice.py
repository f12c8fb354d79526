"""Which code multiplies: the kernels where they are equal to ggml on the file's own weights, and ggml elsewhere."""

import warnings
from collections.abc import Callable
from typing import Any

import ggml
import numpy as np
import pytest

from quantize.errors import InputError
from quantize.types import TYPES, Type
from runtime_check.choices import AUTO, GGML, OWN
from runtime_check.ggml.memory import new_context, new_tensor
from runtime_check.products import choice, library
from runtime_check.products.choice import Products

from .weights import CASES, SUPER, VARIANTS, Bytes, weights

needs_kernels = pytest.mark.skipif(not VARIANTS, reason="no kernels for this processor")


def tensor_of(context: Any, type: Type, rows: Bytes) -> Any:
    """A ggml tensor of rows in memory."""
    tensor = new_tensor(context, type.ggml, (len(rows), rows.shape[1] // type.block_bytes * type.block))
    tensor.contents.data = rows.ctypes.data
    return tensor


def code_of(products: Products, type: Type, rows: Bytes, n: int) -> str:
    """The code that multiplies `rows` with n columns."""
    context = new_context(2)
    weight = tensor_of(context, type, rows)
    product = products.product_of(weight, new_tensor(context, ggml.GGML_TYPE_F32, (n, int(weight.contents.ne[0]))))
    ggml.ggml_free(context)
    return products.variant if product else GGML


@needs_kernels
@pytest.mark.parametrize("type", sorted({type for type, _ in CASES}, key=str), ids=lambda type: type.name)
def test_every_kernel_passes_its_comparison_with_ggml(type: Type) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for chosen in (AUTO, OWN):
            products = Products(chosen)
            assert code_of(products, type, weights(type), 94) == VARIANTS[0]
            assert products.used == {VARIANTS[0]: {type.name}}
    assert code_of(Products(GGML), type, weights(type), 94) == GGML


def change(offset: int, bits: int) -> Callable[[Bytes, Type], None]:
    """Other bits at a byte of one block of the first row."""

    def changed(rows: Bytes, type: Type) -> None:
        rows[0, type.block_bytes + offset] ^= bits

    return changed


def shift(rows: Bytes, type: Type) -> None:
    """The levels of a sub-block of the first row are a byte further."""
    half = type.block_bytes // 2
    rows[0, half : half + 16] = np.roll(rows[0, half : half + 16], 1)


def skip_rows(rows: Bytes, type: Type) -> None:
    """The last row, of a panel that is not full, is 0."""
    rows[-1] = 0


def skip_end(rows: Bytes, type: Type) -> None:
    """The last block of each row is 0."""
    rows[:, -type.block_bytes :] = 0


# What a defective kernel would compute, as weights of which the sound one computes it.
DEFECTS = {
    "a scale is dropped": (change(4, 0x3F), "q4_k"),
    "a scale's upper bits are dropped": (change(0, 0x40), "q8_0"),
    "a scale of a sub-block is another": (change(192, 0x07), "q6_k"),
    "a minimum has the wrong sign": (change(3, 0x80), "q4_k"),
    "a sub-block is shifted": (shift, "q6_k"),
    "the last rows are skipped": (skip_rows, "q8_0"),
    "the end of rows is skipped": (skip_end, "q5_k"),
}


@needs_kernels
@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defective_kernel_gives_way_to_ggml_with_a_warning(defect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil, name = DEFECTS[defect]
    type = TYPES[name]
    rows = weights(type)
    spoiled = rows.copy()
    spoil(spoiled, type)
    assert not np.array_equal(rows, spoiled)
    whole = library.new_product
    monkeypatch.setattr(
        library, "new_product", lambda type, variant, address, *shape: whole(type, variant, spoiled.ctypes.data, *shape)
    )
    problem = rf"the {VARIANTS[0]} kernel of {name} for several columns differs from ggml by .* of the result's norm"
    with pytest.warns(library.ProductsWarning, match=rf"{problem}.*ggml is used"):
        assert code_of(products := Products(AUTO), type, rows, 9) == GGML
    assert products.used == {GGML: {name}}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is told once
        assert code_of(products, type, rows, 94) == GGML
    with pytest.raises(InputError, match=rf"--products own: {problem}.*expected auto or ggml"):
        code_of(Products(OWN), type, rows, 9)


@needs_kernels
def test_few_columns_and_several_are_compared_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    q4_k, rows = TYPES["q4_k"], weights(TYPES["q4_k"])
    sound = choice.sample_difference
    monkeypatch.setattr(choice, "sample_difference", lambda *sample: 1.0 if sample[4] == 1 else sound(*sample))
    products = Products(AUTO)
    with pytest.warns(library.ProductsWarning, match="for few columns"):
        assert code_of(products, q4_k, rows, 1) == GGML
    assert code_of(products, q4_k, rows, 9) == VARIANTS[0]
    assert products.used == {GGML: {"q4_k"}, VARIANTS[0]: {"q4_k"}}


@needs_kernels
def test_what_no_kernel_covers_is_ggmls() -> None:
    products = Products(OWN)
    context = new_context(4)
    weight = tensor_of(context, TYPES["q4_k"], weights(TYPES["q4_k"]))
    x = new_tensor(context, ggml.GGML_TYPE_F32, (9, 3 * SUPER))
    every_second = ggml.ggml_view_2d(context, weight, 3 * SUPER, 8, 2 * weight.contents.nb[1], 0)
    assert products.product_of(every_second, x) is None
    assert products.product_of(weight, new_tensor(context, ggml.GGML_TYPE_F16, (9, 3 * SUPER))) is None
    assert products.product_of(weight, x) is not None
    ggml.ggml_free(context)


def test_own_products_without_kernels_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "variants", lambda: ())
    with pytest.raises(InputError, match=r"--products own: there are no kernels for this processor.*expected auto or"):
        Products(OWN)
    assert code_of(Products(AUTO), TYPES["q8_0"], weights(TYPES["q8_0"]), 9) == GGML
