"""Files of error feedback, compared with their checkpoint: given the second moments by their bytes, without by their
error."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from mimo_convert.formats.calibration import Calibration
from mimo_convert.formats.hessians import folder_of
from mimo_convert.formats.imatrix import read_calibration
from mimo_convert.model.source_model import SourceModel
from mimo_convert.plan.feedback import open_feedback
from mimo_convert.plan.request import Request
from mimo_convert.write.choices import with_choices
from mimo_convert.write.convert import convert
from quantize.errors import InputError
from quantize.feedback.library import variants
from quantize.types import TYPES
from runtime_check.tensors.compare import compare_tensors
from tests.mimo_convert.formats.moments import write_calibrated
from tests.opened import model_of_file, options_of

from .compared import DOWN, flip, model, put, reasons

pytestmark = pytest.mark.skipif(not variants(), reason="no kernels for this platform")


@pytest.fixture
def source(small_lm: Path) -> SourceModel:
    return model(small_lm)


@pytest.fixture
def calibration(small_lm: Path, tmp_path: Path) -> Calibration:
    return read_calibration(write_calibrated(small_lm, tmp_path / "speech.gguf"))


def made(
    source: SourceModel, out: Path, calibration: Calibration, type_name: str = "q4_k", fused: bool = False
) -> Path:
    options = replace(
        options_of(fuse_qkv=fused), calibration=calibration, feedback=open_feedback(calibration, threads=2)
    )
    request = with_choices(Request(source, [TYPES[type_name]], options), threads=2)
    [plan] = convert([request], out, threads=2)
    return out / plan.file_name


@pytest.mark.parametrize(("type_name", "fused"), [("q4_k", True), ("iq4_xs", False)])
def test_given_the_second_moments_every_byte_counts(
    source: SourceModel, calibration: Calibration, tmp_path: Path, type_name: str, fused: bool
) -> None:
    file = made(source, tmp_path / "out", calibration, type_name, fused)
    found = compare_tensors(model_of_file(file), source, 2, calibration)
    assert (found.passed, found.judged_by, reasons(found)) == (True, "bytes", [])
    assert all(tensor.equal_rows == tensor.rows for tensor in found.tensors)
    put(DOWN, flip(3, 100, 1))(file)
    [reason] = reasons(compare_tensors(model_of_file(file), source, 2, calibration))
    assert (
        f"tensor {DOWN}: row 3 is not what our kernels make of the source with the imatrix and error feedback" in reason
    )


def test_without_them_rows_are_judged_by_their_error(
    source: SourceModel, calibration: Calibration, tmp_path: Path
) -> None:
    file = made(source, tmp_path / "out", calibration)
    shutil.rmtree(folder_of(calibration.where))
    found = compare_tensors(model_of_file(file), source, 2, calibration)
    assert (found.passed, found.judged_by) == (True, "error")
    assert found.judged_why.startswith("it was quantized with error feedback, and the second moments are not beside")


def test_second_moments_that_were_changed_are_refused(
    source: SourceModel, calibration: Calibration, tmp_path: Path
) -> None:
    file = made(source, tmp_path / "out", calibration)
    moments = next(folder_of(calibration.where).glob("*.safetensors"))
    data = bytearray(moments.read_bytes())
    data[-5] ^= 1
    moments.write_bytes(data)
    with pytest.raises(InputError, match="sha256"):
        compare_tensors(model_of_file(file), source, 2, calibration)
