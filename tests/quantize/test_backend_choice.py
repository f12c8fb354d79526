"""Which code makes the blocks: the kernels where they are as good as ggml, and ggml everywhere else."""

import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mimo_convert.formats.gguf import read_gguf
from quantize import backend_choice, kernels, simd
from quantize.backend_choice import choose_backend, sample, sample_imatrix, weighted_error
from quantize.backends import BackendWarning
from quantize.errors import InputError
from quantize.kernels import Bytes, Floats, is_float, quantize_rows
from quantize.types import TYPES, Type

from .blocks import BLOCK_TYPES, WEIGHTED

Q4_K = TYPES["q4_k"]


@pytest.fixture
def nothing_known() -> Iterator[None]:
    """Nothing is remembered of comparisons, neither before the test nor after it."""
    caches = backend_choice._problem, backend_choice._is_contracted
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.fixture
def spoiled(monkeypatch: pytest.MonkeyPatch, nothing_known: None) -> None:
    """Kernels whose blocks have a wrong bit in every byte."""
    whole = simd.quantize_rows

    def spoil(rows: Bytes, stored: Type, type: Type, *rest: Any, **options: Any) -> Bytes:
        blocks = whole(rows, stored, type, *rest, **options)
        blocks[:, -16:] ^= 0x41
        return blocks

    monkeypatch.setattr(simd, "quantize_rows", spoil)


@pytest.mark.parametrize("type", BLOCK_TYPES, ids=lambda type: type.name)
def test_every_kernel_there_is_passes_its_comparison_with_ggml(type: Type) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = "simd" if simd.has_kernel(type) else "ggml"
        assert choose_backend(type, "auto") == choose_backend(type, "simd") == expected
    assert choose_backend(type, "ggml") == "ggml"


@pytest.mark.usefixtures("spoiled")
@pytest.mark.parametrize("type", [type for type in BLOCK_TYPES if simd.has_kernel(type)], ids=lambda type: type.name)
def test_a_kernel_that_is_worse_than_ggml_gives_way_to_it_with_a_warning(type: Type) -> None:
    with pytest.warns(BackendWarning, match=rf"kernel of {type.name} has an error of .*ggml is used"):
        assert choose_backend(type, "auto") == "ggml"
    with pytest.raises(InputError, match=rf"--quantizer simd: the .* kernel of {type.name} .*expected auto or ggml"):
        choose_backend(type, "simd")
    assert choose_backend(type, "ggml") == "ggml"


@pytest.fixture
def spoiled_with_imatrix(monkeypatch: pytest.MonkeyPatch, nothing_known: None) -> None:
    """Kernels that take the importances of columns for those of other columns."""
    whole = simd.quantize_rows

    def spoil(*rest: Any, imatrix: Floats | None = None, **options: Any) -> Bytes:
        return whole(*rest, imatrix=None if imatrix is None else np.roll(imatrix, 1), **options)

    monkeypatch.setattr(simd, "quantize_rows", spoil)


@pytest.mark.usefixtures("spoiled_with_imatrix")
@pytest.mark.parametrize("type", [type for type in WEIGHTED if simd.has_kernel(type)], ids=lambda type: type.name)
def test_a_kernel_that_is_wrong_with_an_imatrix_alone_gives_way_to_ggml(type: Type) -> None:
    with pytest.warns(BackendWarning, match=rf"kernel of {type.name} has an error of .* weights and an imatrix, where"):
        assert choose_backend(type, "auto") == "ggml"


def test_the_importances_of_the_comparison_are_as_spread_as_those_of_a_calibration() -> None:
    imatrix = sample_imatrix(1024)
    assert (imatrix > 0).all()
    assert np.quantile(imatrix, 0.95) > 30 * np.quantile(imatrix, 0.25)


def test_the_weighted_error_of_a_column_counts_by_its_importance() -> None:
    rows, type = np.random.default_rng(5).standard_normal((8, 256), np.float32), TYPES["q4_0"]
    blocks, columns = quantize_rows(rows, type), np.eye(256, dtype=np.float32)
    by_column = [weighted_error(rows, blocks, type, column) for column in columns]
    assert sum(by_column) == pytest.approx(weighted_error(rows, blocks, type))
    assert weighted_error(rows, blocks, type, 3 * columns[7]) == pytest.approx(3 * by_column[7])


@pytest.fixture
def contracted(monkeypatch: pytest.MonkeyPatch, nothing_known: None) -> None:
    """A ggml one of whose blocks is another, by the last bit of a weight."""
    whole = kernels.quantize_rows

    def contract(rows: Floats, type: Type, *rest: Any, **options: Any) -> Bytes:
        blocks = whole(rows, type, *rest, **options)
        if not is_float(type):
            blocks[len(blocks) // 2, -1] ^= 1
        return blocks

    monkeypatch.setattr(kernels, "quantize_rows", contract)


@pytest.mark.usefixtures("contracted")
@pytest.mark.parametrize("type", [type for type in BLOCK_TYPES if simd.has_kernel(type)], ids=lambda type: type.name)
def test_a_ggml_that_makes_other_blocks_goes_by_another_name(type: Type) -> None:
    assert choose_backend(type, "ggml") == "ggml-contracted"
    assert choose_backend(type, "auto") == "simd"


@pytest.mark.parametrize("type", BLOCK_TYPES, ids=lambda type: type.name)
def test_the_comparison_is_of_a_few_thousand_blocks_with_many_kinds_of_weights(type: Type) -> None:
    kinds = sample(type.block)
    assert sum(len(rows) for rows in kinds.values()) >= 2000
    for kind, rows in kinds.items():
        assert rows.shape[1] == type.block
        assert np.abs(rows).max() < 65504
        assert np.array_equal(rows, sample(type.block)[kind]), "the verdict is the same every time"
    assert (kinds["constant"] == kinds["constant"][:, :1]).all()
    assert kinds["positive"].min() >= 0 >= kinds["negative"].max()
    assert 0 < np.mean(kinds["sparse"] != 0) < 0.1
    assert 0 < np.abs(kinds["tiny"]).max() < 1e-5
    assert np.abs(kinds["huge"]).max() > 10_000


def test_the_weighted_error_is_zero_for_exact_blocks_and_grows_with_every_step_off() -> None:
    levels = np.tile(np.arange(-8, 8, dtype=np.float32), 16)[None]
    blocks = quantize_rows(levels, TYPES["q4_0"])
    exact = weighted_error(levels, blocks, TYPES["q4_0"])
    assert exact == 0
    one_off = blocks.copy()
    one_off[0, 5] ^= 0x01
    two_off = one_off.copy()
    two_off[0, 9] ^= 0x01
    errors = [weighted_error(levels, some, TYPES["q4_0"]) for some in (one_off, two_off)]
    assert 0 < errors[0] < errors[1]
    assert weighted_error(levels * 100, quantize_rows(levels * 100, TYPES["q4_0"]), TYPES["q4_0"]) == 0


INSTALLED_OTHERWISE = """
import sys
import quantize
folder, *arguments = sys.argv[1:]
quantize.__path__[:] = [folder, *(folder for folder in quantize.__path__ if "site-packages" not in folder)]
from mimo_commands.convert import main
main(arguments)
"""


def run_with_kernels_in(folder: Path, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """mimo-convert with what there is of kernels in `folder`, in place of its own."""
    command = [sys.executable, "-c", INSTALLED_OTHERWISE, folder, "tiny", "--no-check", "--outtype", "q4_k", *arguments]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)


def test_where_there_are_no_kernels_ggml_does_the_work(tmp_path: Path) -> None:
    for name, options in {"a": [], "b": ["--quantizer", "ggml"]}.items():
        done = run_with_kernels_in(tmp_path, "--out", tmp_path / name, *options)
        assert (done.returncode, done.stderr) == (0, "")
        assert "quantized by ggml" in done.stdout
    files = [tmp_path / name / "mimo-asr-q4_k.gguf" for name in ("a", "b")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert read_gguf(files[0]).metadata["mimo_convert.quantizer"] == "ggml"


def test_asking_for_kernels_where_there_are_none_is_one_line_and_writes_nothing(tmp_path: Path) -> None:
    done = run_with_kernels_in(tmp_path, "--out", tmp_path / "x", "--quantizer", "simd")
    assert done.returncode == 2
    assert done.stderr == (
        "error: --quantizer simd: there are no kernels for this processor or platform; expected auto or ggml\n"
    )
    assert not (tmp_path / "x").exists()


def test_kernels_that_cannot_be_loaded_are_done_without_and_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "lanes").mkdir()
    (tmp_path / "lanes" / "lanes.so").write_bytes(b"damaged")
    done = run_with_kernels_in(tmp_path, "--out", tmp_path / "x")
    assert done.returncode == 0
    [line] = done.stderr.splitlines()
    assert line.startswith(f"warning: {tmp_path}/lanes/lanes.so: ")
    assert line.endswith("; ggml is used: install mimo-convert again")
    assert "quantized by ggml" in done.stdout
