"""One converter of rows: the bytes of either backend, with an importance matrix and without; importances."""

import ctypes
from fractions import Fraction

import ggml
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantize import kernels, simd
from quantize.backend_choice import GGML, SIMD
from quantize.kernels import Bytes, Floats, quantize_rows, to_float32
from quantize.rows import convert, importance, takes_importance
from quantize.types import BF16, F16, F32, TYPES

ROW = 512
STORED = [F32, F16, BF16, TYPES["q8_0"]]


def rows_of(n: int = 8) -> Floats:
    return np.random.default_rng(3).standard_normal((n, ROW), np.float32)


def an_importance() -> Floats:
    return np.random.default_rng(4).random(ROW, np.float32) ** 8


def by_ggml(rows: Floats, name: str, imatrix: Floats) -> Bytes:
    """ggml itself."""
    type, pointer = TYPES[name], ctypes.POINTER(ctypes.c_float)
    out = np.empty((len(rows), type.nbytes(ROW)), np.uint8)
    of_rows, of_imatrix = (array.ctypes.data_as(pointer) for array in (rows, imatrix))
    ggml.ggml_quantize_chunk(type.ggml, of_rows, out.ctypes.data_as(ctypes.c_void_p), 0, len(rows), ROW, of_imatrix)
    return out


@pytest.mark.parametrize("stored", STORED, ids=lambda type: type.name)
@pytest.mark.parametrize("name", TYPES)
def test_rows_are_those_of_the_backend_whatever_they_are_stored_in(stored: object, name: str) -> None:
    assert isinstance(stored, type(F32))
    type_, rows = TYPES[name], quantize_rows(rows_of(), stored)
    floats = to_float32(rows, stored)
    expected = rows if type_ is stored else quantize_rows(floats, type_)
    assert np.array_equal(convert(rows, stored, type_, GGML), expected)
    assert np.array_equal(convert(rows, stored, type_, GGML, floats=floats), expected)
    if simd.has_kernel(type_) and type_ is not stored:
        by_simd = simd.quantize_rows(floats.view(np.uint8), F32, type_)
        assert np.array_equal(convert(rows, stored, type_, SIMD), by_simd)
        assert np.array_equal(convert(rows, stored, type_, SIMD, floats=floats), by_simd)


BACKENDS = pytest.mark.parametrize("backend", [SIMD, GGML])


@BACKENDS
@pytest.mark.parametrize("name", ["q4_0", "q5_1", "iq4_nl", "iq4_xs", "q4_k", "q6_k", "q3_k"])
def test_an_importance_matrix_changes_the_blocks_of_both_backends_alike(backend: str, name: str) -> None:
    rows, imatrix = rows_of(), an_importance()
    weighted = convert(rows.view(np.uint8), F32, TYPES[name], backend, imatrix=imatrix)
    assert np.array_equal(weighted, by_ggml(rows, name, imatrix))
    assert not np.array_equal(weighted, convert(rows.view(np.uint8), F32, TYPES[name], backend))


@BACKENDS
def test_q8_0_has_no_use_for_an_importance_matrix(backend: str) -> None:
    rows, imatrix = rows_of(), an_importance()
    found = convert(rows.view(np.uint8), F32, TYPES["q8_0"], backend, imatrix=imatrix)
    assert np.array_equal(found, by_ggml(rows, "q8_0", imatrix))
    assert np.array_equal(found, convert(rows.view(np.uint8), F32, TYPES["q8_0"], backend))


SQUARES = st.lists(st.floats(0, 2**40, width=32), min_size=1, max_size=40).filter(any)


@given(SQUARES, st.integers(1, 2**40))
def test_it_is_the_mean_square_with_one_position_more_at_which_all_columns_are_alike(
    squares: list[float], count: int
) -> None:
    mean = sum(map(Fraction, squares)) / count / len(squares)
    expected = [float((Fraction(square) + mean) / (count + 1)) for square in squares]
    found = importance(np.array(squares, np.float32), count)
    assert found.dtype == np.float32
    assert np.allclose(found, expected, rtol=1e-6)


def test_a_column_that_was_always_zero_still_counts() -> None:
    found = importance(np.array([0, 6], np.float32), 2)
    assert found.tolist() == [0.5, 2.5]


@pytest.mark.parametrize("type_name", TYPES)
def test_types_whose_blocks_depend_on_it_are_those_of_ggml(type_name: str) -> None:
    ggml_type = TYPES[type_name]
    rows = np.random.default_rng(0).standard_normal((4, 256)).astype(np.float32)
    weights = importance(np.arange(256, dtype=np.float32) ** 3, 10)
    plain, weighted = (kernels.quantize_rows(rows, ggml_type, imatrix=one) for one in (None, weights))
    assert np.array_equal(plain, weighted) is not takes_importance(ggml_type)
