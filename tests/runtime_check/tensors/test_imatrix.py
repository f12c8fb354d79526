"""Files that were quantized with an importance matrix, compared with their checkpoint: given it by their bytes, without
by their error; and what is caught of matrices that were changed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFValueType

from mimo_convert.formats.calibration import Calibration
from mimo_convert.formats.imatrix import read_calibration
from mimo_convert.model.source_model import SourceModel
from mimo_convert.plan.request import Request
from mimo_convert.write.convert import convert
from quantize.errors import InputError
from quantize.recipes import parse_rule
from quantize.types import TYPES
from runtime_check.tensors.compare import compare_tensors
from tests.gguf_edit import Key, rewrite
from tests.opened import model_of_file, options_of
from tests.system.calibrations import Columns, write_imatrix

from .compared import DOWN, flip, model, put, reasons

IMATRIX = "mimo_convert.imatrix"
UPS = [f"model.layers.{layer}.ffn.up.weight" for layer in (0, 1)]


@pytest.fixture(scope="module")
def source(small_lm: Path) -> SourceModel:
    return model(small_lm)


@pytest.fixture(scope="module")
def calibration(small_lm: Path, tmp_path_factory: pytest.TempPathFactory) -> Calibration:
    return read_calibration(write_imatrix(small_lm, tmp_path_factory.mktemp("imatrix") / "x.gguf"))


def made(source: SourceModel, out: Path, calibration: Calibration | None, type_name: str = "q4_k", **more: Any) -> Path:
    options = replace(options_of(**more), calibration=calibration)
    [plan] = convert([Request(source, [TYPES[type_name]], options)], out, threads=2)
    return out / plan.file_name


@pytest.mark.parametrize("fused", [False, True])
def test_given_the_imatrix_every_byte_counts(
    source: SourceModel, calibration: Calibration, tmp_path: Path, fused: bool
) -> None:
    file = made(source, tmp_path, calibration, fuse_qkv=fused)
    found = compare_tensors(model_of_file(file), source, 2, calibration)
    assert (found.passed, found.judged_by, reasons(found)) == (True, "bytes", [])
    assert found.judged_why == "given the imatrix, a changed byte of any weight fails"
    assert all(tensor.equal_rows == tensor.rows for tensor in found.tensors)
    put(DOWN, flip(3, 100, 1))(file)
    found = compare_tensors(model_of_file(file), source, 2, calibration)
    assert [line.partition(" is the first")[0] for line in reasons(found)] == [
        f"tensor {DOWN}: row 3 is not what our kernels make of the source with the imatrix: block 0 (columns 0 to 255)"
    ]


def test_without_it_blocks_are_judged_by_their_error(
    source: SourceModel, calibration: Calibration, tmp_path: Path
) -> None:
    file = made(source, tmp_path, calibration)
    found = compare_tensors(model_of_file(file), source, 2)
    assert (found.passed, found.judged_by) == (True, "error")
    assert found.judged_why == "it was quantized with an imatrix, and --imatrix does not give that"
    put(DOWN, lambda rows: rows[::-1])(file)
    assert not compare_tensors(model_of_file(file), source, 2).passed


def test_another_imatrix_than_the_file_records_is_refused_with_both_hashes(
    source: SourceModel, small_lm: Path, calibration: Calibration, tmp_path: Path
) -> None:
    file, plain = made(source, tmp_path / "a", calibration), made(source, tmp_path / "b", None)
    other = read_calibration(write_imatrix(small_lm, tmp_path / "other.gguf", seed=1))
    for given, of, says in (
        (other, file, f"has the sha256 {other.sha256}; expected {calibration.sha256}, as {file} records; give"),
        (calibration, plain, f"is given for {plain}, which records none; leave it out"),
    ):
        with pytest.raises(InputError) as caught:
            compare_tensors(model_of_file(of), source, 2, given)
        assert str(caught.value).startswith(f"{given.where}: {says}")


def test_layers_swapped_in_the_imatrix_show_in_the_bytes_even_if_the_hash_is_forged(
    source: SourceModel, small_lm: Path, calibration: Calibration, tmp_path: Path
) -> None:
    def swap(columns: Columns) -> None:
        columns[UPS[0]], columns[UPS[1]] = columns[UPS[1]], columns[UPS[0]]

    swapped = read_calibration(write_imatrix(small_lm, tmp_path / "swapped.gguf", swap))
    assert swapped.sha256 != calibration.sha256
    file = made(source, tmp_path / "out", swapped)
    forged = rewrite(
        file, tmp_path / "forged.gguf",
        keys=lambda key: Key(IMATRIX, calibration.sha256, GGUFValueType.STRING) if key.name == IMATRIX else key,
    )  # fmt: skip
    found = compare_tensors(model_of_file(forged), source, 2, calibration)
    assert [tensor.name for tensor in found.tensors if tensor.findings] == UPS


def test_a_tensor_of_a_file_may_be_a_copy_that_was_quantized_without(
    source: SourceModel, calibration: Calibration, tmp_path: Path
) -> None:
    """mimo-quantize --tensor-type lm_head=q6_k --imatrix of a file of plain Q4_K."""
    plain = model_of_file(made(source, tmp_path / "a", None))
    options = replace(options_of(allow_requantize=True), calibration=calibration)
    request = Request(plain, [None], replace(options, rules=(parse_rule("lm_head=q6_k", "test"),)), "x.gguf")
    convert([request], tmp_path, threads=2)
    found = compare_tensors(model_of_file(tmp_path / "x.gguf"), source, 2, calibration)
    assert not [tensor.name for tensor in found.tensors if tensor.findings and "lm_head" not in tensor.name]
