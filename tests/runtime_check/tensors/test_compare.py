"""A file compared with its checkpoint or another file: every row, the numbers, and what cannot be compared."""

import shutil
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from mimo_convert.model.source_model import SourceModel
from quantize.errors import InputError
from quantize.types import TYPES
from tests.damage import edit_tensor, set_weight
from tests.opened import check_against, model_of_file
from tests.readers import checkpoint_tensors, ggml_tensors

from .compared import DOWN, QKV, UP, Files, check, check_right, model, reasons, result, write


@pytest.mark.parametrize("outtype", TYPES)
@pytest.mark.parametrize("fused", [False, True], ids=["separate", "fused"])
def test_what_was_converted_is_right(files: Files, lm: SourceModel, outtype: str, fused: bool) -> None:
    found = check_right(files(outtype, fused), lm)
    assert (found.lossless, found.source, found.file) == (True, "small-lm", str(files(outtype, fused)))
    both = (*lm.tensors.values(), *model_of_file(files(outtype, fused)).tensors.values())
    assert found.bytes_read == sum(tensor.nbytes for tensor in both)
    assert len(found.tensors) == len(lm.tensors)
    assert [tensor.name for tensor in found.tensors if ".0.attn.qkv.weight" in tensor.name] == (
        [f"{QKV}[0:128]", f"{QKV}[128:192]", f"{QKV}[192:256]"] if fused else []
    )


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("outtype", ["f32", "f16", "bf16", "q8_0", "q4_k", "iq4_nl"])
def test_so_it_is_of_any_dtype(tokenizers: dict[str, SourceModel], tmp_path: Path, dtype: str, outtype: str) -> None:
    check_right(write(tokenizers[dtype], tmp_path, outtype), tokenizers[dtype])


@pytest.mark.parametrize("options", [{"quantizer": "ggml"}, {"asr_only": True, "fuse_qkv": True}], ids=str)
def test_so_it_is_with_any_options(lm: SourceModel, tmp_path: Path, options: dict[str, object]) -> None:
    check_right(write(lm, tmp_path, "q4_k", **options), lm)


def test_a_tensor_that_was_kept_in_f32_is_right(small_lm: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(small_lm, tmp_path / "lm")
    name = "model.layers.1.mlp.up_proj.weight"
    edit_tensor(folder, name, lambda tensor: tensor.float())
    set_weight(folder, name, 3, -1e30)
    found = check_right(write(model(folder), tmp_path, "q8_0"), model(folder))
    assert result(found, f"model.layers.1.{UP}").type == "f32"


@pytest.mark.parametrize("outtype", ["f16", "q8_0", "q5_k", "q4_1", "iq4_xs"])
def test_numbers_are_those_of_another_reader(files: Files, small_lm: Path, lm: SourceModel, outtype: str) -> None:
    """Dequantized by the `gguf` library, in float64."""
    path = files(outtype, False)
    found = result(check(path, lm), DOWN)
    x = checkpoint_tensors(small_lm)["model.layers.1.mlp.down_proj.weight"].double().numpy()
    tensor = next(t for t in gguf.GGUFReader(path).tensors if t.name == DOWN)
    y = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float64).reshape(x.shape)
    norms = np.linalg.norm(y - x, axis=1) / np.linalg.norm(x, axis=1)
    assert found.rel_rmse == pytest.approx(np.linalg.norm(y - x) / np.linalg.norm(x), rel=1e-5)
    assert found.cosine == pytest.approx(np.sum(x * y) / np.linalg.norm(x) / np.linalg.norm(y), abs=1e-6)
    assert found.worst_rel_rmse == pytest.approx(norms[found.worst_row], rel=1e-5)


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e30])
def test_numbers_of_any_size_are_summed_up(small_tokenizer: Path, tmp_path: Path, scale: float) -> None:
    folder = shutil.copytree(small_tokenizer, tmp_path / "tokenizer")
    edit_tensor(folder, "encoder.layers.0.fc1.weight", lambda tensor: tensor.float() * scale)
    found = result(check_right(write(model(folder), tmp_path, "bf16"), model(folder)), "enc.blk.0.fc1.weight")
    assert 1e-3 < found.rel_rmse < 2e-3
    assert found.cosine == pytest.approx(1, abs=1e-5)


def test_a_row_of_zeros_is_no_error(small_lm: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(small_lm, tmp_path / "lm")
    edit_tensor(folder, "model.embed_tokens.weight", lambda tensor: tensor * (torch.arange(512) != 7)[:, None])
    edit_tensor(folder, "model.norm.weight", lambda tensor: tensor * 0)
    found = check_right(write(model(folder), tmp_path, "q4_k"), model(folder))
    zeros = result(found, "llm.final_norm.weight")
    assert (zeros.rel_rmse, zeros.cosine) == (0, 1)


@pytest.mark.parametrize("reference", ["f16", "q8_0", "q4_k"])
def test_files_of_one_model_are_right_against_each_other(files: Files, reference: str) -> None:
    source = model_of_file(files(reference, True))
    for outtype in TYPES:
        found = check(files(outtype, False), source)
        assert (found.lossless, found.source, reasons(found)) == (False, f"mimo-asr-{reference}.gguf", [])
        assert len(found.tensors) == len(ggml_tensors(files(outtype, False)))


def test_a_file_for_recognition_alone_is_right_against_a_whole_one(
    files: Files, lm: SourceModel, tmp_path: Path
) -> None:
    path = write(lm, tmp_path, "q4_k", asr_only=True)
    assert check(path, model_of_file(files("f16", False))).passed
    [reason] = reasons(check(files("q4_k", False), model_of_file(path)))
    assert reason == "22 tensors of speech generation were not compared: the source has none"


@pytest.mark.parametrize("between", ["f16", "q8_0"])
def test_what_mimo_quantize_made_of_a_file_is_right_against_the_checkpoint(
    small_lm: Path, tmp_path: Path, between: str
) -> None:
    """Weights that F16 cannot hold exactly give other blocks, which are right in a file that says so."""
    folder = shutil.copytree(small_lm, tmp_path / "lm")
    edit_tensor(folder, "model.layers.1.mlp.down_proj.weight", lambda tensor: tensor * 1e-3)
    first = write(model(folder), tmp_path / "first", between)
    second = write(model_of_file(first), tmp_path / "second", "q4_k")
    found = check(second, model(folder))
    assert (reasons(found), found.judged_by) == ([], "bytes")
    assert result(found, DOWN).equal_rows == 256
    assert result(found, DOWN).rel_rmse != result(found, DOWN).expected_rel_rmse


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_checkpoint_that_is_damaged_is_no_source(small_lm: Path, files: Files, tmp_path: Path, value: float) -> None:
    folder = shutil.copytree(small_lm, tmp_path / "lm")
    set_weight(folder, "lm_head.weight", 300, value)
    with pytest.raises(InputError, match=r"tensor lm_head\.weight holds (NaN|infinity) in row 300; "):
        check(files("q4_k", False), model(folder))


def test_threads_change_nothing(files: Files, lm: SourceModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mimo_convert.write.chunks.CHUNK_WEIGHTS", 1000)
    one, many = (check_against(files("q3_k", True), lm, threads).tensors for threads in (1, 5))
    assert one == many
