"""The kernels under AddressSanitizer and UndefinedBehaviorSanitizer, by lanes_driver.cpp; and what contraction does.

With LANES_TARGET=aarch64 (`make neon`) they are built by a cross compiler and run by an emulator, against the bytes of
this machine's own.
"""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from quantize import simd
from quantize.kernels import BITS
from quantize.types import F32, TYPES, Type
from tests.system.once import once

from .blocks import (
    BLOCK_TYPES,
    FLOATS,
    WEIGHTED,
    Bytes,
    Rows,
    as_stored,
    differing,
    error,
    ggml_blocks,
    imatrix_of,
    readings,
    rows_of,
    rows_of_each_kind,
)

ROOT = Path(__file__).parents[2]
CMAKE = (sys.executable, "-m", "cmake")
TARGET = os.environ.get("LANES_TARGET", "native")
ON_TARGET: dict[str, tuple[str, ...]] = {"native": (), "aarch64": ("qemu-aarch64", "-L", "/usr/aarch64-linux-gnu")}
FOR_TARGET: dict[str, tuple[str, ...]] = {
    "native": (),
    "aarch64": (
        "-DCMAKE_SYSTEM_NAME=Linux",
        "-DCMAKE_SYSTEM_PROCESSOR=aarch64",
        "-DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++",
    ),
}
VARIANTS = simd.variants() if TARGET == "native" else ("neon",)
BAD_CALL = 2
Ended = subprocess.CompletedProcess[bytes]

CASES = [
    (type, variant)
    for type in BLOCK_TYPES
    for variant in VARIANTS
    if TARGET != "native" or simd.has_kernel(type, variant)
]
EACH = pytest.mark.parametrize(("type", "variant"), CASES, ids=[f"{type.name}-{variant}" for type, variant in CASES])
WEIGHED = pytest.mark.parametrize(
    ("type", "variant"),
    [case for case in CASES if case[0] in WEIGHTED],
    ids=[f"{type.name}-{variant}" for type, variant in CASES if type in WEIGHTED],
)
STORED = pytest.mark.parametrize("stored", FLOATS, ids=lambda type: type.name)


@dataclass
class Driver:
    """A build of lanes_driver, and a folder for its files."""

    program: Path
    folder: Path

    def run(self, *arguments: object) -> Ended:
        # Leaks cannot be looked for under an emulator.
        options = {**os.environ, "ASAN_OPTIONS": f"detect_leaks={int(TARGET == 'native')}"}
        command = [*ON_TARGET[TARGET], str(self.program), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, env=options, timeout=300)

    def file(self, name: str, data: Bytes | Rows) -> Path:
        path = self.folder / name
        path.write_bytes(data.tobytes())
        return path

    def quantize(
        self, data: Bytes, stored: Type, type: Type, variant: str, imatrix: Rows | None = None, wrong: str = ""
    ) -> Ended:
        row = data.shape[1] // stored.block_bytes
        files = [self.file("rows", data)]
        if imatrix is not None:
            files.append(self.file("imatrix", imatrix))
        options = [f"--wrong={wrong}"] if wrong else []
        return self.run(variant, type.ggml, stored.ggml, row, type.nbytes(row), *files, *options)

    def add_low_rank(self, rows: Rows, b: Rows, a: Rows, variant: str, wrong: str = "") -> Ended:
        files = [self.file(name, x) for name, x in (("rows", rows), ("b", b), ("a", a))]
        options = [f"--wrong={wrong}"] if wrong else []
        return self.run(variant, "add_low_rank", *a.shape, *files, *options)

    def blocks(self, data: Bytes, stored: Type, type: Type, variant: str, imatrix: Rows | None = None) -> Bytes:
        """The blocks of a run that ended well, and without a word."""
        ended = self.quantize(data, stored, type, variant, imatrix)
        assert ended.stderr.decode() == ""
        assert ended.returncode == 0
        return np.frombuffer(ended.stdout, np.uint8).reshape(len(data), -1)


def build(folder: Path, *options: str) -> None:
    for command in (
        (*CMAKE, "-S", ROOT, "-B", folder, "-DLANES_DRIVER=ON", *FOR_TARGET[TARGET], *options),
        (*CMAKE, "--build", folder, "--parallel", "2", "--target", "lanes_driver"),
    ):
        ended = subprocess.run([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert ended.returncode == 0, ended.stdout


def built(factory: pytest.TempPathFactory, name: str, *options: str) -> Driver:
    """A driver that is built once for all workers, with a folder of this one's for its files."""
    folder = once(factory, name, lambda folder: build(folder, *options))
    return Driver(folder / "lanes_driver", factory.mktemp(name))


@pytest.fixture(scope="session")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Driver:
    return built(tmp_path_factory, "sanitized", "-DLANES_SANITIZE=ON", "-DCMAKE_CXX_FLAGS=-O0")


@pytest.fixture(scope="session")
def contracted(tmp_path_factory: pytest.TempPathFactory) -> Driver:
    """Kernels in which a × b + c may be one rounding, as in a ggml that was built for processors that can."""
    alone = f"-DLANES_VARIANTS={VARIANTS[0]}"
    return built(tmp_path_factory, "contracted", "-DLANES_CONTRACT=ON", alone, "-DCMAKE_CXX_FLAGS=-O2")


# Under sanitizers. The driver calls a kernel with a row, then two, then three, …: 105 rows are 14 calls, and the last
# blocks of a call fill the lanes of any variant in some of them, and do not in others.

PER_KIND = 6


@STORED
@EACH
def test_no_kernel_leaves_its_buffers_and_the_bytes_are_those_of_the_package(
    sanitized: Driver, type: Type, variant: str, stored: Type
) -> None:
    data, _ = as_stored(rows_of_each_kind(PER_KIND, type.block), stored)
    assert np.array_equal(sanitized.blocks(data, stored, type, variant), simd.quantize_rows(data, stored, type))


@STORED
@WEIGHED
def test_nor_with_an_imatrix(sanitized: Driver, type: Type, variant: str, stored: Type) -> None:
    """In rows of three blocks, so that a tile has importances of several parts of a row."""
    row = 3 * type.block
    data, _ = as_stored(rows_of_each_kind(2, row), stored)
    imatrix = imatrix_of(row) * (np.random.default_rng(1).random(row) < 0.7)
    expected = simd.quantize_rows(data, stored, type, imatrix=imatrix)
    assert np.array_equal(sanitized.blocks(data, stored, type, variant, imatrix), expected)


@STORED
@EACH
def test_nan_and_infinity_do_no_harm(sanitized: Driver, type: Type, variant: str, stored: Type) -> None:
    """No rows with these come here; if they do, no more than their blocks is lost."""
    data, _ = as_stored(rows_of_each_kind(PER_KIND, type.block), stored)
    random = np.random.default_rng(2)
    bits = BITS[stored.name]
    infinity = (
        np.array([np.inf], np.float32) if stored is F32 else as_stored(np.array([[np.inf]], np.float32), stored)[0]
    )
    top = int(infinity.view(bits).item())
    sign = 1 << (8 * np.dtype(bits).itemsize - 1)
    patterns = np.array([top, top | sign, top + 1, (top + 1) | sign, sign - 1, 2 * sign - 1], bits)
    weights = data.view(bits)
    spoilt = np.arange(len(data)) % 2 == 0
    often = random.random((int(spoilt.sum()), 1)) ** 4  # here and there, or all of a row
    weights[spoilt] = np.where(
        random.random(weights[spoilt].shape) <= often, random.choice(patterns, weights[spoilt].shape), weights[spoilt]
    )
    weights[0] = top + 1
    expected = simd.quantize_rows(data[~spoilt], stored, type)
    assert np.array_equal(sanitized.blocks(data, stored, type, variant)[~spoilt], expected)


@WEIGHED
def test_nor_do_they_with_an_imatrix(sanitized: Driver, type: Type, variant: str) -> None:
    rows = rows_of_each_kind(2, 3 * type.block)
    rows[::2, ::5], rows[::4, ::7] = np.inf, np.nan
    imatrix = imatrix_of(3 * type.block)
    expected = simd.quantize_rows(rows[1::2].view(np.uint8), F32, type, imatrix=imatrix)
    assert np.array_equal(sanitized.blocks(rows.view(np.uint8), F32, type, variant, imatrix)[1::2], expected)


def factors_of(n: int, rank: int, row: int) -> tuple[Rows, Rows, Rows]:
    """Rows, and B and A of what is added to them."""
    random = np.random.default_rng(rank)
    x, b, a = (random.standard_normal(shape, np.float32) for shape in ((n, row), (n, rank), (rank, row)))
    return x, b, a


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("shape", [(10, 1, 1), (21, 9, 67), (36, 16, 128)], ids=str)
def test_what_an_adapter_adds_stays_in_its_rows(sanitized: Driver, variant: str, shape: tuple[int, int, int]) -> None:
    """Of 1, 2, 3, … rows, some of which fill no tile; the sums are those of the package."""
    rows, b, a = factors_of(*shape)
    ended = sanitized.add_low_rank(rows, b, a, variant)
    assert (ended.stderr.decode(), ended.returncode) == ("", 0)
    simd.add_low_rank(rows, b, a)
    assert ended.stdout == rows.tobytes()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("wrong", ["rows", "b", "a"])
def test_the_sanitizers_see_what_is_wrong_in_a_sum(sanitized: Driver, variant: str, wrong: str) -> None:
    ended = sanitized.add_low_rank(*factors_of(6, 5, 70), variant, wrong)
    assert ended.returncode not in (0, BAD_CALL)
    assert "heap-buffer-overflow" in ended.stderr.decode()
    assert "low_rank.h" in ended.stderr.decode()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("wrong", "report"),
    [
        ("rows", "heap-buffer-overflow"),
        ("imatrix", "heap-buffer-overflow"),
        ("blocks", "heap-buffer-overflow"),
        ("count", "signed integer overflow"),
    ],
)
def test_the_sanitizers_see_what_is_wrong_in_a_kernel(sanitized: Driver, variant: str, wrong: str, report: str) -> None:
    """A buffer that is a byte too small, or an integer that is too large: that all else is silent says something."""
    rows, type = rows_of("ordinary", 3, 512).view(np.uint8), TYPES["q4_k"]
    assert sanitized.quantize(rows, F32, type, variant, imatrix_of(512)).returncode == 0
    ended = sanitized.quantize(rows, F32, type, variant, imatrix_of(512), wrong)
    assert ended.returncode not in (0, BAD_CALL)
    assert report in ended.stderr.decode()
    assert "variant.cpp" in ended.stderr.decode()  # where the kernels touch them


def test_a_bad_call_of_the_driver_says_so_in_a_line(sanitized: Driver) -> None:
    rows, imatrix = sanitized.file("good", rows_of("ordinary", 2, 256)), sanitized.file("short", imatrix_of(255))
    variant, missing = VARIANTS[0], sanitized.folder / "missing"
    for arguments, words in [
        ((variant, 12, 0, 256), "usage"),
        ((variant, 12, 0, "many", 144, rows), "usage"),
        (("mmx", 12, 0, 256, 144, rows), "no variant mmx"),
        ((variant, 99, 0, 256, 144, rows), "no kernel for type 99"),
        ((variant, 12, 12, 256, 144, rows), "not of floats"),
        ((variant, 12, 0, 512 + 256, 432, rows), "no whole rows"),
        ((variant, 12, 0, 256, 144, missing), "cannot read"),
        ((variant, 12, 0, 256, 144, rows, imatrix), "not one row"),
        ((variant, 8, 0, 256, 272, rows, imatrix), "takes no imatrix"),
        ((variant, "add_low_rank", 2, 256, rows, imatrix), "usage"),
        ((variant, "add_low_rank", 2, 257, rows, rows, rows), "no whole rows"),
        ((variant, "add_low_rank", 2, 256, rows, imatrix, rows), "not of that rank"),
    ]:
        ended = sanitized.run(*arguments)
        assert ended.returncode == BAD_CALL
        assert words in ended.stderr.decode()
        assert ended.stdout == b""


# Contraction. The build forbids it, so that blocks are those of a ggml that was built without. Kernels of the same
# source that may contract show what sets ours and a ggml that contracts apart: rounding, and nothing else.

CONTRACTED = pytest.mark.parametrize("type", BLOCK_TYPES, ids=lambda type: type.name)
TIED = pytest.mark.parametrize(
    ("name", "top", "first"),
    [("q2_k", 3, -0.5), ("q5_k", 31, -0.5)],  # levels up to `top`; the search's first inverse scale is for top + first
    ids=["q2_k", "q5_k"],
)


def contracted_blocks(contracted: Driver, rows: Rows, type: Type) -> Bytes:
    return contracted.blocks(rows.view(np.uint8), F32, type, VARIANTS[0])


@CONTRACTED
def test_with_contraction_blocks_are_as_good_in_sum(contracted: Driver, type: Type) -> None:
    rows = rows_of("ordinary", 256, 1024)
    ours, ggmls = contracted_blocks(contracted, rows, type), ggml_blocks(rows, type)
    ratio = error(rows, readings(ours, type)["gguf"], type) / error(rows, readings(ggmls, type)["gguf"], type)
    assert 0.99 < ratio < 1.01


@pytest.mark.parametrize("name", ["q6_k", "iq4_nl", "iq4_xs"])
def test_with_contraction_blocks_are_ggmls_of_weights_with_another_last_bit(contracted: Driver, name: str) -> None:
    type, random = TYPES[name], np.random.default_rng(4)
    rows = rows_of("ordinary", 256, 1024)
    ours, ggmls = contracted_blocks(contracted, rows, type), ggml_blocks(rows, type)
    others = differing(ours, ggmls, type)
    assert 0 < len(others) < 0.03 * rows.size / type.block
    for number in others:
        weights = rows.reshape(-1, type.block)[number]
        last_bits = random.integers(-1, 2, (256, type.block), np.int32)
        nearby = ggml_blocks((weights.view(np.int32) + last_bits).view(np.float32), type)
        assert (nearby == ours.reshape(-1, type.block_bytes)[number]).all(axis=1).any()


@TIED
def test_with_contraction_the_greatest_weight_of_a_sub_block_is_no_tie(
    contracted: Driver, name: str, top: int, first: float
) -> None:
    """The search first tries a scale for which the greatest weight is half-way between two levels, up to rounding. So
    many blocks differ, but hardly any whose weights span a number whose reciprocal is exact."""
    type, sub_block = TYPES[name], 16 if name == "q2_k" else 32
    tied = rows_of("ordinary", 256, 1024)
    half = np.float32((top + first) / 2 ** np.ceil(np.log2((top + first) / 0.08)) / 2)
    exact = tied.reshape(-1, sub_block).clip(-half, half)
    exact[:, 0], exact[:, 1] = -half, half
    exact = exact.reshape(tied.shape)
    share = {
        key: len(differing(contracted_blocks(contracted, rows, type), ggml_blocks(rows, type), type)) / rows.size
        for key, rows in (("tied", tied), ("exact", exact))
    }
    assert share["tied"] * type.block > 0.1
    assert share["exact"] * type.block < 0.01
