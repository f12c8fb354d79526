"""mimo-convert --feedback: files of error feedback, what they record, and second moments that are refused."""

from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
import pytest

from mimo_convert.formats.hessians import folder_of, open_hessians
from quantize.feedback.choice import METHODS, PLAIN, alpha_of
from quantize.feedback.library import variants
from tests.mimo_convert.formats.moments import write_calibrated
from tests.opened import lint
from tests.readers import checkpoint_tensors, gguf_metadata, gguf_tensors

from ..invoked import check_one_line, invoke

pytestmark = pytest.mark.skipif(not variants(), reason="no kernels for this platform")
KEY = "mimo_convert.feedback"
DOWN, DOWN_SOURCE = "model.layers.1.ffn.down.weight", "model.layers.1.mlp.down_proj.weight"


@pytest.fixture
def calibrated(lm: Path, tmp_path: Path) -> Path:
    return write_calibrated(lm, tmp_path / "speech.gguf")


def convert(lm: Path, tokenizer: Path, out: Path, *options: object) -> dict[str, object]:
    result = invoke(lm, "--tokenizer", tokenizer, "--outtype", "q4_k", "--out", out, *options)
    assert (result.exit_code, result.stderr) == (0, "")
    assert ("matrices by how they are rounded" in result.stdout) == ("--feedback" in options)
    return gguf_metadata(out / "mimo-asr-q4_k.gguf")


def dequantized(path: Path, name: str) -> npt.NDArray[np.float32]:
    stored = gguf_tensors(path)[name]
    blocks = np.frombuffer(stored.data, np.uint8).reshape(stored.shape[0], -1)
    return gguf.dequantize(blocks, gguf.GGMLQuantizationType.Q4_K)


def methods_of(told: dict[str, object]) -> dict[str, str]:
    return dict(line.split("=") for line in str(told[KEY]).splitlines())


def test_errors_on_inputs_are_less_than_by_the_imatrix(
    lm: Path, tokenizer: Path, calibrated: Path, tmp_path: Path
) -> None:
    told = convert(lm, tokenizer, tmp_path / "feedback", "--imatrix", calibrated, "--feedback")
    convert(lm, tokenizer, tmp_path / "imatrix", "--imatrix", calibrated)
    methods = methods_of(told)
    assert set(methods.values()) <= set(METHODS)
    assert alpha_of(methods[DOWN]) is not None
    assert str(told["mimo_convert.quantizer"]).endswith("imatrix + feedback")
    exact = checkpoint_tensors(lm)[DOWN_SOURCE].float().numpy()
    x = open_hessians(folder_of(calibrated)).sample(DOWN)
    errors = {
        how: np.square((dequantized(tmp_path / how / "mimo-asr-q4_k.gguf", DOWN) - exact) @ x.T).sum()
        for how in ("feedback", "imatrix")
    }
    assert errors["feedback"] < 0.7 * errors["imatrix"]
    assert lint(tmp_path / "feedback" / "mimo-asr-q4_k.gguf").passed


def test_threads_and_fused_rows_give_the_same_bytes(
    lm: Path, tokenizer: Path, calibrated: Path, tmp_path: Path
) -> None:
    files = []
    for threads in (1, 3):
        out = tmp_path / str(threads)
        convert(lm, tokenizer, out, "--imatrix", calibrated, "--feedback", "--threads", threads)
        files.append((out / "mimo-asr-q4_k.gguf").read_bytes())
    assert files[0] == files[1]


def test_a_corpus_of_noise_leaves_every_matrix_plain(lm: Path, tokenizer: Path, tmp_path: Path) -> None:
    noise = write_calibrated(lm, tmp_path / "noise.gguf", noise=True)
    told = convert(lm, tokenizer, tmp_path / "noise", "--imatrix", noise, "--feedback")
    assert set(methods_of(told).values()) == {PLAIN}
    convert(lm, tokenizer, tmp_path / "plain")
    one, other = (dequantized(tmp_path / how / "mimo-asr-q4_k.gguf", DOWN) for how in ("noise", "plain"))
    np.testing.assert_array_equal(one, other)


def test_feedback_without_a_calibration_or_its_second_moments_is_refused(
    lm: Path, tokenizer: Path, calibrated: Path, tmp_path: Path
) -> None:
    common = (lm, "--tokenizer", tokenizer, "--outtype", "q4_k", "--out", tmp_path / "out", "--feedback")
    check_one_line(invoke(*common), "--feedback", "needs a calibration")
    alone = tmp_path / "alone.gguf"
    alone.write_bytes(calibrated.read_bytes())
    check_one_line(invoke(*common, "--imatrix", alone), tmp_path / "alone.hessian", ".*mimo-calibrate --hessian")
    assert not (tmp_path / "out").exists()
