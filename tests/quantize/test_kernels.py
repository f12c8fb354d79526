"""Rows → blocks → rows, against ggml itself, the `gguf` library's numpy quantizers, and PyTorch."""

import ctypes

import ggml
import gguf
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from quantize.kernels import quantize_rows
from quantize.types import TYPES, Type

Rows = npt.NDArray[np.float32]
ALL = pytest.mark.parametrize("type", TYPES.values(), ids=TYPES)


def ggml_bytes(type: Type, rows: Rows) -> bytes:
    """One call of `ggml_quantize_chunk` over all rows."""
    rows = np.ascontiguousarray(rows, np.float32)
    out = ctypes.create_string_buffer(len(rows) * ggml.ggml_row_size(type.ggml, rows.shape[1]))
    source = rows.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    n = ggml.ggml_quantize_chunk(type.ggml, source, out, 0, len(rows), rows.shape[1], None)
    return out.raw[:n]


def floats(data: npt.NDArray[np.uint8], type: Type) -> Rows:
    """What blocks stand for, by the `gguf` library."""
    return gguf.quants.dequantize(data, gguf.GGMLQuantizationType(type.ggml))


def rows_of(n: int, row: int, seed: int = 0) -> Rows:
    """Rows of very different scale, one of them all zero."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, row), np.float32) * 10.0 ** rng.integers(-4, 3, (n, 1)).astype(np.float32)
    rows[n // 2] = 0
    return rows


@ALL
def test_bytes_equal_ggml_quantize_chunk(type: Type) -> None:
    rows = rows_of(9, 512)
    assert quantize_rows(rows, type).tobytes() == ggml_bytes(type, rows)


@pytest.mark.parametrize("name", ["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"])
def test_bytes_equal_the_gguf_librarys_own_quantizer(name: str) -> None:
    type = TYPES[name]
    rows = rows_of(9, 512)
    expected = gguf.quants.quantize(rows, gguf.GGMLQuantizationType(type.ggml))
    assert quantize_rows(rows, type).tobytes() == expected.tobytes()


@pytest.mark.parametrize(("name", "dtype"), [("f16", torch.float16), ("bf16", torch.bfloat16)])
def test_halves_round_like_torch(name: str, dtype: torch.dtype) -> None:
    rows = rows_of(9, 512)
    expected = torch.from_numpy(rows).to(dtype).view(torch.uint8).numpy()
    assert quantize_rows(rows, TYPES[name]).tobytes() == expected.tobytes()


@ALL
def test_a_type_keeps_rows_as_well_as_its_bits_allow(type: Type) -> None:
    rows = np.random.default_rng(1).standard_normal((16, 512), np.float32)
    error = floats(quantize_rows(rows, type), type) - rows
    if type.block == 1:
        assert np.abs(error).max() < 0.02
    else:  # uniform steps over ±3 sigma with the bits that the name says
        bits = int(type.name.removeprefix("iq").removeprefix("q")[0])
        assert np.std(error) < 1.3 * 6 / 2**bits / 12**0.5


@ALL
@given(cut=st.integers(1, 8), seed=st.integers(0, 2**16))
def test_any_cut_into_runs_of_rows_gives_the_same_bytes(type: Type, cut: int, seed: int) -> None:
    rows = rows_of(9, 256, seed)
    whole = quantize_rows(rows, type)
    assert np.array_equal(np.concatenate([quantize_rows(rows[:cut], type), quantize_rows(rows[cut:], type)]), whole)


@ALL
@given(rows=arrays(np.float32, (2, 256), elements=st.floats(-65504, 65504, width=32)))
def test_finite_weights_within_f16_stay_finite(type: Type, rows: Rows) -> None:
    assert np.isfinite(floats(quantize_rows(rows, type), type)).all()


@ALL
@pytest.mark.parametrize("rows", [rows_of(8, 512)[::2], rows_of(256, 8).T, rows_of(4, 256).astype(np.float16)])
def test_rows_need_not_lie_together_nor_be_float32(type: Type, rows: npt.NDArray[np.floating]) -> None:  # type: ignore[type-arg]
    assert quantize_rows(rows, type).tobytes() == ggml_bytes(type, rows)  # type: ignore[arg-type]
