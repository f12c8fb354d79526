"""Lint rules of tensors: which there are, their shapes, their types."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGUFValueType as V

from mimo_convert.formats.gguf import align, make_header, read_gguf
from mimo_convert.model.checkpoint import open_checkpoint
from quantize.types import TYPES, Type
from tests.contract import is_speech_generation
from tests.gguf_edit import Key, patch, rewrite
from tests.opened import make_request

from .linted import EMBED, LM_RULES, NORM, UP, checked, only, problems, run, valued


def test_lost_sizes_leave_the_tensors_unexamined_and_nothing_else(lm: Path, tmp_path: Path) -> None:
    path = valued(lm, tmp_path / "x.gguf", "mimo_asr.llm.hidden_size", None)
    only(path, "metadata")
    unexamined = {*LM_RULES, "scales"} - {rule.name for rule in checked(path).rules}
    assert unexamined == {"tensors", "shapes", "types"}


Tensors = tuple[str, tuple[int, ...], Type, bytes]


def retensored(source: Path, target: Path, change: Callable[..., Sequence[Tensors]]) -> Path:
    """The file with each tensor (name, shape, type, bytes) replaced by those that `change` makes of it."""
    file = read_gguf(source)
    tensors = [new for t in file.tensors.values() for new in change(t.name, t.shape, t.ggml_type, t.read().tobytes())]
    with target.open("wb") as out:
        out.write(make_header(file.architecture, file.entries, [tensor[:3] for tensor in tensors]).data)
        for *_, data in tensors:
            out.write(data.ljust(align(len(data)), b"\0"))
    return target


def named(name: str, change: Callable[..., Sequence[Tensors]]) -> Callable[..., Sequence[Tensors]]:
    """`change` of the tensor of that name alone."""
    return lambda *tensor: change(*tensor) if tensor[0] == name else [tensor]


def test_each_tensor_that_is_missing_or_extra_is_named(lm: Path, tmp_path: Path) -> None:
    path = rewrite(lm, tmp_path / "x.gguf", tensors=lambda name: name not in (NORM, UP), extra="llm.extra.weight")
    found = problems(path)
    assert found["tensors"] == (
        f"missing tensor {NORM}; expected shape 256",
        f"missing tensor {UP}; expected shape 512×256",
        "extra tensor llm.extra.weight; expected none of that name in a mimo_asr file of these sizes",
    )
    assert list(found) == ["tensors", "constant tensors"], "the extra one is zero"


def test_a_half_fused_file_is_held_against_what_most_of_it_is(lm: Path, tmp_path: Path) -> None:
    parts: list[Tensors] = []

    def fuse(*tensor: Any) -> list[Tensors]:
        name, shape, type, _ = tensor
        if not (name.startswith("model.layers.0.attn.") and name[20] in "qkv" and name.endswith("weight")):
            return [tensor]
        parts.append(tensor)
        if len(parts) < 3:
            return []
        rows = sum(part[1][0] for part in parts)
        return [("model.layers.0.attn.qkv.weight", (rows, *shape[1:]), type, b"".join(part[3] for part in parts))]

    lines = problems(retensored(lm, tmp_path / "x.gguf", fuse))["tensors"]
    assert [line.split(";")[0] for line in lines] == [
        *(f"missing tensor model.layers.0.attn.{part}.weight" for part in "qkv"),
        "extra tensor model.layers.0.attn.qkv.weight",
    ]


def test_half_a_speech_generator_is_named_by_what_it_lacks(lm: Path, tmp_path: Path) -> None:
    lost = ["llm.norm.weight", "llm.codebook_head.7.weight"]
    lines = problems(rewrite(lm, tmp_path / "x.gguf", tensors=lambda name: name not in lost))["tensors"]
    assert [line.split(";")[0] for line in lines] == [f"missing tensor {name}" for name in lost]
    kept = rewrite(lm, tmp_path / "y.gguf", tensors=lambda n: n == lost[0] or not is_speech_generation(n))
    assert only(kept, "tensors").startswith(f"extra tensor {lost[0]}; expected none of that name in a mimo_asr file wi")


@pytest.mark.parametrize(
    ("name", "value", "tensor", "shapes", "by"),
    [
        ("mimo_asr.llm.vocab_size", 1023, EMBED, "1024×256; expected 1023×256", "mimo_asr.llm.vocab_size"),
        ("mimo_asr.audio.group_size", 5, "audio.group_proj.weight", "256×1024; expected 256×1280",
         "mimo_asr.audio.group_size and mimo_asr.audio.input_dim"),
        ("mimo_asr.llm.head_dim", 64, "model.layers.0.attn.q.weight", "256×256; expected 128×256",
         "mimo_asr.llm.num_heads and mimo_asr.llm.head_dim"),
        ("mimo_asr.llm.num_kv_heads", 2, "model.layers.0.attn.k.bias", "128; expected 256",
         "mimo_asr.llm.num_kv_heads and mimo_asr.llm.head_dim"),
        ("mimo_asr.audio.speech_vocab.1", 1026, "audio.emb.1.weight", "1025×256; expected 1026×256",
         "mimo_asr.audio.speech_vocab.N"),
    ],
)  # fmt: skip
def test_a_size_that_lies_is_found_by_the_shapes_and_the_key_is_told(
    lm: Path, tmp_path: Path, name: str, value: int, tensor: str, shapes: str, by: str
) -> None:
    lines = problems(valued(lm, tmp_path / "x.gguf", name, value))["shapes"]
    assert f"tensor {tensor} is {shapes}, by {by}" in lines


def test_a_head_dim_may_be_missing_only_where_128_fits(lm: Path, small_lm: Path, tmp_path: Path) -> None:
    assert problems(valued(lm, tmp_path / "x.gguf", "mimo_asr.llm.head_dim", None)) == {}
    made = run(make_request(open_checkpoint(str(small_lm)), [TYPES["f16"]]), tmp_path)
    lines = problems(valued(made, tmp_path / "y.gguf", "mimo_asr.llm.head_dim", None))["shapes"]
    assert (
        "tensor model.layers.0.attn.q.weight is 128×256; expected 512×256, by mimo_asr.llm.num_heads and " in lines[0]
    )


@pytest.mark.parametrize("value", [3, 2**32 - 1])
def test_layers_that_are_not_there_are_missed_however_many_are_promised(lm: Path, tmp_path: Path, value: int) -> None:
    lines = problems(valued(lm, tmp_path / "x.gguf", "mimo_asr.llm.num_layers", value))["tensors"]
    assert any(line.startswith("missing tensor model.layers.2.attn_norm.weight") for line in lines)
    assert ("imply" in lines[0]) == (value > 3)
    assert lines[10].startswith("… and "), "not each of them"


# Types.


def test_a_file_type_that_is_missing_or_unknown_is_said_and_fixed_types_are_still_examined(
    lm: Path, tmp_path: Path
) -> None:
    for value, what in ((None, "is missing"), (19, "is 19"), (1023, "is 1023")):
        path = valued(lm, tmp_path / "x.gguf", "general.file_type", value)
        assert only(path, "types").startswith(f"key general.file_type {what}; expected one of 0 (f32), 1 (f16), ")
    half = retensored(path, tmp_path / "y.gguf", named(NORM, as_f16))
    assert problems(half)["types"][1] == f"tensor {NORM} is f16; expected f32 (norm: always)"


def as_f16(name: str, shape: tuple[int, ...], type: Type, data: bytes) -> list[Tensors]:
    return [(name, shape, TYPES["f16"], np.frombuffer(data, np.float32).astype(np.float16).tobytes())]


def as_f32(name: str, shape: tuple[int, ...], type: Type, data: bytes) -> list[Tensors]:
    rows = np.frombuffer(data, np.uint8).reshape(shape[0], -1)
    floats = gguf.quants.dequantize(rows, gguf.GGMLQuantizationType[type.name.upper()])
    return [(name, shape, TYPES["f32"], floats.tobytes())]


def test_a_codebook_in_half_precision_is_found(tokenizer: Path, tmp_path: Path) -> None:
    codebook = "encoder.quant.vq.layers.3._codebook.embed"
    path = retensored(tokenizer, tmp_path / "x.gguf", named(codebook, as_f16))
    assert only(path, "types") == f"tensor {codebook} is f16; expected f32 (codebook: always)"


def test_a_tensor_of_another_type_than_the_files_is_found_unless_a_rule_says_so(lm: Path, tmp_path: Path) -> None:
    path = retensored(lm, tmp_path / "x.gguf", named(UP, as_f32))
    line = only(path, "types")
    assert line.startswith(f"tensor {UP} is f32 without a weight beyond 0.")
    assert line.endswith("; expected q8_0 (general.file_type 7)")
    said = Key("mimo_convert.recipe", r"layers\.1\.ffn\.up=f32", V.STRING)
    assert problems(rewrite(path, tmp_path / "y.gguf", add=[said])) == {}
    wrong = Key("mimo_convert.recipe", r"layers\.1\.ffn=f32", V.STRING)
    lines = problems(rewrite(path, tmp_path / "z.gguf", add=[wrong]))["types"]
    assert [line.split(" is ")[0] for line in lines] == [
        f"tensor model.layers.1.ffn.{n}.weight" for n in ("gate", "down")
    ]
    assert lines[0].endswith(r" is q8_0; expected f32 (rule 1\.ffn=f32)")


def test_of_another_tools_file_only_types_that_a_role_decides_are_judged(lm: Path, tmp_path: Path) -> None:
    def without_ours(key: Key) -> Key | None:
        return None if key.name.startswith("mimo_convert.") else key

    mixed = rewrite(retensored(lm, tmp_path / "x.gguf", named(UP, as_f32)), tmp_path / "y.gguf", keys=without_ours)
    assert problems(mixed) == {}
    [types] = [rule for rule in checked(mixed).rules if rule.name == "types"]
    [of_ours] = [rule for rule in checked(lm).rules if rule.name == "types"]
    assert 0 < types.checked < of_ours.checked
    half = retensored(mixed, tmp_path / "z.gguf", named(NORM, as_f16))
    assert only(half, "types") == f"tensor {NORM} is f16; expected f32 (norm: always)"


def test_a_tensor_in_f32_is_right_if_it_holds_a_weight_that_its_type_cannot(lm: Path, tmp_path: Path) -> None:
    path = retensored(lm, tmp_path / "x.gguf", named(UP, as_f32))
    patch(path, UP, 4 * 256 * 7, np.array([-65520], np.float32))
    assert problems(path) == {}
    patch(path, UP, 4 * 256 * 7, np.array([-65519], np.float32))
    assert "f32 without a weight beyond 6.552e+04; expected q8_0" in only(path, "types")
