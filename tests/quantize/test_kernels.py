"""Rows → blocks → rows, against ggml itself, the `gguf` library's numpy quantizers, and PyTorch."""

import threading
from concurrent.futures import ThreadPoolExecutor

import gguf
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from quantize.kernels import Scratch, absmax_of, quantize_rows, to_float32
from quantize.types import TYPES, Type

from .blocks import ggml_blocks

Rows = npt.NDArray[np.float32]
HALVES = pytest.mark.parametrize(("name", "dtype"), [("f16", torch.float16), ("bf16", torch.bfloat16)])
ALL = pytest.mark.parametrize("type", TYPES.values(), ids=TYPES)


def ggml_bytes(type: Type, rows: Rows) -> bytes:
    """One call of `ggml_quantize_chunk` over all rows."""
    return ggml_blocks(rows, type).tobytes()


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


@HALVES
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


# The way back, and the fast paths.


def every_half(dtype: torch.dtype) -> tuple[npt.NDArray[np.uint8], Rows]:
    """All 65,536 patterns of a half as bytes, and what PyTorch takes each for."""
    patterns = np.arange(1 << 16, dtype=np.uint16).reshape(256, 256)
    widened = torch.from_numpy(patterns.view(np.int16)).view(dtype).float()
    return patterns.view(np.uint8), widened.numpy()


@ALL
def test_weights_come_back_as_the_gguf_library_reads_them(type: Type) -> None:
    """To the last bit: a file made from a quantized one stands for what every reader makes of that one."""
    data = quantize_rows(rows_of(9, 512), type)
    assert to_float32(data, type).tobytes() == floats(data, type).astype(np.float32).tobytes()


@HALVES
def test_every_half_there_is_widens_as_torch_says(name: str, dtype: torch.dtype) -> None:
    data, expected = every_half(dtype)
    finite = np.isfinite(expected)
    found = to_float32(data, TYPES[name])
    assert found[finite].tobytes() == expected[finite].tobytes()
    assert np.array_equal(found, expected, equal_nan=True)


@HALVES
def test_every_finite_half_survives_the_way_there_and_back(name: str, dtype: torch.dtype) -> None:
    data, expected = every_half(dtype)
    finite = np.isfinite(expected)
    back = quantize_rows(np.where(finite, expected, np.float32(0)), TYPES[name])
    assert np.array_equal(back.view(np.uint16)[finite], data.view(np.uint16)[finite])


def test_every_finite_bf16_weight_becomes_the_half_that_ggml_makes_of_it() -> None:
    """The published checkpoint is bf16: these are all the weights it can hold. 65520 and above become infinite."""
    _, rows = every_half(torch.bfloat16)
    rows = np.where(np.isfinite(rows), rows, np.float32(0))
    assert quantize_rows(rows, TYPES["f16"]).tobytes() == ggml_bytes(TYPES["f16"], rows)


# Half-way between two halves of either kind, a hair to either side, and the ends of the range.
HALF_WAY = [(2 * n + 1) * step for n in (0, 1, 511, 512, 1023, 2047) for step in (2.0**-25, 2.0**-11, 2.0**-9, 1.0)]
EDGES = [
    0.0,
    2.0**-149,
    2.0**-126,
    2.0**-25,
    2.0**-24,
    2.0**-15,
    2.0**-14,
    65503,
    65504,
    65519,
    65520,
    65535,
    65536,
    3e38,
]


@HALVES
def test_weights_between_two_halves_round_as_ggml_and_torch_do(name: str, dtype: torch.dtype) -> None:
    middle = np.array([*HALF_WAY, *EDGES], np.float32)
    around = [np.nextafter(middle, np.float32(np.inf)), middle, np.nextafter(middle, np.float32(0))]
    rows = np.stack([*around, *(-row for row in around)])
    found = quantize_rows(rows, TYPES[name]).tobytes()
    assert found == ggml_bytes(TYPES[name], rows)
    assert found == torch.from_numpy(rows).to(dtype).view(torch.uint8).numpy().tobytes()


@given(rows=arrays(np.float32, (3, 37), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_any_finite_weight_becomes_the_half_that_ggml_makes_of_it(rows: Rows) -> None:
    assert quantize_rows(rows, TYPES["f16"]).tobytes() == ggml_bytes(TYPES["f16"], rows)


FLOATS = pytest.mark.parametrize("name", ["f32", "f16", "bf16"])


def stored(rows: Rows, name: str) -> tuple[npt.NDArray[np.uint8], Rows]:
    """Rows as they lie in a file of a float type, and what they are there, by PyTorch."""
    dtype = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}[name]
    there = torch.from_numpy(np.ascontiguousarray(rows)).to(dtype)
    return there.view(torch.uint8).numpy(), there.float().numpy()


ANY_FLOATS = st.floats(-60000, 60000, width=32) | st.sampled_from([-0.0, 0.0, 2.0**-149, -(2.0**-149), 2.0**-24])


@FLOATS
@given(
    rows=arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 20)), elements=ANY_FLOATS),
    sign=st.sampled_from([1, -1, 0]),
)
def test_the_peak_is_the_greatest_magnitude(name: str, rows: Rows, sign: int) -> None:
    data, there = stored(np.abs(rows) * np.float32(sign) if sign else rows, name)
    assert absmax_of(data, TYPES[name]) == np.abs(there).max()


@FLOATS
@pytest.mark.parametrize("value", [0.0, -0.0, -1.5, 1.5, 2.0**-130])
def test_the_peak_of_a_single_weight_is_that_weight(name: str, value: float) -> None:
    data, there = stored(np.array([[value]], np.float32), name)
    assert absmax_of(data, TYPES[name]) == abs(float(there[0, 0]))


@FLOATS
@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
@given(n=st.integers(1, 40), at=st.integers(0, 39), scale=st.sampled_from([0.0, -1.0, 60000.0]))
def test_no_peak_is_finite_where_a_weight_is_not(name: str, value: float, n: int, at: int, scale: float) -> None:
    rows = np.full((1, n), scale, np.float32)
    rows[0, at % n] = value
    assert not np.isfinite(absmax_of(stored(rows, name)[0], TYPES[name]))


@FLOATS
def test_no_peak_is_finite_for_any_nan_there_is(name: str) -> None:
    """NaNs have many patterns, of either sign; one weight in a row of zeros is each of them."""
    bits, top = {"f32": (np.uint32, 0x7F800000), "f16": (np.uint16, 0x7C00), "bf16": (np.uint16, 0x7F80)}[name]
    sign = 1 << (8 * np.dtype(bits).itemsize - 1)
    for pattern in [top, top + 1, sign - 1]:
        for weight in (pattern, pattern | sign):
            row = np.array([[0, weight, 0]], bits).view(np.uint8)
            assert not np.isfinite(absmax_of(row, TYPES[name])), hex(weight)
    largest = np.array([[top - 1, (top - 1) | sign]], bits).view(np.uint8)
    assert np.isfinite(absmax_of(largest, TYPES[name]))


@ALL
def test_memory_used_again_for_other_sizes_changes_no_byte(type: Type) -> None:
    there, back = Scratch(), Scratch()
    for seed, (n, row) in enumerate([(9, 512), (1, 256), (30, 256), (2, 1024), (30, 512)]):
        rows = rows_of(n, row, seed)
        data = quantize_rows(rows, type, there)
        assert data.shape == (n, type.nbytes(row))
        assert data.tobytes() == ggml_bytes(type, rows)
        assert to_float32(data, type, back).tobytes() == to_float32(data.copy(), type).tobytes()


def test_threads_that_share_a_scratch_do_not_share_its_memory() -> None:
    scratch, together = Scratch(), threading.Barrier(4, timeout=60)
    type = TYPES["q6_k"]

    def work(seed: int) -> bool:
        rows = rows_of(5 + seed, 256, seed)
        data = quantize_rows(rows, type, scratch)
        together.wait()  # all four have written before any looks
        return data.tobytes() == ggml_bytes(type, rows)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))
