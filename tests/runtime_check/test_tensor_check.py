"""Every tensor of a file against what it was made from: no right file is refused, and no wrong row is missed."""

import ctypes
import re
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import ggml
import gguf
import numpy as np
import numpy.typing as npt
import pytest
import torch
from gguf import GGUFValueType
from hypothesis import given
from hypothesis import strategies as st

from mimo_convert.checkpoint import open_checkpoint
from mimo_convert.convert import convert
from mimo_convert.plan import Options
from mimo_convert.request import Request
from mimo_convert.stored_model import StoredModel, model_of_checkpoint, model_of_file
from quantize.errors import InputError
from quantize.kernels import is_float, quantize_rows
from quantize.recipes import parse_rule
from quantize.types import TYPES, Type
from runtime_check.table import tensors_as_text
from runtime_check.tensor_check import TensorCheck, TensorResult, check_against

from ..conftest import SMALL_LM, SMALL_TOKENIZER
from ..damage import edit_json, edit_tensor, set_weight
from ..gguf_edit import Key, patch, rewrite
from ..readers import checkpoint_tensors, gguf_tensors
from ..synthetic import write_audio_tokenizer, write_speech_lm

QKV, EMBED, HEAD = "model.layers.0.attn.qkv.weight", "llm.embed.weight", "llm.lm_head.weight"
UP, DOWN, CODEBOOK = "ffn.up.weight", "model.layers.1.ffn.down.weight", "encoder.quant.vq.layers.1._codebook.embed"
QUANTIZER = "mimo_convert.quantizer"

Raw = npt.NDArray[np.uint8]


def model(folder: Path) -> StoredModel:
    return model_of_checkpoint(open_checkpoint(str(folder)))


def write(source: StoredModel, out: Path, *outtypes: str | None, **options: object) -> Path:
    """Files of a model; returns the last one."""
    names = {} if outtypes[-1] else {"file_name": "x.gguf"}
    types = [TYPES[name] if name else None for name in outtypes]
    [*_, plan] = convert([Request(source, types, Options(**options), **names)], out, threads=2)  # type: ignore[arg-type]
    return out / plan.file_name


def check(file: Path, source: StoredModel) -> TensorCheck:
    return check_against(file, source, threads=2)


def result(found: TensorCheck, name: str) -> TensorResult:
    return next(tensor for tensor in found.tensors if tensor.name == name)


def check_right(file: Path, source: StoredModel) -> TensorCheck:
    """Everything is compared and equal."""
    found = check(file, source)
    assert (found.passed, found.reasons) == (True, [])
    for tensor in found.tensors:
        assert tensor.equal_rows == tensor.rows, tensor
        assert tensor.rel_rmse == tensor.expected_rel_rmse < 0.5, tensor
        assert tensor.worst_rel_rmse == tensor.worst_expected, tensor
        assert 0 < tensor.cosine <= 1, tensor
    return found


@pytest.fixture(scope="module")
def lm(small_lm: Path) -> StoredModel:
    return model(small_lm)


@pytest.fixture(scope="module")
def files(lm: StoredModel, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, bool], Path]:
    """The small speech LM in every type and layout."""
    made = {}
    for fused in (False, True):
        made[fused] = write(lm, tmp_path_factory.mktemp("lm"), *TYPES, fuse_qkv=fused).parent
    return lambda outtype, fused: made[fused] / f"mimo-asr-{outtype}.gguf"


Files = Callable[[str, bool], Path]


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, StoredModel]:
    """The small audio tokenizer in each dtype of checkpoints."""
    folder = tmp_path_factory.mktemp("tokenizers")
    return {
        dtype: model(write_audio_tokenizer(folder / dtype, dtype=dtype, **SMALL_TOKENIZER))
        for dtype in ("F32", "F16", "BF16")
    }


@pytest.mark.parametrize("outtype", TYPES)
@pytest.mark.parametrize("fused", [False, True], ids=["separate", "fused"])
def test_what_was_converted_is_right(files: Files, lm: StoredModel, outtype: str, fused: bool) -> None:
    found = check_right(files(outtype, fused), lm)
    assert (found.lossless, found.source, found.file) == (True, "small-lm", files(outtype, fused))
    both = (*lm.tensors.values(), *model_of_file(files(outtype, fused)).tensors.values())
    assert found.bytes_read == sum(tensor.nbytes for tensor in both)
    assert len(found.tensors) == len(lm.tensors)
    assert [tensor.name for tensor in found.tensors if ".0.attn.qkv.weight" in tensor.name] == (
        [f"{QKV}[0:128]", f"{QKV}[128:192]", f"{QKV}[192:256]"] if fused else []
    )


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("outtype", ["f32", "f16", "bf16", "q8_0", "q4_k", "iq4_nl"])
def test_so_it_is_of_any_dtype(tokenizers: dict[str, StoredModel], tmp_path: Path, dtype: str, outtype: str) -> None:
    check_right(write(tokenizers[dtype], tmp_path, outtype), tokenizers[dtype])


@pytest.mark.parametrize("options", [{"quantizer": "ggml"}, {"asr_only": True, "fuse_qkv": True}], ids=str)
def test_so_it_is_with_any_options(lm: StoredModel, tmp_path: Path, options: dict[str, object]) -> None:
    check_right(write(lm, tmp_path, "q4_k", **options), lm)


def test_a_tensor_that_was_kept_in_f32_is_right(small_lm: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(small_lm, tmp_path / "lm")
    name = "model.layers.1.mlp.up_proj.weight"
    edit_tensor(folder, name, lambda tensor: tensor.float())
    set_weight(folder, name, 3, -1e30)
    found = check_right(write(model(folder), tmp_path, "q8_0"), model(folder))
    assert result(found, f"model.layers.1.{UP}").type == "f32"


@pytest.mark.parametrize("outtype", ["f16", "q8_0", "q5_k", "q4_1", "iq4_xs"])
def test_numbers_are_those_of_another_reader(files: Files, small_lm: Path, lm: StoredModel, outtype: str) -> None:
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


# Files against files.


@pytest.mark.parametrize("reference", ["f16", "q8_0", "q4_k"])
def test_files_of_one_model_are_right_against_each_other(files: Files, reference: str) -> None:
    source = model_of_file(files(reference, True))
    for outtype in TYPES:
        found = check(files(outtype, False), source)
        assert (found.lossless, found.source, found.reasons) == (False, f"mimo-asr-{reference}.gguf", [])
        assert len(found.tensors) == len(gguf_tensors(files(outtype, False)))


def test_a_file_for_recognition_alone_is_right_against_a_whole_one(
    files: Files, lm: StoredModel, tmp_path: Path
) -> None:
    path = write(lm, tmp_path, "q4_k", asr_only=True)
    assert check(path, model_of_file(files("f16", False))).passed
    [reason] = check(files("q4_k", False), model_of_file(path)).reasons
    assert reason == "22 tensors of speech generation were not compared: the source has none"


# Other quantizers.


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
    assert (found.reasons, found.judged_by) == ([], "bytes")
    assert result(found, DOWN).equal_rows == 256
    assert result(found, DOWN).rel_rmse != result(found, DOWN).expected_rel_rmse


def says(path: Path, target: Path, quantizer: str) -> Path:
    """The file, saying something else of what made its blocks; nothing if that is empty."""
    add = [Key(QUANTIZER, quantizer, GGUFValueType.STRING)] if quantizer else []
    return rewrite(path, target, keys=lambda key: None if key.name == QUANTIZER else key, add=add)


def with_imatrix(rows: npt.NDArray[np.float32], type: Type) -> Raw:
    """Blocks that ggml made for columns some of which matter 10,000 times as much as others."""
    random = np.random.default_rng(0)
    columns = np.exp(random.standard_normal(rows.shape[1])).astype(np.float32)
    columns[random.choice(len(columns), 4, replace=False)] *= 1e4
    out = np.empty((len(rows), type.nbytes(rows.shape[1])), np.uint8)
    pointers = [x.ctypes.data_as(ctypes.POINTER(ctypes.c_float)) for x in (rows, columns)]
    ggml.ggml_quantize_chunk(type.ggml, pointers[0], out.ctypes.data_as(ctypes.c_void_p), 0, *rows.shape, pointers[1])
    return out


@pytest.mark.parametrize("outtype", [name for name, type in TYPES.items() if not is_float(type) and name != "q8_0"])
def test_blocks_of_another_tool_are_right_unless_they_are_said_to_be_ours(
    files: Files, small_lm: Path, lm: StoredModel, tmp_path: Path, outtype: str
) -> None:
    path = says(files(outtype, False), tmp_path / "x.gguf", "")
    x = checkpoint_tensors(small_lm)["model.layers.1.mlp.down_proj.weight"].float().numpy()
    patch(path, DOWN, 0, with_imatrix(x, TYPES[outtype]))
    for source in (lm, model_of_file(files("f16", False))):
        found = check(path, source)
        assert found.reasons == []
        assert result(found, DOWN).equal_rows < 256
        assert result(found, DOWN).rel_rmse != result(found, DOWN).expected_rel_rmse
    reasons = check(says(path, tmp_path / "y.gguf", "simd"), lm).reasons
    assert reasons[0].startswith(f"tensor {DOWN}: row 0 ")
    assert re.fullmatch(rf"tensor {DOWN}: … and \d+ more rows", reasons[-1])


# What is wrong.


def rows_of(path: Path, tensor: str) -> Raw:
    """A tensor's rows as stored."""
    stored = gguf_tensors(path)[tensor]
    return np.frombuffer(stored.data, np.uint8).reshape(stored.shape[0] if len(stored.shape) > 1 else 1, -1)


def put(tensor: str, change: Callable[[Raw], npt.NDArray[np.generic]]) -> Callable[[Path], None]:
    """All rows of a tensor become `change` of a copy of them."""
    return lambda path: patch(path, tensor, 0, change(rows_of(path, tensor).copy()))


def copy(tensor: str, onto: str) -> Callable[[Path], None]:
    return lambda path: patch(path, onto, 0, rows_of(path, tensor))


def swap(one: str, other: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        first, second = rows_of(path, one), rows_of(path, other)
        patch(path, one, 0, second)
        patch(path, other, 0, first)

    return damage


def another_row(rows: Raw) -> Raw:
    rows[300] = rows[5]
    return rows


def flip(row: int, byte: int, bits: int) -> Callable[[Raw], Raw]:
    def change(rows: Raw) -> Raw:
        rows[row, byte] ^= bits
        return rows

    return change


def without(first: int, end: int, block_bytes: int) -> Callable[[Raw], Raw]:
    """Some bytes of every block become 0."""

    def change(rows: Raw) -> Raw:
        rows.reshape(-1, block_bytes)[:, first:end] = 0
        return rows

    return change


def one_float(dtype: type, place: int, value: float) -> Callable[[Raw], Raw]:
    def change(rows: Raw) -> Raw:
        rows.reshape(-1).view(dtype)[place] = value
        return rows

    return change


TOO_FAR = r"has a relative RMSE of [\d.]+, quantizing it to \w+ gives 0\.\d+"
ALL_ELSE = r"has no row that is right: it is another tensor's, or shifted \(relative RMSE 1\.\d+\)"
NORMS = [f"model.layers.{i}.attn_norm.weight" for i in range(2)]
UPS = [f"model.layers.{i}.ffn.up.weight" for i in range(2)]
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
    made_by: Callable[[str, str], Path], lm: StoredModel, tmp_path: Path, defect: str, quantizer: str
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
    assert {tensor.name for tensor in found.tensors if tensor.problems} == set(expected)


def check_reasons(found: TensorCheck, expected: dict[str, str]) -> None:
    """These tensors are wrong, and no others, each for this reason."""
    assert not found.passed
    assert found.problems == ()
    wrong = {tensor.name: tensor.problems for tensor in found.tensors if tensor.problems}
    assert wrong.keys() == expected.keys()
    for name, pattern in expected.items():
        assert re.fullmatch(pattern, wrong[name][0]), wrong[name]
        assert f"tensor {name}: {wrong[name][0]}" in found.reasons


# Any bit.


class Making(NamedTuple):
    """How a file is made: which half, by way of which types, to which one, what makes blocks, and what it says of it:
    all, or as much as versions before 0.6.0 said."""

    half: str
    through: tuple[str, ...]
    outtype: str
    quantizer: str
    tells_all: bool


CHAINS = dict.fromkeys(
    [(), ("f16",), ("bf16",), ("q8_0",), ("bf16", "f16"), ("f16", "q8_0"), ("q8_0", "f32")], tuple(TYPES)
) | {("q8_0", "q6_k"): tuple(name for name, type in TYPES.items() if type.bits_per_weight < 6)}
MAKINGS = st.sampled_from(list(CHAINS)).flatmap(
    lambda through: st.builds(
        Making, st.sampled_from(["lm", "tokenizer"]), st.just(through), st.sampled_from(CHAINS[through]),
        st.sampled_from(["simd", "ggml"]), st.booleans(),
    )
)  # fmt: skip


def as_if_by(path: Path, *, tells_all: bool) -> Path:
    """The file, saying that 0.6.0 wrote it and those before, or with what 0.5.0 would have said of them."""

    def said(key: Key) -> Key | None:
        if key.name.startswith("mimo_convert.") and key.name.endswith("version"):
            key = key._replace(value="0.6.0" if tells_all else "0.5.0")
        if tells_all or not key.name.startswith("mimo_convert.quantized_from"):
            return key
        blocks = (
            [name for name in key.value.split(", ") if not is_float(TYPES[name])] if "from." not in key.name else []
        )
        return key._replace(value=", ".join(blocks)) if blocks else None

    return rewrite(path, path.with_name(f"{tells_all}.gguf"), keys=said)


@pytest.fixture(scope="module")
def make(
    lm: StoredModel, tokenizers: dict[str, StoredModel], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Making], tuple[Path, StoredModel]]:
    """A file, which is right, and its checkpoint."""
    sources = {"lm": lm, "tokenizer": tokenizers["F32"]}

    @cache
    def written(half: str, types: tuple[str, ...], quantizer: str) -> Path:
        *before, outtype = types
        source = model_of_file(written(half, tuple(before), quantizer)) if before else sources[half]
        return write(
            source, tmp_path_factory.mktemp(half), outtype, quantizer=quantizer, allow_requantize=True,
            fuse_qkv=len(types) % 2 == 0,
        )  # fmt: skip

    @cache
    def make(making: Making) -> tuple[Path, StoredModel]:
        path = written(making.half, (*making.through, making.outtype), making.quantizer)
        path = as_if_by(path, tells_all=making.tells_all)
        found = check(path, sources[making.half])
        assert (found.reasons, found.judged_by) == ([], "bytes"), making
        assert all(tensor.equal_rows == tensor.rows for tensor in found.tensors), making
        return path, sources[making.half]

    return make


def flip_bit(path: Path, place: int, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        was = file.read(1)[0]
        file.seek(place)
        file.write(bytes([was ^ 1 << bit]))


@given(st.data(), MAKINGS)
def test_any_bit_of_any_tensor_is_found(
    make: Callable[[Making], tuple[Path, StoredModel]], data: st.DataObject, making: Making
) -> None:
    """However a file was made by us, or by ggml, with nothing but the checkpoint's weights."""
    path, source = make(making)
    tensor = data.draw(st.sampled_from(list(model_of_file(path).tensors.values())))
    row, byte, bit = (data.draw(st.integers(0, n - 1)) for n in (tensor.n_rows, tensor.row_bytes, 8))
    place = tensor.begin + row * tensor.row_bytes + byte
    flip_bit(path, place, bit)
    try:
        found = check(path, source)
    finally:
        flip_bit(path, place, bit)
    assert found.problems == ()
    [wrong] = [tensor for tensor in found.tensors if tensor.problems]
    assert wrong.name == tensor.name
    if making.tells_all:
        assert wrong.equal_rows == wrong.rows - 1
        assert wrong.rows == 1 or [problem.split(" ")[:2] for problem in wrong.problems] == [["row", str(row)]]


@pytest.mark.parametrize(
    ("quantizer", "why"),
    [
        ("", "the file does not say what quantized it; there is room for an imatrix"),
        ("simd + unknown", "the file does not say what quantized it; there is room for an imatrix"),
        ("simd by me", "the file does not say what quantized it; there is room for an imatrix"),
        ("ggml-contracted", "a ggml that contracts quantized it, whose blocks differ by a rounding"),
        ("ggml + simd", None),
    ],
)
def test_blocks_of_a_maker_that_is_not_known_are_judged_by_error_and_that_is_told(
    files: Files, lm: StoredModel, tmp_path: Path, quantizer: str, why: str | None
) -> None:
    path = says(files("q8_0", False), tmp_path / "x.gguf", quantizer)
    put(HEAD, flip(5, 33, 0x01))(path)
    found = check(path, lm)
    assert (found.judged_by, found.passed) == (("error", True) if why else ("bytes", False))
    assert found.why == (why or "a changed byte of any weight fails")
    assert f"\nblocks are judged by their {found.judged_by}: {found.why}\n" in tensors_as_text(found)
    put(NORMS[0], one_float(np.float32, 9, 1.001))(path)
    assert f"tensor {NORMS[0]}: row 0 has 1 of 256 weights that are not" in "\n".join(check(path, lm).reasons)
    against = check(path, model_of_file(files("f16", False)))
    assert (against.judged_by, against.why) == ("error", "the source is itself a file, and no checkpoint")


@pytest.mark.parametrize("through", ["q8_0", "f16"])
def test_a_file_made_of_blocks_of_an_unknown_maker_is_judged_by_error(
    files: Files, lm: StoredModel, tmp_path: Path, through: str
) -> None:
    """Also where there was one of floats between."""
    silent = model_of_file(says(files("q8_0", False), tmp_path / "in.gguf", ""))
    source = silent if through == "q8_0" else model_of_file(write(silent, tmp_path, "f16"))
    path = write(source, tmp_path, "q5_k")
    assert source.provenance.quantized_from == (() if through == "q8_0" else ("q8_0",))
    found = check(path, lm)
    assert (found.reasons, found.judged_by) == ([], "error")


@pytest.mark.parametrize("tells_all", [True, False])
def test_rules_of_files_between_are_followed(lm: StoredModel, tmp_path: Path, tells_all: bool) -> None:
    rules = (parse_rule("layers.1.attn.qkv=q8_0", ""), parse_rule("embed|up=bf16", ""))
    path = write(lm, tmp_path, "f16", rules=rules, fuse_qkv=True)
    path = as_if_by(write(model_of_file(path), tmp_path, "iq4_xs"), tells_all=tells_all)
    found = check(path, lm)
    if tells_all:
        assert all(tensor.equal_rows == tensor.rows for tensor in found.tensors)
        assert (found.reasons, found.judged_by) == ([], "bytes")
    else:  # q8_0 was not recorded at all
        assert {reason.split(":")[0] for reason in found.reasons} <= {
            f"tensor model.layers.1.attn.{name}.weight" for name in "qkv"
        }


@pytest.mark.parametrize(("between", "is_unrecorded"), [("bf16", True), ("f16", True), ("q8_0", False)])
def test_a_file_is_not_right_by_a_way_that_it_does_not_tell(
    tokenizers: dict[str, StoredModel], tmp_path: Path, between: str, is_unrecorded: bool
) -> None:
    """0.5.0 did not tell of files of floats: all of a tensor may be made by way of one, and of no other type."""
    source = tokenizers["F32"]
    path = write(model_of_file(write(source, tmp_path, between)), tmp_path, "q5_k")

    def silent(version: str) -> Path:
        def said(key: Key) -> Key | None:
            return None if "quantized_from" in key.name else change("mimo_convert.version", value=version)(key)

        return rewrite(path, tmp_path / f"{version}.gguf", keys=said)

    assert check(path, source).passed
    assert check(silent("0.5.0"), source).passed is is_unrecorded
    assert "is not what our kernels make of the source: block" in check(silent("0.6.0"), source).reasons[0]


def test_a_way_that_leads_nowhere_is_no_crash(files: Files, lm: StoredModel, tmp_path: Path) -> None:
    """A file that says of itself what cannot be: types that do not divide rows, and names of no tensor."""
    strange = {
        "": "q2_k, iq4_xs, f32", ".0.version": "0.6.0", ".1.version": "0.6.0", ".2.version": "0.6.0",
        ".1.types": "audio.group_proj.weight=q6_k\naudio.emb.0.weight=q4_k\n=f16\nx\ny=z",
    }  # fmt: skip
    add = [Key(f"mimo_convert.quantized_from{key}", text, GGUFValueType.STRING) for key, text in strange.items()]
    path = rewrite(
        files("q4_0", False), tmp_path / "x.gguf", keys=change("mimo_convert.version", value="0.6.0"), add=add
    )
    [reason, *_] = check(path, lm).reasons
    assert reason.endswith("is the first that differs")
    assert " is not what our kernels make of the source by way of q2_k, iq4_xs, f32: block 0 " in reason


def test_a_transposed_matrix_is_told(tokenizers: dict[str, StoredModel], tmp_path: Path) -> None:
    name, source = "enc.blk.2.attn.q.weight", tokenizers["BF16"]
    for outtype, width in (("f16", np.float16), ("q8_0", None)):
        path = write(source, tmp_path, outtype)
        square = source.tensors["encoder.layers.2.self_attn.q_proj.weight"].read_float32().T
        patch(path, name, 0, square.astype(width) if width else quantize_rows(square, TYPES[outtype]))
        check_reasons(check(path, source), {name: r"is transposed \(relative RMSE 1\.\d+\)"})


def test_bf16_that_was_cut_off_is_not_bf16_that_was_rounded(tokenizers: dict[str, StoredModel], tmp_path: Path) -> None:
    path, name, source = write(tokenizers["F32"], tmp_path, "bf16"), "enc.blk.1.fc1.weight", tokenizers["F32"]
    exact = source.tensors["encoder.layers.1.fc1.weight"].read_float32()
    patch(path, name, 0, (exact.view(np.uint32) >> 16).astype(np.uint16))
    says_so = r"row 0 has \d+ of 64 weights that are not the source's in bf16: that of column \d+ is \S+, and .*"
    check_reasons(check(path, source), {name: says_so})
    reference = model_of_file(write(source, tmp_path, "f32"))
    check_reasons(check(path, reference), {name: r"row \d+ has a relative RMSE of 0\.00\d+, rounding it to bf16 .*"})


def test_codebooks_of_half_precision_are_told(tokenizers: dict[str, StoredModel], tmp_path: Path) -> None:
    path, source = write(tokenizers["F32"], tmp_path, "q4_k"), tokenizers["F32"]
    exact = source.tensors["encoder.quantizer.vq.layers.1._codebook.embed"].read_float32()
    patch(path, CODEBOOK, 0, exact.astype(np.float16).astype(np.float32))
    for reference in (source, model_of_file(write(source, tmp_path, "f16"))):
        check_reasons(check(path, reference), {CODEBOOK: r"row 0 has .*"})


def test_many_wrong_rows_are_three_and_a_number(files: Files, lm: StoredModel, tmp_path: Path) -> None:
    path = shutil.copy(files("q4_k", False), tmp_path / "x.gguf")
    put(EMBED, lambda rows: np.concatenate([rows[:100], np.roll(rows[100:], 1, axis=0)]))(path)
    [wrong] = [tensor for tensor in check(path, lm).tensors if tensor.problems]
    assert [problem.split(" has ")[0] for problem in wrong.problems] == [
        "row 100", "row 101", "row 102", "… and 409 more rows"
    ]  # fmt: skip
    assert wrong.worst_row >= 100
    assert wrong.equal_rows == 100


# Metadata and layout.


def change(name: str, **values: object) -> Callable[[Key], Key]:
    return lambda key: key._replace(**values) if key.name == name else key  # type: ignore[arg-type]


def swapped(name: str, one: int, other: int) -> Callable[[Key], Key]:
    def of_key(key: Key) -> Key:
        if key.name == name:
            key.value[one], key.value[other] = key.value[other], key.value[one]
        return key

    return of_key


def drop(name: str) -> Callable[[Key], Key | None]:
    return lambda key: None if key.name == name else key


SIZES, TOKENS = "mimo_asr", "tokenizer.ggml"
WRONG_KEYS: dict[str, tuple[Callable[[Key], Key | None], str]] = {
    "a size": (
        change(f"{SIZES}.llm.max_position_embeddings", value=8192),
        f"key {SIZES}.llm.max_position_embeddings is 8192, the source's is 1024",
    ),
    "a float": (
        change(f"{SIZES}.llm.rms_norm_eps", value=1e-5),
        rf"key {SIZES}\.llm\.rms_norm_eps is 9\.99\d+e-06, the source's is 9\.99\d+e-07",
    ),
    "one of many sizes": (
        change(f"{SIZES}.audio.speech_zeroemb.3", value=15),
        f"key {SIZES}.audio.speech_zeroemb.3 is 15, the source's is 16",
    ),
    "the delay pattern": (
        change(f"{SIZES}.audio.delay_pattern", value="0-0-0-0-0-0-0-0"),
        f"key {SIZES}.audio.delay_pattern is '0-0-0-0-0-0-0-0', the source's is '0-1-2-3-4-5-6-7'",
    ),
    "the order of merges": (
        swapped(f"{TOKENS}.merges", 0, 1), f"key {TOKENS}.merges is '#.+' at 0, the source's is '#.+'"
    ),
    "the ids of tokens": (
        swapped(f"{TOKENS}.tokens", 475, 476), rf"key {TOKENS}.tokens is '<\|.*' at 475, the source's is '<\|.*'"
    ),
    "a token's type": (
        change(f"{TOKENS}.token_type", value=[1] * 475 + [3] * 30 + [5] * 7),
        f"key {TOKENS}.token_type is 3 at 489, the source's is 4",
    ),
    "the end of text": (
        change(f"{TOKENS}.eos_token_id", value=480), rf"key {TOKENS}.eos_token_id is 480, the source's is 475"
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG_KEYS)
def test_a_key_that_differs_is_named(files: Files, lm: StoredModel, tmp_path: Path, wrong: str) -> None:
    keys, pattern = WRONG_KEYS[wrong]
    path = rewrite(files("q4_k", False), tmp_path / "x.gguf", keys=keys)
    for source in (lm, model_of_file(files("f16", True))):
        found = check(path, source)
        [problem] = found.problems
        assert re.fullmatch(pattern, problem), problem
        assert found.reasons == [problem]


ABOUT_THE_FILE = ("general.", "mimo_convert.")
MEANT = ("mimo_asr.audio.delay_pattern", "mimo_asr.audio.rope_theta", *(f"tokenizer.ggml.{name}" for name in (
    "pre", "token_type", "eos_token_id", "padding_token_id"
)))  # fmt: skip


def test_keys_about_the_file_and_those_of_newer_tools_need_not_be_there(
    files: Files, lm: StoredModel, tmp_path: Path
) -> None:
    def older(key: Key) -> Key | None:
        return None if key.name.startswith(ABOUT_THE_FILE) or key.name in MEANT else key

    path = rewrite(files("q4_k", False), tmp_path / "x.gguf", keys=older)
    assert check(path, lm).reasons == []
    assert check(files("q4_k", False), model_of_file(path)).reasons == []


def test_a_key_that_is_missing_means_what_readers_take_it_for(small_lm: Path, files: Files, tmp_path: Path) -> None:
    folder = shutil.copytree(small_lm, tmp_path / "lm")
    edit_json(folder / "config.json", lambda values: values | {"delay_pattern": "0-0-0-0-0-0-0-0"})
    edit_json(folder / "tokenizer_config.json", lambda values: values | {"eos_token": "<|im_end|>"})
    path = rewrite(files("q4_k", False), tmp_path / "x.gguf", keys=lambda key: None if key.name in MEANT else key)
    assert check(path, model(folder)).problems == (
        "key mimo_asr.audio.delay_pattern is '0-1-2-3-4-5-6-7', the source's is '0-0-0-0-0-0-0-0'",
        "key tokenizer.ggml.eos_token_id is 475, the source's is 477",
    )


def test_tensors_that_are_missing_too_many_or_of_another_shape_are_named(tmp_path: Path, lm: StoredModel) -> None:
    """Files that are sound in themselves, of other models."""
    more = model(write_speech_lm(tmp_path / "more", **SMALL_LM | {"num_hidden_layers": 3}))
    found = check(write(lm, tmp_path, "f16", fuse_qkv=True), more)
    assert found.problems[0] == "key mimo_asr.llm.num_layers is 2, the source's is 3"
    assert len(found.problems) == 13
    assert "tensor model.layers.2.self_attn.k_proj.bias of the source is missing" in found.problems
    found = check(write(more, tmp_path, "q8_0"), lm)
    assert len(found.problems) == 13
    assert "tensor model.layers.2.attn.k.bias is not in the source" in found.problems
    wider = model(write_speech_lm(tmp_path / "wider", **SMALL_LM | {"intermediate_size": 768}))
    found = check(write(lm, tmp_path, "f32"), wider)
    assert found.problems[:2] == (
        "key mimo_asr.llm.intermediate_size is 512, the source's is 768",
        "tensor model.layers.0.ffn.gate.weight has shape 512×256, the source's is 768×256",
    )


def test_files_of_different_families_are_not_compared(tokenizers: dict[str, StoredModel], files: Files) -> None:
    with pytest.raises(InputError, match=r"q4_k\.gguf: is of mimo_asr; expected mimo_tokenizer, as .* is"):
        check(files("q4_k", False), tokenizers["BF16"])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_checkpoint_that_is_damaged_is_no_source(small_lm: Path, files: Files, tmp_path: Path, value: float) -> None:
    folder = shutil.copytree(small_lm, tmp_path / "lm")
    set_weight(folder, "lm_head.weight", 300, value)
    with pytest.raises(InputError, match=r"tensor lm_head\.weight holds (NaN|infinity) in row 300; "):
        check(files("q4_k", False), model(folder))


def test_threads_change_nothing(files: Files, lm: StoredModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mimo_convert.request.CHUNK_WEIGHTS", 1000)
    one, many = (check_against(files("q3_k", True), lm, threads).tensors for threads in (1, 5))
    assert one == many
