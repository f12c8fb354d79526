"""mimo-convert --imatrix: blocks, keys, warnings, and importance matrices that are refused."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from mimo_convert.formats.calibration import ColumnSums
from mimo_convert.formats.imatrix import read_calibration
from quantize.kernels import quantize_rows
from quantize.types import TYPES
from tests.opened import lint
from tests.readers import checkpoint_tensors, ggml_tensors, gguf_metadata
from tests.system.calibrations import COUNT, Columns, write_imatrix

from ..invoked import check_one_line, invoke, names

IMATRIX, QUANTIZER = "mimo_convert.imatrix", "mimo_convert.quantizer"
Q, DOWN, QKV = (f"model.layers.1.{name}.weight" for name in ("attn.q", "ffn.down", "attn.qkv"))
FUSED = [f"model.layers.1.self_attn.{name}_proj.weight" for name in "qkv"]


@pytest.fixture
def imatrix(lm: Path, tmp_path: Path) -> Path:
    return write_imatrix(lm, tmp_path / "imatrix.gguf")


def warnings(result: Result) -> list[str]:
    """What is said on stderr beside how far it is."""
    return [line for line in result.stderr.splitlines() if line.startswith("warning: ")]


def expected(lm: Path, sources: list[str], of: ColumnSums, type_name: str) -> bytes:
    """The rows of sources of the checkpoint as ggml quantizes them by the mean squares of one position more, at which
    all columns are alike."""
    tensors = checkpoint_tensors(lm)
    rows = np.concatenate([tensors[name].float().numpy() for name in sources])
    squares = of.squares.astype(np.float64)
    weights = (squares + squares.mean() / of.count) / (of.count + 1)
    return quantize_rows(rows, TYPES[type_name], imatrix=weights.astype(np.float32)).tobytes()


@pytest.mark.parametrize("type_name", ["q4_k", "q2_k", "q5_0", "iq4_xs"])
def test_blocks_are_those_of_ggml_with_the_same_importance(
    lm: Path, tokenizer: Path, imatrix: Path, tmp_path: Path, type_name: str
) -> None:
    columns = read_calibration(imatrix).columns
    for option, tensor, sources in (("--fuse-qkv", QKV, FUSED), ("--no-fuse-qkv", Q, FUSED[:1])):
        out = tmp_path / option
        result = invoke(
            lm, "--tokenizer", tokenizer, "--outtype", type_name, option, "--imatrix", imatrix, "--out", out
        )
        assert (result.exit_code, warnings(result)) == (0, [])
        made = ggml_tensors(out / f"mimo-asr-{type_name}.gguf")
        assert made[tensor].data == expected(lm, sources, columns[tensor], type_name)
        down = ["model.layers.1.mlp.down_proj.weight"]
        assert made[DOWN].data == expected(lm, down, columns[DOWN], type_name)


def test_the_file_says_what_it_was_made_with_and_the_audio_tokenizer_was_not(
    lm: Path, tokenizer: Path, imatrix: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    types = ["--outtype", "q4_k", "--outtype", "q8_0", "--tokenizer-outtype", "q4_0"]
    result = invoke(lm, "--tokenizer", tokenizer, *types, "--imatrix", imatrix, "--out", out)
    assert (result.exit_code, warnings(result)) == (0, [])
    told = gguf_metadata(out / "mimo-asr-q4_k.gguf")
    found = read_calibration(imatrix)
    assert told[IMATRIX] == found.sha256
    assert re.fullmatch(r"(ggml \+ )?(simd \+ )?imatrix", told[QUANTIZER])
    assert {key: value for key, value in told.items() if key.startswith("quantize.")} == {
        "quantize.imatrix.file": "imatrix.gguf",
        "quantize.imatrix.entries_count": len(found.columns),
        "quantize.imatrix.chunks_count": COUNT,
    }
    assert lint(out / "mimo-asr-q4_k.gguf").passed
    for other in ("mimo-asr-q8_0.gguf", "mimo-tokenizer-q4_0.gguf"):  # of which no block depends on it
        told = gguf_metadata(out / other)
        assert "imatrix" not in told[QUANTIZER]
        assert not [key for key in told if "imatrix" in key]


def test_names_of_llama_cpp_are_those_of_the_text_decoder(lm: Path, tokenizer: Path, tmp_path: Path) -> None:
    theirs = {
        "attn.q": "attn_q", "attn.k": "attn_k", "attn.v": "attn_v", "attn.o": "attn_output", "ffn.gate": "ffn_gate",
        "ffn.up": "ffn_up", "ffn.down": "ffn_down",
    }  # fmt: skip

    def text_decoder(columns: Columns) -> None:
        kept = {name: of for name, of in columns.items() if name.startswith("model.layers.") and "qkv" not in name}
        columns.clear()
        columns |= kept

    def as_llama_cpp(columns: Columns) -> None:
        text_decoder(columns)
        for name in list(columns):
            _, _, layer, tensor = name.removesuffix(".weight").split(".", 3)
            columns[f"blk.{layer}.{theirs[tensor]}.weight"] = columns.pop(name)

    data = []
    for number, change in enumerate((text_decoder, as_llama_cpp)):
        imatrix = write_imatrix(lm, tmp_path / f"{number}.gguf", change, architecture="")
        options = ["--outtype", "q4_k", "--imatrix", imatrix, "--out", tmp_path / str(number)]
        result = invoke(lm, "--tokenizer", tokenizer, *options)
        assert result.exit_code == 0
        [warning] = warnings(result)
        assert warning.startswith(f"warning: {imatrix}: llm.lm_head.weight, ")
        data.append({name: t.data for name, t in ggml_tensors(tmp_path / str(number) / "mimo-asr-q4_k.gguf").items()})
    assert data[0] == data[1]


def test_entries_of_files_beside_it_and_of_what_is_never_quantized_are_let_pass(
    lm: Path, tokenizer: Path, tmp_path: Path
) -> None:
    """As CrispASR collects them, whatever is multiplied."""

    def change(columns: Columns) -> None:
        columns |= dict.fromkeys(("a.blk.0.attn_q.weight", "mm.a.mlp.1.weight", "llm.final_norm.weight"), columns[Q])

    imatrix = write_imatrix(lm, tmp_path / "imatrix.gguf", change, architecture="")
    options = ["--outtype", "q4_k", "--imatrix", imatrix, "--dry-run"]
    result = invoke(lm, "--tokenizer", tokenizer, *options)
    assert (result.exit_code, warnings(result)) == (0, [])


def test_matrices_without_sums_are_quantized_plain_and_named(lm: Path, tokenizer: Path, tmp_path: Path) -> None:
    def change(columns: Columns) -> None:
        del columns[DOWN]
        for name in (Q, QKV):
            columns[name] = ColumnSums(np.zeros(256, np.float32), np.zeros(256, np.float32), COUNT)

    imatrix = write_imatrix(lm, tmp_path / "imatrix.gguf", change)
    options = [lm, "--tokenizer", tokenizer, "--outtype", "q4_k", "--imatrix", imatrix, "--out", tmp_path / "out"]
    planned, made = invoke(*options, "--dry-run"), invoke(*options)
    for result in (planned, made):
        assert result.exit_code == 0
        assert warnings(result) == [
            f"warning: {imatrix}: {DOWN}: no entry in the imatrix: quantized plain",
            f"warning: {imatrix}: {Q}: reached by no clip: quantized plain",
        ]
        assert "1 × reached by no clip: quantized plain" in result.stdout
    line = next(line for line in planned.stdout.splitlines() if DOWN in line)
    assert line.endswith("no entry in the imatrix: quantized plain")
    found = ggml_tensors(tmp_path / "out" / "mimo-asr-q4_k.gguf")
    rows = checkpoint_tensors(lm)["model.layers.1.mlp.down_proj.weight"].float().numpy()
    assert found[DOWN].data == quantize_rows(rows, TYPES["q4_k"]).tobytes()


@pytest.mark.parametrize("is_of_another", [True, False])
def test_an_imatrix_of_a_model_of_another_name_is_told(
    lm: Path, tokenizer: Path, tmp_path: Path, is_of_another: bool
) -> None:
    imatrix = write_imatrix(lm, tmp_path / "imatrix.gguf", name="MiMo-Audio-7B-Base" if is_of_another else lm.name)
    result = invoke(lm, "--tokenizer", tokenizer, "--outtype", "q4_k", "--imatrix", imatrix, "--dry-run")
    what = f"was collected from MiMo-Audio-7B-Base, and this is {lm.name}: of another model it makes files worse"
    assert warnings(result) == ([f"warning: {imatrix} {what}"] if is_of_another else [])


def test_an_imatrix_of_synthetic_speech_is_told_and_recorded(lm: Path, tokenizer: Path, tmp_path: Path) -> None:
    imatrix = write_imatrix(lm, tmp_path / "imatrix.gguf", is_synthetic=True)
    result = invoke(lm, "--tokenizer", tokenizer, "--outtype", "q4_k", "--imatrix", imatrix, "--out", tmp_path / "out")
    assert warnings(result) == [f"warning: {imatrix} is of synthetic speech: no clip is a recording"]
    told = gguf_metadata(tmp_path / "out" / "mimo-asr-q4_k.gguf")
    assert str(told["quantize.imatrix.dataset"]).startswith("synthetic speech: ")


def rename(old: str, new: str) -> Callable[[Columns], Any]:
    return lambda columns: columns.update({name.replace(old, new): columns.pop(name) for name in list(columns)})


def of(name: str, n: int = 256, value: float = 1) -> Callable[[Columns], Any]:
    return lambda columns: columns.update({name: ColumnSums(np.full(n, value, np.float32), np.zeros(n), COUNT)})


def zero(columns: Columns) -> None:
    for name, found in columns.items():
        columns[name] = ColumnSums(0 * found.squares, 0 * found.sums, COUNT)


@pytest.mark.parametrize(
    ("change", "architecture", "says"),
    [
        (of(Q, 128), None, rf"is of another model \(mimo_asr\): {Q} has 128 columns; expected 256, as in "),
        (of("model.layers.9.attn.q.weight"), None, "has an entry of model.layers.9.attn.q.weight, which is no tensor"),
        (rename("model.", "text."), "", "has an entry of text.layers.0.attn.k.weight, which is no tensor of the model"),
        (
            rename(".w", ".x.w"),
            "qwen3asr",
            r"is of another model \(qwen3asr\): no file has audio\.blk\.0\.attn\.k\.x\.",
        ),
        (zero, None, "holds zeros alone; expected sums of what the matrices of a model are multiplied with"),
        (of(Q, value=np.nan), None, f"{Q} holds nan at 0; expected a finite number from 0"),
        (of(Q, value=np.inf), None, f"{Q} holds inf at 0; expected a finite number from 0"),
        (of(Q, value=-1), None, f"{Q} holds -1 at 0; expected a finite number from 0"),
    ],
)
def test_an_imatrix_that_cannot_be_of_this_model_is_one_line_and_nothing_is_written(
    lm: Path, tokenizer: Path, tmp_path: Path, change: Callable[[Columns], Any], architecture: str | None, says: str
) -> None:
    imatrix = write_imatrix(lm, tmp_path / "imatrix.gguf", change, architecture=architecture)
    out = tmp_path / "out"
    result = invoke(lm, "--tokenizer", tokenizer, "--outtype", "q4_k", "--imatrix", imatrix, "--out", out)
    check_one_line(result, imatrix, says)
    assert names(out) == []


def test_another_imatrix_makes_another_file(lm: Path, tokenizer: Path, imatrix: Path, tmp_path: Path) -> None:
    out, file = tmp_path / "out", tmp_path / "out" / "mimo-asr-q4_k.gguf"
    options = [lm, "--tokenizer", tokenizer, "--outtype", "q4_k", "--out", out]
    assert invoke(*options, "--imatrix", imatrix).exit_code == 0
    again = invoke(*options, "--imatrix", imatrix)
    assert (again.exit_code, "already made by this command" in again.stderr) == (0, True)
    other = write_imatrix(lm, tmp_path / "imatrix2.gguf", seed=1)
    shas = [read_calibration(path).sha256 for path in (imatrix, other)]
    says = f"already exists, with the imatrix {shas[0]}; expected "
    check_one_line(invoke(*options, "--imatrix", other), file, f"{says}{shas[1]}; --force")
    check_one_line(invoke(*options), file, f"{says}(none); --force")
    before = file.read_bytes()
    assert invoke(*options, "--imatrix", other, "--force").exit_code == 0
    assert file.read_bytes() != before
