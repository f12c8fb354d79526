"""mimo-convert --feedback: files of error feedback, what they record, and second moments that are refused."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import pytest

from mimo_api.quantization import QuantizeOptions, quantize
from mimo_convert.formats.hessians import folder_of, open_hessians
from mimo_convert.formats.imatrix import read_calibration, write_calibration
from mimo_convert.write import choices
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


def test_a_file_of_fused_rows_is_quantized_as_the_checkpoint(
    lm: Path, tokenizer: Path, calibrated: Path, tmp_path: Path
) -> None:
    told = convert(lm, tokenizer, tmp_path / "direct", "--imatrix", calibrated, "--feedback")
    result = invoke(lm, "--tokenizer", tokenizer, "--outtype", "f32", "--fuse-qkv", "--out", tmp_path)
    assert result.exit_code == 0, result.stderr
    file = tmp_path / "split.gguf"
    quantize(
        QuantizeOptions(
            tmp_path / "mimo-asr-f32.gguf", file, outtype="q4_k", fuse_qkv=False, imatrix=calibrated, feedback=True
        )
    )
    assert methods_of(gguf_metadata(file)) == methods_of(told)
    direct, split = gguf_tensors(tmp_path / "direct" / "mimo-asr-q4_k.gguf"), gguf_tensors(file)
    assert {name: one.data for name, one in direct.items()} == {name: one.data for name, one in split.items()}


def test_any_number_of_threads_gives_the_same_bytes(
    lm: Path, tokenizer: Path, calibrated: Path, tmp_path: Path
) -> None:
    files = []
    for threads in (1, 3):
        out = tmp_path / str(threads)
        convert(lm, tokenizer, out, "--imatrix", calibrated, "--feedback", "--threads", threads)
        files.append((out / "mimo-asr-q4_k.gguf").read_bytes())
    assert files[0] == files[1]


def test_what_was_chosen_is_not_chosen_again(lm: Path, tokenizer: Path, calibrated: Path, tmp_path: Path) -> None:
    options = ("--imatrix", calibrated, "--feedback")
    first = methods_of(convert(lm, tokenizer, tmp_path / "first", *options))
    kept = folder_of(calibrated) / "choices.json"
    chosen = json.loads(kept.read_text())
    kept.write_text(json.dumps({key: {**one, "method": "imatrix"} for key, one in chosen.items()}))
    assert set(methods_of(convert(lm, tokenizer, tmp_path / "second", *options)).values()) == {"imatrix"}
    kept.write_text("{")  # damaged: everything is chosen again
    assert methods_of(convert(lm, tokenizer, tmp_path / "third", *options)) == first


def test_an_interrupted_run_goes_on_with_what_was_chosen(
    lm: Path, tokenizer: Path, calibrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--imatrix", calibrated, "--feedback")
    chosen, choose_of = list[str](), choices.choose_of

    def choose_or_end(group: Sequence[choices.Matrix], *about: Any) -> Any:
        if len(chosen) == 3:
            raise KeyboardInterrupt
        return choose(group, *about)

    def choose(group: Sequence[choices.Matrix], *about: Any) -> Any:
        chosen.append(group[0].name)
        return choose_of(group, *about)

    monkeypatch.setattr(choices, "SAVED_EVERY", 0.0)
    monkeypatch.setattr(choices, "choose_of", choose_or_end)
    arguments = (lm, "--tokenizer", tokenizer, "--outtype", "q4_k", "--out", tmp_path / "again", *options)
    assert invoke(*arguments).exit_code == 130
    before, chosen = chosen, []
    monkeypatch.setattr(choices, "choose_of", choose)
    told = convert(lm, tokenizer, tmp_path / "again", *options)
    assert len(before) == 3
    assert not set(before) & set(chosen)
    monkeypatch.setattr(choices, "choose_of", choose_of)
    (folder_of(calibrated) / "choices.json").unlink()
    assert convert(lm, tokenizer, tmp_path / "whole", *options) == told
    files = [(tmp_path / out / "mimo-asr-q4_k.gguf").read_bytes() for out in ("again", "whole")]
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
    hashed = read_calibration(calibrated)
    write_calibration(calibrated, replace(hashed, hessians={}))  # the folder is that of another calibration now
    check_one_line(invoke(*common, "--imatrix", calibrated), calibrated, "has no second moments")
