"""Blocks are compared by bytes where the file tells how they were made, and by their error otherwise."""

import ctypes
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import ggml
import numpy as np
import numpy.typing as npt
import pytest
from gguf import GGUFValueType
from hypothesis import given, settings
from hypothesis import strategies as st

from mimo_convert.model.source_model import SourceModel
from quantize.kernels import is_float
from quantize.recipes import parse_rule
from quantize.types import TYPES, Type
from runtime_check.report.table import tensors_as_text
from tests.gguf_edit import Key, patch, rewrite
from tests.opened import model_of_file
from tests.readers import checkpoint_tensors

from .compared import DOWN, HEAD, NORMS, Files, Raw, change, check, flip, one_float, put, reasons, result, says, write


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
    files: Files, small_lm: Path, lm: SourceModel, tmp_path: Path, outtype: str
) -> None:
    path = says(files(outtype, False), tmp_path / "x.gguf", "")
    x = checkpoint_tensors(small_lm)["model.layers.1.mlp.down_proj.weight"].float().numpy()
    patch(path, DOWN, 0, with_imatrix(x, TYPES[outtype]))
    for source in (lm, model_of_file(files("f16", False))):
        found = check(path, source)
        assert reasons(found) == []
        assert result(found, DOWN).equal_rows < 256
        assert result(found, DOWN).rel_rmse != result(found, DOWN).expected_rel_rmse
    lines = reasons(check(says(path, tmp_path / "y.gguf", "simd"), lm))
    assert lines[0].startswith(f"tensor {DOWN}: row 0 ")
    assert re.fullmatch(rf"tensor {DOWN}: … and \d+ more rows", lines[-1])


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
    lm: SourceModel, tokenizers: dict[str, SourceModel], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Making], tuple[Path, SourceModel]]:
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
    def make(making: Making) -> tuple[Path, SourceModel]:
        path = written(making.half, (*making.through, making.outtype), making.quantizer)
        path = as_if_by(path, tells_all=making.tells_all)
        found = check(path, sources[making.half])
        assert (reasons(found), found.judged_by) == ([], "bytes"), making
        assert all(tensor.equal_rows == tensor.rows for tensor in found.tensors), making
        return path, sources[making.half]

    return make


def flip_bit(path: Path, place: int, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        was = file.read(1)[0]
        file.seek(place)
        file.write(bytes([was ^ 1 << bit]))


@settings(max_examples=20)  # each makes a file by way of up to three others
@given(st.data(), MAKINGS)
def test_any_bit_of_any_tensor_is_found(
    make: Callable[[Making], tuple[Path, SourceModel]], data: st.DataObject, making: Making
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
    assert found.findings == ()
    [wrong] = [tensor for tensor in found.tensors if tensor.findings]
    assert wrong.name == tensor.name
    if making.tells_all:
        assert wrong.equal_rows == wrong.rows - 1
        assert wrong.rows == 1 or [finding.split(" ")[:2] for finding in wrong.findings] == [["row", str(row)]]


@pytest.mark.parametrize(
    ("quantizer", "why"),
    [
        ("", "the file does not record its quantization backend, which may have used an imatrix"),
        ("simd + unknown", "the file does not record its quantization backend, which may have used an imatrix"),
        ("simd by me", "the file does not record its quantization backend, which may have used an imatrix"),
        ("ggml-contracted", "it was quantized by a ggml that contracts a × b + c, whose blocks differ by a rounding"),
        ("ggml + simd", None),
    ],
)
def test_blocks_of_a_maker_that_is_not_known_are_judged_by_error_and_that_is_told(
    files: Files, lm: SourceModel, tmp_path: Path, quantizer: str, why: str | None
) -> None:
    path = says(files("q8_0", False), tmp_path / "x.gguf", quantizer)
    put(HEAD, flip(5, 33, 0x01))(path)
    found = check(path, lm)
    assert (found.judged_by, found.passed) == (("error", True) if why else ("bytes", False))
    assert found.judged_why == (why or "a changed byte of any weight fails")
    assert f"\nblocks are compared by {found.judged_by}: {found.judged_why}\n" in tensors_as_text(found)
    put(NORMS[0], one_float(np.float32, 9, 1.001))(path)
    assert f"tensor {NORMS[0]}: row 0 has 1 of 256 weights that are not" in "\n".join(reasons(check(path, lm)))
    against = check(path, model_of_file(files("f16", False)))
    assert (against.judged_by, against.judged_why) == ("error", "the source is a GGUF file, not a checkpoint")


@pytest.mark.parametrize("through", ["q8_0", "f16"])
def test_a_file_made_of_blocks_of_an_unknown_maker_is_judged_by_error(
    files: Files, lm: SourceModel, tmp_path: Path, through: str
) -> None:
    """Also where there was one of floats between."""
    silent = model_of_file(says(files("q8_0", False), tmp_path / "in.gguf", ""))
    source = silent if through == "q8_0" else model_of_file(write(silent, tmp_path, "f16"))
    path = write(source, tmp_path, "q5_k")
    assert source.provenance.quantized_from == (() if through == "q8_0" else ("q8_0",))
    found = check(path, lm)
    assert (reasons(found), found.judged_by) == ([], "error")


@pytest.mark.parametrize("tells_all", [True, False])
def test_rules_of_files_between_are_followed(lm: SourceModel, tmp_path: Path, tells_all: bool) -> None:
    rules = (parse_rule("layers.1.attn.qkv=q8_0", ""), parse_rule("embed|up=bf16", ""))
    path = write(lm, tmp_path, "f16", rules=rules, fuse_qkv=True)
    path = as_if_by(write(model_of_file(path), tmp_path, "iq4_xs"), tells_all=tells_all)
    found = check(path, lm)
    if tells_all:
        assert all(tensor.equal_rows == tensor.rows for tensor in found.tensors)
        assert (reasons(found), found.judged_by) == ([], "bytes")
    else:  # q8_0 was not recorded at all
        assert {reason.split(":")[0] for reason in reasons(found)} <= {
            f"tensor model.layers.1.attn.{name}.weight" for name in "qkv"
        }


@pytest.mark.parametrize(("between", "is_unrecorded"), [("bf16", True), ("f16", True), ("q8_0", False)])
def test_a_file_is_not_right_by_a_way_that_it_does_not_tell(
    tokenizers: dict[str, SourceModel], tmp_path: Path, between: str, is_unrecorded: bool
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
    assert "is not what our kernels make of the source: block" in reasons(check(silent("0.6.0"), source))[0]


def test_a_way_that_leads_nowhere_is_no_crash(files: Files, lm: SourceModel, tmp_path: Path) -> None:
    """A file that says of itself what cannot be: types that do not divide rows, and names of no tensor."""
    strange = {
        "": "q2_k, iq4_xs, f32", ".0.version": "0.6.0", ".1.version": "0.6.0", ".2.version": "0.6.0",
        ".1.types": "audio.group_proj.weight=q6_k\naudio.emb.0.weight=q4_k\n=f16\nx\ny=z",
    }  # fmt: skip
    add = [Key(f"mimo_convert.quantized_from{key}", text, GGUFValueType.STRING) for key, text in strange.items()]
    path = rewrite(
        files("q4_0", False), tmp_path / "x.gguf", keys=change("mimo_convert.version", value="0.6.0"), add=add
    )
    [reason, *_] = reasons(check(path, lm))
    assert reason.endswith("is the first that differs")
    assert " is not what our kernels make of the source by way of q2_k, iq4_xs, f32: block 0 " in reason
