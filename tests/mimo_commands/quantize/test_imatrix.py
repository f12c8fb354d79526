"""mimo-quantize --imatrix, and files that were quantized with an importance matrix as its input."""

from pathlib import Path

import pytest

from mimo_convert.formats.imatrix import read_calibration
from tests.mimo_commands.invoked import check_one_line
from tests.readers import ggml_tensors, gguf_metadata
from tests.system.calibrations import write_imatrix

from .quantized import FROM, QUANTIZER, Files, done, quantize

IMATRIX = "mimo_convert.imatrix"
HEAD = "llm.lm_head.weight"


@pytest.fixture
def imatrix(small_lm: Path, tmp_path: Path) -> Path:
    return write_imatrix(small_lm, tmp_path / "imatrix.gguf")


def told(path: Path) -> dict[str, object]:
    return {key: value for key, value in gguf_metadata(path).items() if "imatrix" in key}


def test_fused_and_separate_blocks_are_the_same_and_copies_keep_what_they_were_made_with(
    lm: Files, imatrix: Path, tmp_path: Path
) -> None:
    separate, fused = (
        done(lm(fuse, "f32"), tmp_path / f"{fuse}.gguf", "--outtype", "q4_k", "--imatrix", imatrix)
        for fuse in (False, True)
    )
    assert told(separate)[IMATRIX] == read_calibration(imatrix).sha256
    copied = done(separate, tmp_path / "copied.gguf", "--fuse-qkv")
    assert told(copied) == told(separate) == told(fused)
    assert "imatrix" in gguf_metadata(copied)[QUANTIZER]
    assert {name: t.data for name, t in ggml_tensors(copied).items()} == {
        name: t.data for name, t in ggml_tensors(fused).items()
    }


def test_an_imatrix_of_the_model_that_a_file_was_made_of_is_no_other_models(
    lm: Files, small_lm: Path, tmp_path: Path
) -> None:
    imatrix = write_imatrix(small_lm, tmp_path / "imatrix.gguf", name=small_lm.name)
    result = quantize(lm(False, "f32"), tmp_path / "q4_k.gguf", "--outtype", "q4_k", "--imatrix", imatrix)
    assert (result.exit_code, result.stderr) == (0, "")


def test_blocks_that_are_made_anew_without_it_do_not_claim_it(lm: Files, imatrix: Path, tmp_path: Path) -> None:
    made = done(lm(False, "f32"), tmp_path / "q4_k.gguf", "--outtype", "q4_k", "--imatrix", imatrix)
    again = done(made, tmp_path / "q8_0.gguf", "--outtype", "q8_0", "--allow-requantize")
    assert told(again) == {}
    assert "imatrix" in gguf_metadata(again)[f"{FROM}.0.quantizer"]
    assert "imatrix" not in gguf_metadata(again)[QUANTIZER]


def test_blocks_of_two_matrices_are_not_mixed_in_one_file(
    small_lm: Path, lm: Files, imatrix: Path, tmp_path: Path
) -> None:
    made = done(lm(False, "f32"), tmp_path / "q4_k.gguf", "--outtype", "q4_k", "--imatrix", imatrix)
    other = write_imatrix(small_lm, tmp_path / "other.gguf", seed=1)
    options = [made, tmp_path / "x.gguf", "--tensor-type", "lm_head=q6_k", "--allow-requantize", "--imatrix"]
    shas = [read_calibration(path).sha256 for path in (imatrix, other)]
    says = (
        rf"blocks of .* are copied, of the imatrix {shas[0]}; expected {shas[1]}, as --imatrix; convert the checkpoint"
    )
    check_one_line(quantize(*options, other), made, says)
    assert not (tmp_path / "x.gguf").exists()
    mixed = done(*options, imatrix)
    assert told(mixed) == told(made)
    assert ggml_tensors(mixed)[HEAD].type == "q6_k"
