"""One converter of rows: the bytes of either backend, and an importance matrix for both."""

import ctypes

import ggml
import numpy as np
import pytest

from quantize import simd
from quantize.backend_choice import GGML, SIMD
from quantize.kernels import Bytes, Floats, quantize_rows, to_float32
from quantize.rows import convert
from quantize.types import BF16, F16, F32, TYPES

ROW = 512
STORED = [F32, F16, BF16, TYPES["q8_0"]]


def rows_of(n: int = 8) -> Floats:
    return np.random.default_rng(3).standard_normal((n, ROW), np.float32)


def importance() -> Floats:
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
    rows, imatrix = rows_of(), importance()
    weighted = convert(rows.view(np.uint8), F32, TYPES[name], backend, imatrix=imatrix)
    assert np.array_equal(weighted, by_ggml(rows, name, imatrix))
    assert not np.array_equal(weighted, convert(rows.view(np.uint8), F32, TYPES[name], backend))


@BACKENDS
def test_q8_0_has_no_use_for_an_importance_matrix(backend: str) -> None:
    rows, imatrix = rows_of(), importance()
    found = convert(rows.view(np.uint8), F32, TYPES["q8_0"], backend, imatrix=imatrix)
    assert np.array_equal(found, by_ggml(rows, "q8_0", imatrix))
    assert np.array_equal(found, convert(rows.view(np.uint8), F32, TYPES["q8_0"], backend))
