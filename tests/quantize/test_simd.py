"""The kernels of quantize/lanes against ggml's quantizers, through Python. test_lanes.py runs them under sanitizers."""

import platform
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from quantize import simd
from quantize.kernels import Scratch
from quantize.types import F32, TYPES, Type

from .blocks import (
    BLOCK_TYPES,
    FLOATS,
    K_QUANTS,
    KINDS,
    LARGEST,
    WEIGHTED,
    Bytes,
    Rows,
    as_stored,
    differing,
    error,
    ggml_blocks,
    imatrix_of,
    ordinary,
    readings,
    rows_of,
    rows_of_each_kind,
)

# ggml's quantizers are built for any x86-64, so without instructions that round a product and a sum as one. Elsewhere
# they may have these, and some of their blocks are others, as good in sum (test_lanes.py shows why).
EXACT = platform.machine() == "x86_64"
TOLERANCE = 1.0005  # how much more than ggml's error is taken for rounding
NOTHING = 1e-9  # the same, as a share of the weights themselves
WITHOUT_KERNEL = {("q4_0", "sse2"), ("q4_1", "sse2")}  # ggml is as fast there

CASES = [(type, variant) for type in BLOCK_TYPES for variant in simd.variants() if simd.has_kernel(type, variant)]
EACH = pytest.mark.parametrize(("type", "variant"), CASES, ids=[f"{type.name}-{variant}" for type, variant in CASES])
TYPE = pytest.mark.parametrize("type", BLOCK_TYPES, ids=lambda type: type.name)
WITH_IMATRIX = pytest.mark.parametrize("type", WEIGHTED, ids=lambda type: type.name)
STORED = pytest.mark.parametrize("stored", FLOATS, ids=lambda type: type.name)
KIND = pytest.mark.parametrize("kind", KINDS)


def blocks_of(rows: Rows, type: Type, imatrix: Rows | None = None, variant: str = "") -> Bytes:
    return simd.quantize_rows(rows.view(np.uint8), F32, type, imatrix=imatrix, variant=variant)


def blocks_of_every_variant(rows: Rows, type: Type, imatrix: Rows | None = None) -> Bytes:
    """All the variants' blocks, which must be the same."""
    blocks = [blocks_of(rows, type, imatrix, variant) for each, variant in CASES if each is type]
    for other in blocks[1:]:
        assert np.array_equal(blocks[0], other)
    return blocks[0]


def check_against_ggml(rows: Rows, type: Type, imatrix: Rows | None = None) -> None:
    """All is finite, and the error not above ggml's, as ggml and as the `gguf` library read the blocks; where ggml
    rounds as we do, every byte is the same."""
    blocks, expected = blocks_of_every_variant(rows, type, imatrix), ggml_blocks(rows, type, imatrix)
    ours, ggmls = readings(blocks, type), readings(expected, type)
    for reader, read in ours.items():
        assert np.isfinite(read).all()
        limit = error(rows, ggmls[reader], type, imatrix) * TOLERANCE + NOTHING
        assert error(rows, read, type, imatrix) <= limit
    if EXACT:
        assert len(differing(blocks, expected, type)) == 0


@cache
def million(type: Type, stored: Type) -> tuple[Bytes, Rows, Bytes]:
    """A million ordinary weights, as stored and as float32, and ggml's blocks of them. Of seed 7, they have a block for
    which Q3_K's search needs all of its rounds."""
    data, rows = as_stored(rows_of("ordinary", 1024, 1024, 7), stored)
    return data, rows, ggml_blocks(rows, type)


# What there is.


def test_the_variants_are_those_that_this_processor_has_the_instructions_of() -> None:
    if platform.machine() == "aarch64":
        expected = ["neon"]
    else:
        flags = set(Path("/proc/cpuinfo").read_text().split())
        avx512 = {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= flags
        expected = [*(["avx512"] if avx512 else []), *(["avx2"] if "avx2" in flags else []), "sse2"]
    assert list(simd.variants()) == expected


def test_every_type_of_blocks_has_a_kernel() -> None:
    every = {(type.name, variant) for type in BLOCK_TYPES for variant in simd.variants()}
    assert {(type.name, variant) for type, variant in CASES} == every - WITHOUT_KERNEL
    assert not any(simd.has_kernel(type) for type in FLOATS)
    assert not simd.has_kernel(TYPES["q4_k"], "avx1024")


@pytest.mark.parametrize("variant", simd.variants())
def test_every_kernel_takes_an_imatrix_but_that_of_q8_0_which_has_no_use_for_one(variant: str) -> None:
    """So has ggml's quantizer."""
    for type in BLOCK_TYPES:
        if simd.has_kernel(type, variant):
            assert simd.takes_imatrix(type, variant) == (type in WEIGHTED)
    rows = rows_of("ordinary", 4, 512)
    assert np.array_equal(ggml_blocks(rows, TYPES["q8_0"], imatrix_of(512)), ggml_blocks(rows, TYPES["q8_0"]))


# Against ggml.


@STORED
@EACH
def test_blocks_of_ordinary_weights_are_ggmls(type: Type, variant: str, stored: Type) -> None:
    """All where ggml rounds as we do, and elsewhere nearly all; in sum they are as good."""
    data, rows, expected = million(type, stored)
    found = simd.quantize_rows(data, stored, type, variant=variant)
    others = len(differing(found, expected, type))
    assert others <= (0 if EXACT else 0.01 * rows.size / type.block)
    few, ours, ggmls = rows[:64], readings(found[:64], type)["gguf"], readings(expected[:64], type)["gguf"]
    assert error(few, ours, type) == pytest.approx(error(few, ggmls, type), rel=TOLERANCE - 1)


@KIND
@TYPE
def test_no_kind_of_weights_has_a_greater_error_than_ggmls(type: Type, kind: str) -> None:
    rows = rows_of(kind, 32, 512)
    assert np.abs(rows).max() <= LARGEST
    check_against_ggml(rows, type)


WEIGHTS = st.floats(-LARGEST, LARGEST, width=32) | st.sampled_from(
    [0.0, -0.0, 1.0, -1.0, 0.5, 1e-15, 2.0**-149, -(2.0**-149), 2.0**-126, 2.0**-24, LARGEST, -LARGEST]
)


@st.composite
def any_rows(draw: st.DrawFn, type: Type) -> Rows:
    """Up to five rows of up to three blocks: of one weight much, or all of a size, or of any."""
    shape = (draw(st.integers(1, 5)), type.block * draw(st.integers(1, 3)))
    if draw(st.booleans()):
        return draw(arrays(np.float32, shape, elements=WEIGHTS))
    rows = rows_of(draw(st.sampled_from([*KINDS])), *shape, draw(st.integers(0, 2**32 - 1)))
    rows[draw(arrays(np.bool_, shape))] = draw(WEIGHTS)
    return rows


@TYPE
@settings(max_examples=200)
@given(data=st.data())
def test_any_weights_within_f16_become_finite_blocks_no_worse_than_ggmls(type: Type, data: st.DataObject) -> None:
    rows = data.draw(any_rows(type))
    check_against_ggml(rows, type)


@TYPE
def test_zeros_stay_zeros(type: Type) -> None:
    rows = rows_of("zeros of both signs", 5, 512)
    for read in readings(blocks_of(rows, type), type).values():
        assert not read.any()


# Columns that matter more than others.


@KIND
@WITH_IMATRIX
def test_blocks_of_an_imatrix_have_no_greater_error_than_ggmls(type: Type, kind: str) -> None:
    rows = rows_of(kind, 16, 512)
    some = np.random.default_rng(1).random(512) < 0.8
    for imatrix in (imatrix_of(512), imatrix_of(512) * some, np.ones(512, np.float32), np.zeros(512, np.float32)):
        check_against_ggml(rows, type, imatrix)


@WITH_IMATRIX
def test_an_imatrix_is_worth_it(type: Type) -> None:
    """With an imatrix, the same bits have less error where it is large, and more elsewhere."""
    rows, imatrix = rows_of("ordinary", 32, 512), imatrix_of(512)
    weighed, not_weighed = (readings(blocks_of(rows, type, of), type)["gguf"] for of in (imatrix, None))
    assert error(rows, weighed, type, imatrix) < 0.99 * error(rows, not_weighed, type, imatrix)
    assert error(rows, weighed, type) > error(rows, not_weighed, type)


# Importances; of k-quants none is 0, for which some of their blocks are not ggml's (below).
IMPORTANCES = {True: st.floats(2.0**-7, 2.0**7, width=32), False: st.just(0.0) | st.floats(0, 2.0**20, width=32)}


@WITH_IMATRIX
@settings(max_examples=100)
@given(data=st.data())
def test_with_any_imatrix_rows_become_finite_blocks_no_worse_than_ggmls(type: Type, data: st.DataObject) -> None:
    rows = data.draw(any_rows(type))
    imatrix = data.draw(arrays(np.float32, rows.shape[1], elements=IMPORTANCES[type in K_QUANTS]))
    check_against_ggml(rows, type, imatrix)


@WITH_IMATRIX
@settings(max_examples=40)
@given(n=st.integers(1, 40), n_blocks=st.integers(1, 5), stored=st.sampled_from(FLOATS), seed=st.integers(0, 2**32 - 1))
def test_with_an_imatrix_rows_of_other_sizes_do_not_disturb_each_other(
    type: Type, n: int, n_blocks: int, stored: Type, seed: int
) -> None:
    """The mean square of a row is in the weights of Q4_0 to Q5_1; rows of any number of blocks share a tile."""
    random, row = np.random.default_rng(seed), n_blocks * type.block
    data, rows = as_stored(ordinary(random, (n, row)) * 10.0 ** random.integers(-3, 4, (n, 1)), stored)
    imatrix = imatrix_of(row, seed)
    expected = ggml_blocks(rows, type, imatrix)
    for variant in (variant for each, variant in CASES if each is type):
        others = differing(simd.quantize_rows(data, stored, type, imatrix=imatrix, variant=variant), expected, type)
        assert len(others) <= (0 if EXACT else 0.05 * n * n_blocks + 1)


@WITH_IMATRIX
def test_an_imatrix_of_few_large_values_does_not_spoil_blocks(type: Type) -> None:
    """Where hardly a weight of a sub-block matters, the search may find a negative scale. Ours makes 0 of it, ggml
    what its last bits are, such as 63 of -1. So few blocks differ; in sum they are no worse, though one may be."""
    random = np.random.default_rng(2)
    n = n_differing = 0
    ours = ggmls = 0.0
    for kind in KINDS:
        rows, imatrix = rows_of(kind, 16, 512), imatrix_of(512) * (random.random(512) < 0.1)
        blocks, expected = blocks_of_every_variant(rows, type, imatrix), ggml_blocks(rows, type, imatrix)
        read = readings(blocks, type)["gguf"]
        assert np.isfinite(read).all()
        n += rows.size // type.block
        n_differing += len(differing(blocks, expected, type))
        ours += error(rows, read, type, imatrix)
        ggmls += error(rows, readings(expected, type)["gguf"], type, imatrix)
    assert n_differing <= 0.01 * n
    assert ours <= ggmls * TOLERANCE


# However it is cut, and whoever does it.


@TYPE
@given(cuts=st.lists(st.integers(0, 26), max_size=6).map(sorted), weighed=st.booleans())
def test_any_cut_into_runs_of_rows_gives_the_same_bytes(type: Type, cuts: list[int], weighed: bool) -> None:
    rows = rows_of("sub-blocks of any size", 26, 3 * type.block)
    imatrix = imatrix_of(3 * type.block) if weighed and simd.takes_imatrix(type) else None
    runs = [blocks_of(run, type, imatrix) for run in np.split(rows, cuts)]
    assert np.array_equal(np.concatenate(runs), blocks_of(rows, type, imatrix))


@TYPE
def test_threads_that_share_a_scratch_give_the_bytes_of_one(type: Type) -> None:
    rows = rows_of("ordinary", 48, 1024)
    data, parts = rows.view(np.uint8), [slice(0, 5), slice(5, 6), slice(6, 30), slice(30, 48)]
    scratch, together = Scratch(), threading.Barrier(len(parts), timeout=60)

    def work(part: slice) -> Bytes:
        together.wait()  # all begin at once
        for _ in range(4):
            blocks = simd.quantize_rows(data[part], F32, type, scratch)
        together.wait()  # all have written before any looks
        return blocks.copy()

    with ThreadPoolExecutor(len(parts)) as pool:
        assert np.array_equal(np.concatenate([*pool.map(work, parts)]), blocks_of(rows, type))


@STORED
@TYPE
def test_blocks_that_do_not_fill_the_lanes_are_the_same_and_nothing_is_written_behind_them(
    type: Type, stored: Type
) -> None:
    data, _ = as_stored(rows_of("ordinary", 20, type.block), stored)
    expected = simd.quantize_rows(data, stored, type)
    for variant in (variant for each, variant in CASES if each is type):
        for n in range(1, 21):
            scratch = Scratch()
            scratch.buffer = np.full(n * type.block_bytes + 512, 0xA5, np.uint8)
            found = simd.quantize_rows(data[:n], stored, type, scratch, variant=variant)
            assert np.array_equal(found, expected[:n])
            assert (scratch.buffer[n * type.block_bytes :] == 0xA5).all()


@STORED
@TYPE
def test_rows_may_begin_anywhere_and_be_read_only(type: Type, stored: Type) -> None:
    """As they do in a mapped file, whose header has any number of bytes."""
    data, _ = as_stored(rows_of("ordinary", 7, 512), stored)
    expected = simd.quantize_rows(data, stored, type)
    for offset in (1, 2, 3, 5, 61):
        file = bytes(offset) + data.tobytes()
        rows = np.frombuffer(file, np.uint8, offset=offset).reshape(data.shape)
        assert not rows.flags.writeable
        assert rows.ctypes.data + rows.nbytes == np.frombuffer(file, np.uint8).ctypes.data + len(file)  # nothing behind
        assert np.array_equal(simd.quantize_rows(rows, stored, type), expected)
    assert data.tobytes() == file[offset:]  # and are what they were


@STORED
@TYPE
def test_rows_need_not_lie_together(type: Type, stored: Type) -> None:
    data, _ = as_stored(rows_of("ordinary", 8, 1024), stored)
    for rows in (data[::2], data[::-1], data[:, data.shape[1] // 2 :], np.asfortranarray(data)):
        assert not rows.flags.c_contiguous
        expected = simd.quantize_rows(rows.copy(order="C"), stored, type)
        assert np.array_equal(simd.quantize_rows(rows, stored, type), expected)


@WITH_IMATRIX
def test_an_imatrix_need_not_lie_together_nor_be_float32(type: Type) -> None:
    rows, imatrix = rows_of("ordinary", 4, 512), imatrix_of(512)
    expected = blocks_of(rows, type, imatrix)
    for same in (imatrix.repeat(2)[::2], imatrix.astype(np.float64)):
        assert np.array_equal(blocks_of(rows, type, same), expected)  # type: ignore[arg-type]


@TYPE
def test_no_rows_become_no_blocks(type: Type) -> None:
    assert blocks_of(np.empty((0, 512), np.float32), type).shape == (0, type.nbytes(512))


@TYPE
def test_rows_of_each_kind_side_by_side_do_not_disturb_each_other(type: Type) -> None:
    """Blocks of one tile are searched together; what is in one lane must not be felt in another."""
    rows = rows_of_each_kind(2, type.block)
    mixed = rows[np.random.default_rng(3).permutation(len(rows))]
    one_by_one = np.concatenate([blocks_of(row[None], type) for row in mixed])
    assert np.array_equal(blocks_of_every_variant(mixed, type), one_by_one)


# ── products of low rank ─────────────────────────────────────────────────────────────────────────────────────────────

ADDING = [*simd.variants(), "none"]  # the last: without the kernels


def low_rank(n: int, row: int, rank: int, seed: int = 0) -> tuple[Rows, Rows, Rows]:
    rng = np.random.default_rng(seed)
    return tuple(rng.standard_normal(shape, np.float32) for shape in ((n, row), (n, rank), (rank, row)))  # type: ignore[return-value]


def added(rows: Rows, b: Rows, a: Rows, variant: str) -> Rows:
    sums = rows.copy()
    simd.add_low_rank(sums, b, a, variant)
    return sums


@given(
    n=st.integers(1, 9), row=st.sampled_from([1, 3, 7, 8, 15, 16, 31, 32, 33, 100, 256]), rank=st.integers(1, 24),
    seed=st.integers(0, 1000),
)  # fmt: skip
def test_every_variant_gives_the_same_bits_and_the_exact_sum_but_for_rounding(
    n: int, row: int, rank: int, seed: int
) -> None:
    rows, b, a = low_rank(n, row, rank, seed)
    exact = rows.astype(np.float64) + b.astype(np.float64) @ a
    results = [added(rows, b, a, variant) for variant in ADDING]
    for found in results[1:]:
        assert np.array_equal(found.view(np.uint32), results[0].view(np.uint32))
    bound = (rank + 2) * np.finfo(np.float32).eps * (np.abs(rows) + np.abs(b) @ np.abs(a))
    assert np.all(np.abs(results[0] - exact) <= bound)


@pytest.mark.parametrize("variant", ADDING)
def test_a_run_of_rows_is_that_of_the_whole(variant: str) -> None:
    rows, b, a = low_rank(50, 96, 5)
    whole = added(rows, b, a, variant)
    for first, last in ((0, 1), (1, 4), (4, 11), (11, 50)):
        part = added(rows[first:last], np.ascontiguousarray(b[first:last]), a, variant)
        assert np.array_equal(part, whole[first:last])


def test_what_is_not_a_number_stays_visible() -> None:
    rows, b, a = low_rank(4, 32, 2)
    b[1, 0] = np.nan
    for variant in ADDING:
        assert np.isnan(added(rows, b, a, variant)).any(axis=1).tolist() == [False, True, False, False]
