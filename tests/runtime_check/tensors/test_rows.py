"""Rows that are wrong are found and named, in files of any type, against checkpoints and files."""

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from mimo_convert.model.source_model import SourceModel
from quantize.kernels import quantize_rows
from quantize.types import TYPES
from tests.gguf_edit import patch
from tests.opened import model_of_file

from .compared import (
    CODEBOOK,
    DOWN,
    EMBED,
    HEAD,
    NORMS,
    QKV,
    UPS,
    Files,
    Raw,
    check,
    check_reasons,
    copy,
    flip,
    one_float,
    put,
    says,
    swap,
    write,
)


def another_row(rows: Raw) -> Raw:
    rows[300] = rows[5]
    return rows


def without(first: int, end: int, block_bytes: int) -> Callable[[Raw], Raw]:
    """Some bytes of every block become 0."""

    def change(rows: Raw) -> Raw:
        rows.reshape(-1, block_bytes)[:, first:end] = 0
        return rows

    return change


TOO_FAR = r"has a relative RMSE of [\d.]+, quantizing it to \w+ gives 0\.\d+"
ALL_ELSE = r"has no row that is right: it is another tensor's, or shifted \(relative RMSE 1\.\d+\)"
NAME = r"(model\.layers\.0\.self_attn\.{0}_proj\.weight|model\.layers\.0\.attn\.{0}\.weight)"
Q, K, V = (f"{QKV}[{rows}]" for rows in ("0:128", "128:192", "192:256"))
# What is wrong with a file of which type, and what must be said of which tensors.
DEFECTS: dict[str, tuple[str, Callable[[Path], None], dict[str, str]]] = {
    "another token's row": ("q4_k", put(EMBED, another_row), {EMBED: f"row 300 {TOO_FAR}"}),
    "the scale of a block": ("q4_k", put(DOWN, flip(100, 145, 0x04)), {DOWN: f"row 100 {TOO_FAR}.*"}),
    "the scale of a sub-block": ("q4_k", put(DOWN, flip(100, 148, 0x20)), {DOWN: f"row 100 {TOO_FAR}.*"}),
    "shifted by a block": ("q4_k", put(DOWN, lambda rows: np.roll(rows, 144)), {DOWN: ALL_ELSE}),
    "K before Q": (
        "q4_k", put(QKV, lambda rows: np.concatenate([rows[128:192], rows[:128], rows[192:]])),
        {Q: rf"begins with the rows of {NAME.format('k')} .*", K: ALL_ELSE},
    ),
    "V before K": (
        "q4_k", put(QKV, lambda rows: np.concatenate([rows[:128], rows[192:], rows[128:192]])),
        {K: rf"begins with the rows of {NAME.format('v')} .*", V: rf"begins with the rows of {NAME.format('k')} .*"},
    ),
    "a bias of zeros": (
        "q4_k", put("audio.blk.0.attn.k.bias", np.zeros_like),
        {"audio.blk.0.attn.k.bias": r"is all zeros \(relative RMSE 1\)"},
    ),
    "layers in the place of each other": (
        "q4_k", swap(*UPS), dict.fromkeys(UPS, r"begins with the rows of model\.layers\.[01]\..*up.*"),
    ),
    "the norm of another layer": (
        "q4_k", copy(*NORMS), {NORMS[1]: r"is model\.layers\.0\..*norm\.weight \(relative RMSE 0\.1\d+\)"},
    ),
    "a head that is the embedding": ("q4_k", copy(EMBED, HEAD), {HEAD: r"begins with the rows of .*embed.*"}),
    "no minimum in q4_k": ("q4_k", put(DOWN, without(2, 4, 144)), {DOWN: ".*relative RMSE.*"}),
    "no minimum in q4_1": ("q4_1", put(DOWN, without(2, 4, 20)), {DOWN: ".*relative RMSE.*"}),
    "no minimum in q2_k": ("q2_k", put(DOWN, without(82, 84, 84)), {DOWN: ".*relative RMSE.*"}),
    "NaN": (
        "q4_k", put(NORMS[0], one_float(np.float32, 9, np.nan)), {NORMS[0]: "row 0 holds NaN or infinity"}
    ),
    "an infinite scale": ("q8_0", put(HEAD, one_float(np.float16, 17 * 8 * 511, np.inf)), {HEAD: "row 511 .*"}),
}  # fmt: skip


@pytest.fixture(scope="module")
def made_by(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """A file of a type, fused, that says what made its blocks."""
    folder = tmp_path_factory.mktemp("made")

    @cache
    def make(quantizer: str, outtype: str) -> Path:
        return says(files(outtype, True), folder / f"{quantizer}-{outtype}.gguf", quantizer)

    return make


UNSEEN = "the scale of a sub-block", ""  # an imatrix could do as much


@pytest.mark.parametrize("quantizer", ["simd", "ggml", ""])
@pytest.mark.parametrize("defect", DEFECTS)
def test_what_is_wrong_is_found_and_named(
    made_by: Callable[[str, str], Path], lm: SourceModel, tmp_path: Path, defect: str, quantizer: str
) -> None:
    outtype, damage, expected = DEFECTS[defect]
    path = shutil.copy(made_by(quantizer, outtype), tmp_path / "x.gguf")
    damage(path)
    found = check(path, lm)
    if (defect, quantizer) == UNSEEN:
        assert found.passed
    else:
        check_reasons(found, expected)


@pytest.mark.parametrize("reference", ["f16", "q4_k"])
@pytest.mark.parametrize("defect", DEFECTS)
def test_it_is_found_by_comparison_with_another_file(files: Files, tmp_path: Path, defect: str, reference: str) -> None:
    outtype, damage, expected = DEFECTS[defect]
    path = shutil.copy(files(outtype, True), tmp_path / "x.gguf")
    damage(path)
    found = check(path, model_of_file(files(reference, False)))
    assert {tensor.name for tensor in found.tensors if tensor.findings} == set(expected)


def test_a_transposed_matrix_is_told(tokenizers: dict[str, SourceModel], tmp_path: Path) -> None:
    name, source = "enc.blk.2.attn.q.weight", tokenizers["BF16"]
    for outtype, width in (("f16", np.float16), ("q8_0", None)):
        path = write(source, tmp_path, outtype)
        square = source.tensors["encoder.layers.2.self_attn.q_proj.weight"].read_float32().T
        patch(path, name, 0, square.astype(width) if width else quantize_rows(square, TYPES[outtype]))
        check_reasons(check(path, source), {name: r"is transposed \(relative RMSE 1\.\d+\)"})


def test_bf16_that_was_cut_off_is_not_bf16_that_was_rounded(tokenizers: dict[str, SourceModel], tmp_path: Path) -> None:
    path, name, source = write(tokenizers["F32"], tmp_path, "bf16"), "enc.blk.1.fc1.weight", tokenizers["F32"]
    exact = source.tensors["encoder.layers.1.fc1.weight"].read_float32()
    patch(path, name, 0, (exact.view(np.uint32) >> 16).astype(np.uint16))
    says_so = r"row 0 has \d+ of 64 weights that are not the source's in bf16: that of column \d+ is \S+, expected \S+"
    check_reasons(check(path, source), {name: says_so})
    reference = model_of_file(write(source, tmp_path, "f32"))
    check_reasons(check(path, reference), {name: r"row \d+ has a relative RMSE of 0\.00\d+, rounding it to bf16 .*"})


def test_codebooks_of_half_precision_are_told(tokenizers: dict[str, SourceModel], tmp_path: Path) -> None:
    path, source = write(tokenizers["F32"], tmp_path, "q4_k"), tokenizers["F32"]
    exact = source.tensors["encoder.quantizer.vq.layers.1._codebook.embed"].read_float32()
    patch(path, CODEBOOK, 0, exact.astype(np.float16).astype(np.float32))
    for reference in (source, model_of_file(write(source, tmp_path, "f16"))):
        check_reasons(check(path, reference), {CODEBOOK: r"row 0 has .*"})


def test_many_wrong_rows_are_three_and_a_number(files: Files, lm: SourceModel, tmp_path: Path) -> None:
    path = shutil.copy(files("q4_k", False), tmp_path / "x.gguf")
    put(EMBED, lambda rows: np.concatenate([rows[:100], np.roll(rows[100:], 1, axis=0)]))(path)
    [wrong] = [tensor for tensor in check(path, lm).tensors if tensor.findings]
    assert [finding.split(" has ")[0] for finding in wrong.findings] == [
        "row 100", "row 101", "row 102", "… and 409 more rows"
    ]  # fmt: skip
    assert wrong.worst_row >= 100
    assert wrong.equal_rows == 100
