"""The static check: silent about every file that is as it should be, and a line for each thing that is not."""

import dataclasses
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGUFValueType as V
from hypothesis import assume, given
from hypothesis import strategies as st

from mimo_convert.checkpoint import open_checkpoint
from mimo_convert.convert import convert
from mimo_convert.gguf_file import GGUFFile, align, header_bytes, is_array, read_gguf
from mimo_convert.models import mimo_asr
from mimo_convert.plan import Options
from mimo_convert.request import Request, make_request
from mimo_convert.stored_model import model_of_checkpoint, model_of_file
from mimo_convert.vocabulary import Vocabulary
from quantize.errors import InputError
from quantize.recipes import parse_rule
from quantize.types import TYPES, Type
from runtime_check import bundled
from runtime_check.static_check import StaticCheck, check_static
from runtime_check.static_vocabulary import findings
from runtime_check.static_weights import SCALES, reach

from .. import zoo
from ..contract import is_speech_generation
from ..damage import cut, edit_tensor, set_weight
from ..gguf_edit import Key, patch, rewrite
from ..mimo_convert.test_plan import OUTTYPES, RULES
from ..synthetic import ADDED_TOKENS, N_PADDING, NOT_SPECIAL, REAL_VOCAB_SIZE, random_merges

LM_RULES = [
    "structure", "architecture", "metadata", "tensors", "shapes", "vocabulary", "merges", "token types",
    "special tokens", "padding", "types", "numbers", "constant tensors",
]  # fmt: skip
OF_WEIGHTS = ["numbers", "constant tensors", "scales"]
TOKENIZER_RULES = [name for name in LM_RULES if name not in LM_RULES[5:10]]


def checked(path: Path) -> StaticCheck:
    return check_static(path, threads=2)


def problems(path: Path) -> dict[str, tuple[str, ...]]:
    """What is wrong with a file, by rule."""
    result = checked(path)
    found = {rule.name: rule.problems for rule in result.rules if rule.problems}
    assert result.passed == (not found)
    assert result.reasons == [f"{name}: {problem}" for name, lines in found.items() for problem in lines]
    return found


def only(path: Path, rule: str) -> str:
    """The one thing that is wrong with a file, of this rule."""
    found = problems(path)
    assert list(found) == [rule], found
    [line] = found[rule]
    assert line.isprintable()
    return line


# Files that are as they should be.


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool], Path]:
    """The folder of the tiny pair in every type, by layout."""
    folders = {fused: tmp_path_factory.mktemp("tiny") for fused in (False, True)}
    for fused, out in folders.items():
        checkpoints = bundled.open_model("tiny"), bundled.open_tokenizer(None, "tiny")
        requests = [make_request(checkpoint, list(TYPES.values()), Options(fused)) for checkpoint in checkpoints]
        convert(requests, out, threads=2)
    return folders.__getitem__


@pytest.mark.parametrize("outtype", TYPES)
@pytest.mark.parametrize("fused", [False, True], ids=["separate", "fused"])
def test_the_tiny_pair_passes_in_every_type(tiny: Callable[[bool], Path], fused: bool, outtype: str) -> None:
    floats = outtype in ("f32", "f16", "bf16")
    for name, rules in ((f"mimo-asr-{outtype}", LM_RULES), (f"mimo-tokenizer-{outtype}", TOKENIZER_RULES)):
        path = tiny(fused) / f"{name}.gguf"
        result = checked(path)
        assert result.reasons == []
        assert (result.passed, result.path, result.size) == (True, path, path.stat().st_size)
        assert [rule.name for rule in result.rules] == [*rules, *([] if floats else ["scales"])]
        assert all(rule.checked for rule in result.rules)
        assert {rule.name: rule.checked for rule in result.rules}["numbers"] == weights_of(path)


def weights_of(path: Path) -> int:
    return sum(tensor.n_elements for tensor in gguf.GGUFReader(path).tensors)


@given(OUTTYPES, st.booleans(), st.booleans(), RULES, st.none() | OUTTYPES, st.booleans(), RULES)
def test_whatever_mimo_convert_and_mimo_quantize_write_passes(
    small_lm: Path, tmp_path_factory: pytest.TempPathFactory, outtype: str, fuse: bool, asr_only: bool,
    rules: list[str], again: str | None, fuse_again: bool, more_rules: list[str],
) -> None:  # fmt: skip
    out = tmp_path_factory.mktemp("lm")
    first = Options(fuse, asr_only, tuple(parse_rule(rule, "x") for rule in rules))
    second = Options(fuse_again, asr_only, tuple(parse_rule(rule, "x") for rule in more_rules), allow_requantize=True)
    model = model_of_checkpoint(open_checkpoint(str(small_lm)))
    try:
        made = run(Request(model, [TYPES[outtype]], first), out)
        assert problems(made) == {}
        request = Request(model_of_file(made), [TYPES[again] if again else None], second, "again.gguf")
        assume(can_be_planned(request))
        assert problems(run(request, out)) == {}
    finally:
        shutil.rmtree(out)


def can_be_planned(request: Request) -> bool:
    """Not if Q, K and V of different types are to be fused as they are."""
    with suppress(InputError):
        return bool(request.plans)
    return False


def run(request: Request, out: Path) -> Path:
    [plan] = convert([request], out, threads=2)
    return out / plan.file_name


@pytest.mark.parametrize("fused", [False, True], ids=["separate", "fused"])
@pytest.mark.parametrize("outtype", ["f16", "q4_k"])
def test_what_is_kept_in_f32_for_a_weight_passes_in_whatever_layout(
    small_lm: Path, tmp_path: Path, outtype: str, fused: bool
) -> None:
    """Fused, K and V are F32 for a weight of Q; split, they are because a rule of their own says so."""
    checkpoint, name = shutil.copytree(small_lm, tmp_path / "lm"), "model.layers.1.self_attn.q_proj.weight"
    edit_tensor(checkpoint, name, lambda tensor: tensor.float())
    set_weight(checkpoint, name, 3, 2.0**20)
    made = run(make_request(open_checkpoint(str(checkpoint)), [TYPES[outtype]], Options(fused)), tmp_path)
    assert problems(made) == {}
    assert problems(run(Request(model_of_file(made), [None], Options(fused), "same.gguf"), tmp_path)) == {}
    assert (tmp_path / "same.gguf").read_bytes() == made.read_bytes()
    if fused:
        split = run(Request(model_of_file(made), [None], Options(False), "split.gguf"), tmp_path)
        assert problems(split) == {}
        types = {tensor.type.name for name, tensor in read_gguf(split).tensors.items() if "1.attn.k.w" in name}
        assert types == {"f32"}


def test_a_file_of_an_older_tool_without_the_keys_that_are_ours_passes(lm: Path, tmp_path: Path) -> None:
    ours = ("llm.head_dim", "delay_pattern", "audio.rope_theta", "token_type", "_token_id", ".pre", "_version")

    def older(key: Key) -> Key | None:
        return None if key.name.endswith(ours) else key

    assert problems(rewrite(lm, tmp_path / "x.gguf", keys=older)) == {}


# What is wrong, one thing at a time. The file is in Q8_0, its layout separate.


@pytest.fixture(scope="module")
def lm(tiny: Callable[[bool], Path]) -> Path:
    return tiny(False) / "mimo-asr-q8_0.gguf"


@pytest.fixture(scope="module")
def tokenizer(tiny: Callable[[bool], Path]) -> Path:
    return tiny(False) / "mimo-tokenizer-q8_0.gguf"


def test_a_file_that_was_only_written_anew_passes(lm: Path, tmp_path: Path) -> None:
    """So that what the tests below find is their doing."""
    assert problems(rewrite(lm, tmp_path / "x.gguf")) == {}
    assert problems(retensored(lm, tmp_path / "y.gguf", lambda *tensor: [tensor])) == {}


def test_a_file_that_cannot_be_opened_is_an_error_and_no_result(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        checked(tmp_path / "absent.gguf")
    with pytest.raises(InputError, match="is a folder"):
        checked(tmp_path)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda path: cut(path, -1000), "cut short in tensor "),
        (lambda path: cut(path, 2000), "cut short: 2000 bytes, its header reaches beyond"),
        (lambda path: cut(path, 0), "not a GGUF file; expected a file that begins with the bytes GGUF"),
        (lambda path: path.write_bytes(b"GGUF" + bytes(40)), "GGUF version 0; expected 3"),
    ],
)
def test_a_broken_structure_is_a_result(lm: Path, tmp_path: Path, damage: Callable[[Path], object], says: str) -> None:
    path = Path(shutil.copy(lm, tmp_path))
    damage(path)
    assert only(path, "structure").startswith(says)
    assert checked(path).size == path.stat().st_size


def test_what_follows_the_last_tensor_is_found_and_the_rest_examined(lm: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(lm, tmp_path))
    with path.open("ab") as file:
        file.write(b"x" * 33)
    assert only(path, "structure").startswith("33 bytes follow the last tensor; expected ")
    assert len(checked(path).rules) == len(LM_RULES) + 1


def test_of_an_unknown_family_the_weights_are_still_examined(lm: Path, tmp_path: Path) -> None:
    path = rewrite(lm, tmp_path / "x.gguf", architecture="llama")
    patch(path, "llm.final_norm.weight", 0, np.array([np.nan], np.float32))
    found = problems(path)
    assert found["architecture"] == ("key general.architecture is 'llama'; expected mimo_asr or mimo_tokenizer",)
    assert found["numbers"] == ("tensor llm.final_norm.weight holds NaN in row 0; expected numbers",)
    assert [rule.name for rule in checked(path).rules] == [
        "structure", "architecture", "numbers", "constant tensors", "scales"
    ]  # fmt: skip


# Metadata.


def changed(**keys: Key | None) -> Callable[[Key], Key | None]:
    """Each key that is named, with `__` for a point, becomes another."""
    return lambda key: keys.get(key.name.replace(".", "__"), key)


def valued(source: Path, target: Path, name: str, value: Any, type: V | None = None) -> Path:
    """The file with one value changed, or taken out if that is None."""

    def change(key: Key) -> Key | None:
        if key.name != name:
            return key
        return None if value is None else key._replace(value=value, **({"type": type} if type else {}))

    return rewrite(source, target, keys=change)


@pytest.mark.parametrize(
    ("name", "value", "type", "says"),
    [
        ("mimo_asr.llm.vocab_size", "1024", V.STRING, "is '1024', string; expected uint32"),
        ("mimo_asr.llm.vocab_size", 1024.0, V.FLOAT32, "is 1024.0, float32; expected uint32"),
        ("mimo_asr.llm.num_layers", 2, V.UINT64, "is 2, uint64; expected uint32"),
        ("mimo_asr.audio.speech_vocab.3", -129, V.INT32, "is -129, int32; expected uint32"),
        ("mimo_asr.llm.num_layers", 0, None, "is 0; expected a positive number"),
        ("mimo_asr.llm.num_layers", None, None, "is missing; expected uint32"),
        ("mimo_asr.llm.rope_theta", None, None, "is missing; expected float32"),
        ("mimo_asr.llm.rope_theta", 10.0, None, "is 10; expected 1000 to 1e+09"),
        ("mimo_asr.llm.rms_norm_eps", 1.0, None, "is 1; expected 1e-12 to 0.01"),
        ("mimo_asr.llm.rms_norm_eps", 0.0, None, "is 0; expected 1e-12 to 0.01"),
        ("mimo_asr.audio.speech_zeroemb.0", 1023, None, "is 1023; expected the last id, 1024"),
        ("mimo_asr.audio.delay_pattern", "0-1-2-3-4-5-6", None, "is '0-1-2-3-4-5-6'; expected 8 numbers joined by"),
        ("general.quantization_version", 3, None, "is 3; expected 2"),
        ("tokenizer.ggml.eos_token_id", 987, V.UINT64, "is 987, uint64; expected uint32"),
    ],
)
def test_a_key_that_cannot_be_is_named(
    lm: Path, tmp_path: Path, name: str, value: Any, type: V | None, says: str
) -> None:
    found = problems(valued(lm, tmp_path / "x.gguf", name, value, type))["metadata"]
    assert found[0].replace("key ", "").startswith(f"{name} {says}")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_a_theta_that_is_no_number_is_named(lm: Path, tmp_path: Path, value: float) -> None:
    lines = problems(valued(lm, tmp_path / "x.gguf", "mimo_asr.llm.rope_theta", value))["metadata"]
    assert any(line.startswith(f"key mimo_asr.llm.rope_theta is {value:g}; expected 1000") for line in lines)


def test_a_list_where_a_text_should_be_and_a_text_where_a_list(lm: Path, tmp_path: Path) -> None:
    keys = changed(
        general__name=Key("general.name", ["a"], V.ARRAY, V.STRING),
        tokenizer__ggml__merges=Key("tokenizer.ggml.merges", "a b", V.STRING),
    )
    found = problems(rewrite(lm, tmp_path / "x.gguf", keys=keys))
    assert found["metadata"] == (
        "key general.name holds 1 values, a list of string; expected string",
        "key tokenizer.ggml.merges is 'a b', string; expected a list of string",
    )
    assert found["merges"] == (
        "key tokenizer.ggml.merges is missing, empty, or holds no strings; expected every merge",
    )


def test_a_recipe_that_cannot_be_read_leaves_the_types_unexamined(lm: Path, tmp_path: Path) -> None:
    path = rewrite(lm, tmp_path / "x.gguf", add=[Key("mimo_convert.recipe", "up=q9_z", V.STRING)])
    assert only(path, "metadata").startswith("key mimo_convert.recipe:1: 'up=q9_z' is no rule; expected REGEX=TYPE")
    assert "types" not in [rule.name for rule in checked(path).rules]


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        (
            "(?!llm).*=q8_0",
            ":1: '(?!llm).*' uses look-ahead (?!, which rules cannot: they are matched by RE2 in linear",
        ),
        ("(a)\\1=q8_0", ":1: '(a)\\\\1' uses a back-reference \\1, which rules cannot"),
        ("up=q8_0\n" * 1_001, " holds more than 1,000 rules; expected fewer"),
        ("(.?){1000}=q8_0", ":1: '(.?){1000}' is too large for a rule; expected at most 2,000 instructions of RE2"),
        ("#" * 200_000, ": has 200,000 characters; expected at most 100,000"),
    ],
)
def test_a_recipe_that_cannot_be_matched_is_a_finding(lm: Path, tmp_path: Path, recipe: str, says: str) -> None:
    path = rewrite(lm, tmp_path / "x.gguf", add=[Key("mimo_convert.recipe", recipe, V.STRING)])
    assert only(path, "metadata").startswith(f"key mimo_convert.recipe{says}".replace("recipe holds", "recipe: holds"))
    assert "types" not in [rule.name for rule in checked(path).rules]


def test_a_recipe_that_would_backtrack_for_years_is_examined_at_once(lm: Path, tmp_path: Path) -> None:
    """As a process of its own; a tensor of a long name is there, too."""
    keys = [Key("mimo_convert.recipe", "(.+)+!=q4_k\n(a|aa|.)*!=f16", V.STRING)]
    path = rewrite(lm, tmp_path / "x.gguf", add=keys, extra="llm." + "a" * 50)
    code = "from runtime_check.cli import main; main()"
    command = [sys.executable, "-c", code, path, "--static"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (result.returncode, result.stderr) == (1, "")
    assert "extra tensor llm.aaa" in result.stdout
    assert re.search(r"^types +\d+ +ok", result.stdout, re.MULTILINE), result.stdout


@pytest.mark.parametrize("value", [7, "x", True, 1.5, ["1"] * 1024, [1.0] * 1024, [True] * 1024, [1] * 3, np.arange(3),
                                   np.ones(1024), np.ones(1024, bool), np.zeros(5_000_000, np.int32)],
                         ids=lambda value: f"{type(value).__name__} {str(value)[:9]}")  # fmt: skip
@pytest.mark.parametrize("name", ["token_type", "model", "pre", "tokens", "merges", "eos_token_id"])
def test_a_vocabulary_of_any_type_is_findings(lm: Path, name: str, value: Any) -> None:
    file = read_gguf(lm)
    key = f"tokenizer.ggml.{name}"
    strings = isinstance(value, list) and isinstance(value[0], str)
    types = {**file.value_types, key: V.STRING if strings else V.INT32}
    changed = dataclasses.replace(file, metadata={**file.metadata, key: value}, value_types=types)
    lines = [line for _, _, lines in findings(changed, mimo_asr.FAMILY, 1024) for line in lines]
    assert lines
    assert all(len(line) < 500 for line in lines)


def test_lost_sizes_leave_the_tensors_unexamined_and_nothing_else(lm: Path, tmp_path: Path) -> None:
    path = valued(lm, tmp_path / "x.gguf", "mimo_asr.llm.hidden_size", None)
    only(path, "metadata")
    unexamined = {*LM_RULES, "scales"} - {rule.name for rule in checked(path).rules}
    assert unexamined == {"tensors", "shapes", "types"}


# Tensors and shapes.

Tensors = tuple[str, tuple[int, ...], Type, bytes]


def retensored(source: Path, target: Path, change: Callable[..., Sequence[Tensors]]) -> Path:
    """The file with each tensor (name, shape, type, bytes) replaced by those that `change` makes of it."""
    file = read_gguf(source)
    tensors = [new for t in file.tensors.values() for new in change(t.name, t.shape, t.type, t.read().tobytes())]
    with target.open("wb") as out:
        out.write(header_bytes(file.architecture, file.entries, [tensor[:3] for tensor in tensors]))
        for *_, data in tensors:
            out.write(data.ljust(align(len(data)), b"\0"))
    return target


def named(name: str, change: Callable[..., Sequence[Tensors]]) -> Callable[..., Sequence[Tensors]]:
    """`change` of the tensor of that name alone."""
    return lambda *tensor: change(*tensor) if tensor[0] == name else [tensor]


NORM, UP, EMBED = "llm.final_norm.weight", "model.layers.1.ffn.up.weight", "llm.embed.weight"


def test_each_tensor_that_is_missing_or_extra_is_named(lm: Path, tmp_path: Path) -> None:
    path = rewrite(lm, tmp_path / "x.gguf", tensors=lambda name: name not in (NORM, UP), extra="llm.extra.weight")
    found = problems(path)
    assert found["tensors"] == (
        f"missing tensor {NORM}; expected shape 256",
        f"missing tensor {UP}; expected shape 256×256",
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
    assert ("promise" in lines[0]) == (value > 3)
    assert lines[10].startswith("… and "), "not each of them"


# Types.


def test_a_file_type_that_is_missing_or_unknown_is_said_and_fixed_types_are_still_examined(
    lm: Path, tmp_path: Path
) -> None:
    for value, what in ((None, "is missing"), (15, "is 15"), (1023, "is 1023")):
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
    said = Key("mimo_convert.recipe", r"1\.ffn\.up=f32", V.STRING)
    assert problems(rewrite(path, tmp_path / "y.gguf", add=[said])) == {}
    wrong = Key("mimo_convert.recipe", r"1\.ffn=f32", V.STRING)
    lines = problems(rewrite(path, tmp_path / "z.gguf", add=[wrong]))["types"]
    assert [line.split(" is ")[0] for line in lines] == [
        f"tensor model.layers.1.ffn.{n}.weight" for n in ("gate", "down")
    ]
    assert lines[0].endswith(r" is q8_0; expected f32 (rule 1\.ffn=f32)")


def test_a_tensor_in_f32_is_right_if_it_holds_a_weight_that_its_type_cannot(lm: Path, tmp_path: Path) -> None:
    path = retensored(lm, tmp_path / "x.gguf", named(UP, as_f32))
    patch(path, UP, 4 * 256 * 7, np.array([-65520], np.float32))
    assert problems(path) == {}
    patch(path, UP, 4 * 256 * 7, np.array([-65519], np.float32))
    assert "f32 without a weight beyond 6.552e+04; expected q8_0" in only(path, "types")


# The vocabulary.

Lists = dict[str, Any]


def told(lm: Path, tmp_path: Path, change: Callable[[Lists], object]) -> dict[str, tuple[str, ...]]:
    """What is wrong with a file whose tokenizer's keys, by their last part, are as `change` leaves them."""
    kept = read_gguf(lm).metadata
    lists = {key.removeprefix("tokenizer.ggml."): value for key, value in kept.items() if "tokenizer.ggml" in key}
    lists = {key: np.array(value).tolist() if is_array(value) else value for key, value in lists.items()}
    change(lists)

    def keys(key: Key) -> Key | None:
        if not key.name.startswith("tokenizer.ggml."):
            return key
        value = lists.get(key.name.removeprefix("tokenizer.ggml."))
        return None if value is None else key._replace(value=value)

    return problems(rewrite(lm, tmp_path / "x.gguf", keys=keys))


def put(name: str, at: int, value: Any) -> Callable[[Lists], None]:
    def change(lists: Lists) -> None:
        lists[name][at] = value

    return change


def swapped(name: str, a: int, b: int) -> Callable[[Lists], None]:
    def change(lists: Lists) -> None:
        lists[name][a], lists[name][b] = lists[name][b], lists[name][a]

    return change


def cut_tokens(lists: Lists) -> None:
    for name in ("tokens", "token_type"):
        del lists[name][1000:]


EOT, UNKNOWN_TYPE = 987, 9  # <|endoftext|>, the first behind the plain tokens of tiny


@pytest.mark.parametrize(
    ("change", "rule", "says"),
    [
        (lambda lists: lists.pop("tokens"), "vocabulary", "key tokenizer.ggml.tokens is missing, empty, or holds no"),
        (cut_tokens, "vocabulary", "key tokenizer.ggml.tokens has 1,000; expected vocab_size, 1,024"),
        (put("tokens", 300, "Ġthe"), "vocabulary", "token 300 is 'Ġthe', as token "),
        (put("tokens", 5, "QQ"), "vocabulary", "no plain token is '&'; expected one for each of the 256 bytes"),
        (put("tokens", 400, "two words"), "vocabulary", "token 400 is 'two words', plain text; expected letters that"),
        (put("tokens", 400, ""), "vocabulary", "token 400 is empty; expected text"),
        (lambda lists: lists.update(pre="gpt-2"), "vocabulary", "key tokenizer.ggml.pre is 'gpt-2'; expected 'qwen2'"),
        (lambda lists: lists.pop("model"), "vocabulary", "key tokenizer.ggml.model is missing; expected 'gpt2'"),
        (lambda lists: lists.pop("merges"), "merges", "key tokenizer.ggml.merges is missing, empty"),
        (lambda lists: lists["merges"].pop(50), "merges", "token 306 ("),
        (put("merges", 50, "aXb"), "merges", "merge 50 ('aXb') is malformed; expected two parts"),
        (put("merges", 50, "q qzzz"), "merges", "merge 50 ('q qzzz') needs 'qzzz', which is no plain token; expected"),
        (lambda lists: lists["merges"].append(lists["merges"][3]), "merges", "merge 731 ("),
        (swapped("merges", 100, 101), "merges", "merge 101 ("),
        (swapped("merges", 300, 700), "merges", "merge 301 ("),
        (put("token_type", 300, UNKNOWN_TYPE), "token types", "token 300 has the type 9; expected one of 1, 3, 4, 5"),
        (lambda lists: lists["token_type"].pop(), "token types", "key tokenizer.ggml.token_type has 1,023; expected"),
        (put("token_type", 300, 3), "token types", "token 301 ("),
        (put("token_type", EOT + 2, 1), "token types", "token 989 ('<|im_end|>') is normal, behind control ones;"),
        (put("token_type", EOT + 22, 1), "special tokens", "token 1009 (<|sosp|>) is normal; expected control, for"),
        (put("tokens", EOT + 24, "<|emtpy|>"), "special tokens", "no token is <|empty|>; expected it, for the prompt"),
        (swapped("tokens", EOT, EOT + 3), "special tokens", "the first added token, 987, is '<|object_ref_start|>'"),
        (lambda lists: lists.update(eos_token_id=0), "special tokens",
         "key tokenizer.ggml.eos_token_id is 0, the normal token '!'; expected <|im_end|> or <|endoftext|>"),
        (lambda lists: lists.update(eos_token_id=1009), "special tokens",
         "key tokenizer.ggml.eos_token_id is 1009, the control token '<|sosp|>'; expected <|im_end|> or"),
        (lambda lists: lists.update(padding_token_id=1024), "special tokens",
         "key tokenizer.ggml.padding_token_id is 1024; expected an id below 1024"),
        (lambda lists: lists.update(padding_token_id=1020), "special tokens",
         "key tokenizer.ggml.padding_token_id is 1020, the unused token '[PAD1020]'; expected a control token"),
        (put("tokens", 1020, "[PAD7]"), "padding", "token 1020 is '[PAD7]', and unused; expected [PAD1020]"),
        (put("token_type", 1023, 3), "padding", "token 1023 ([PAD1023]) is control; expected unused"),
        (put("token_type", 1000, 5), "padding", "token 1000 is '<|video_pad|>', and unused; expected [PAD1000]"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_vocabulary_is_found_by_its_rule(
    lm: Path, tmp_path: Path, change: Callable[[Lists], object], rule: str, says: str
) -> None:
    found = told(lm, tmp_path, change)
    assert any(line.startswith(says) for line in found[rule]), found
    assert found.keys() <= {"metadata", "vocabulary", "merges", "token types", "special tokens", "padding"}


def test_two_merges_that_changed_places_are_named(lm: Path, tmp_path: Path) -> None:
    lines = told(lm, tmp_path, swapped("merges", 300, 700))["merges"]
    merges = read_gguf(lm).metadata["tokenizer.ggml.merges"]
    assert (
        f"merge 301 ({merges[301]!r}) gives id 557, and the one before it id 956; expected the order of ids"
        in lines[-2]
    )
    assert f"merge 700 ({merges[300]!r}) gives id 556" in lines[-1]


def test_a_merge_before_one_that_it_needs_is_found_whatever_the_order_of_ids(lm: Path, tmp_path: Path) -> None:
    def shuffle(lists: Lists) -> None:
        random.Random(0).shuffle(lists["merges"])

    lines = told(lm, tmp_path, shuffle)["merges"]
    assert len(lines) == 11
    assert all(" gives; expected that one before it" in line for line in lines[:10])


def test_lost_merges_are_counted_when_they_are_many(lm: Path, tmp_path: Path) -> None:
    def without_spaces(lists: Lists) -> None:
        lists["merges"] = [merge for merge in lists["merges"] if not merge.startswith("Ġ")]

    lines = told(lm, tmp_path, without_spaces)["merges"]
    lost = sum(merge.startswith("Ġ") for merge in read_gguf(lm).metadata["tokenizer.ggml.merges"])
    found = [line for line in lines if line.endswith("is the result of no merge; expected one")]
    assert len(found) == 10
    assert lines[-1] == f"… and {lost - 10} more"


@pytest.fixture(scope="module")
def published() -> Vocabulary:
    """As many tokens as the published model has, in the same places."""
    plain, pairs = random_merges(REAL_VOCAB_SIZE - N_PADDING - len(ADDED_TOKENS), seed=0)
    padding = [f"[PAD{id}]" for id in range(REAL_VOCAB_SIZE - N_PADDING, REAL_VOCAB_SIZE)]
    types = [1] * len(plain) + [4 if text in NOT_SPECIAL else 3 for text in ADDED_TOKENS] + [5] * N_PADDING
    merges = [" ".join(pair) for pair in pairs]
    return Vocabulary([*plain, *ADDED_TOKENS, *padding], types, merges, len(plain), len(plain))


def found_in(vocabulary: Vocabulary) -> dict[str, list[str]]:
    """What is wrong with it, as in a file."""
    metadata = {f"tokenizer.ggml.{key.replace('types', 'type')}": value for key, value in vars(vocabulary).items()} | {
        "tokenizer.ggml.model": "gpt2"
    }
    file = GGUFFile(Path("x"), metadata, dict.fromkeys(metadata, V.STRING), {}, 0)
    every = {name: list(lines) for name, _, lines in findings(file, mimo_asr.FAMILY, REAL_VOCAB_SIZE)}
    return {name: lines for name, lines in every.items() if lines}


def test_a_vocabulary_of_the_published_size_passes(published: Vocabulary) -> None:
    assert found_in(published) == {}


def test_a_vocabulary_of_the_published_size_must_have_the_published_ids(published: Vocabulary) -> None:
    tokens, types = list(published.tokens), list(published.token_types)
    tokens[151_665], tokens[151_666] = tokens[151_666], tokens[151_665]
    assert found_in(dataclasses.replace(published, tokens=tokens)) == {
        "special tokens": [
            "token <|sosp|> has id 151666; expected 151665, as published",
            "token <|eosp|> has id 151665; expected 151666, as published",
        ]
    }
    tokens, types[151_672] = list(published.tokens), 5
    tokens[151_672] = "[PAD151672]"
    assert found_in(dataclasses.replace(published, tokens=tokens, token_types=types)) == {
        "special tokens": ["token <|eot|> is not there; expected 151672, as published"],
        "padding": ["8 tokens are unused; expected 7, as published"],
    }


def test_the_96_lost_merges_of_published_files_are_found(published: Vocabulary) -> None:
    merges = [merge for merge in published.merges if not merge.startswith("#")]
    lines = found_in(dataclasses.replace(published, merges=merges))["merges"]
    assert lines[0] == "key tokenizer.ggml.merges has 151,291; expected 151,387, as published"
    assert sum(line.endswith("is the result of no merge; expected one") for line in lines) == 96


# Weights.


@pytest.mark.parametrize(
    ("tensor", "at", "value", "says"),
    [
        (NORM, 4 * 9, np.float32(np.nan), "NaN in row 0"),
        (NORM, 4 * 9, np.float32(-np.inf), "infinity in row 0"),
        (UP, 34 * 8 * 77, np.float16(np.nan), "NaN in row 77, and 31 more that are no numbers"),
        (UP, 34 * (8 * 77 + 7), np.float16(np.inf), " in row 77, and "),
        ("model.layers.0.attn.q.bias", 4 * 255, np.float32(np.nan), "NaN in row 0"),
    ],
)
def test_what_is_no_number_is_found_with_its_row(
    lm: Path, tmp_path: Path, tensor: str, at: int, value: Any, says: str
) -> None:
    path = Path(shutil.copy(lm, tmp_path))
    patch(path, tensor, at, np.array([value]))
    line = only(path, "numbers")
    assert line.startswith(f"tensor {tensor} holds ")
    assert says in line


@pytest.mark.parametrize("outtype", [name for name in TYPES if name != "f32"])
def test_what_is_no_number_is_found_in_every_type(tiny: Callable[[bool], Path], tmp_path: Path, outtype: str) -> None:
    path = Path(shutil.copy(tiny(True) / f"mimo-asr-{outtype}.gguf", tmp_path))
    type = TYPES[outtype]
    place = type.nbytes(256) * 77 + (2 * SCALES[outtype].scale if outtype in SCALES else 0)
    value = np.array([0x7FC0], np.uint16) if outtype == "bf16" else np.array([np.nan], np.float16)
    patch(path, UP, place, value)
    assert only(path, "numbers").startswith(f"tensor {UP} holds NaN in row 77")


@pytest.mark.parametrize(
    ("tensor", "data", "says"),
    [
        (NORM, np.zeros(256, np.float32), "each of its 256 weights is 0; expected different ones"),
        (NORM, np.full(256, 0.5, np.float32), "each of its 256 weights is 0.5; expected different ones"),
        ("model.layers.0.attn.q.bias", np.zeros(256, np.float32), "each of its 256 weights is 0; expected"),
        (UP, np.zeros(256 * 272, np.uint8), "each of its 65,536 weights is 0; expected different ones"),
        (UP, np.full(256 * 272, 1, np.uint8), "each of its 65,536 weights is 1.53"),
    ],
)
def test_a_tensor_that_says_nothing_is_found(
    lm: Path, tmp_path: Path, tensor: str, data: np.ndarray[Any, Any], says: str
) -> None:
    path = Path(shutil.copy(lm, tmp_path))
    patch(path, tensor, 0, data)
    assert only(path, "constant tensors").startswith(f"tensor {tensor}: {says}")


def test_a_norm_of_ones_is_one_that_was_not_trained(lm: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(lm, tmp_path))
    patch(path, NORM, 0, np.ones(256, np.float32))
    assert problems(path) == {}


@pytest.mark.parametrize("outtype", SCALES)
def test_an_absurd_scale_is_found_with_its_row_and_block(
    tiny: Callable[[bool], Path], tmp_path: Path, outtype: str
) -> None:
    type, fields = TYPES[outtype], SCALES[outtype]
    for half in filter(lambda half: half is not None, (fields.scale, fields.minimum)):
        path = Path(shutil.copy(tiny(False) / f"mimo-asr-{outtype}.gguf", tmp_path))
        patch(path, UP, type.nbytes(256 * 78) - type.block_bytes + 2 * half, np.array([-60000], np.float16))
        line = only(path, "scales")
        assert line.startswith(f"tensor {UP}, row 77, block {256 // type.block - 1}: its scales reach ")
        assert "; expected less than 1000 times the median block's " in line


@pytest.mark.parametrize("outtype", SCALES)
def test_no_weight_exceeds_what_its_blocks_scales_reach(outtype: str) -> None:
    """Whatever the bytes, as the `gguf` library dequantizes them; and some weights come near."""
    type, generator = TYPES[outtype], np.random.default_rng(0)
    rows = generator.integers(0, 256, (4096, type.block_bytes), np.uint8)
    fields = SCALES[outtype]
    for half in (fields.scale, fields.minimum):
        if half is not None:
            rows[:, 2 * half : 2 * half + 2] = generator.normal(0, 1, (4096, 1)).astype(np.float16).view(np.uint8)
    largest = np.abs(gguf.quants.dequantize(rows, gguf.GGMLQuantizationType[outtype.upper()])).max(axis=1)
    reached = reach(rows, type)
    assert reached.shape == (4096,)
    assert (largest <= reached * (1 + 1e-6)).all()
    assert (largest > reached * 0.7).any()


def test_every_type_of_blocks_has_its_scales_in_the_table() -> None:
    assert SCALES.keys() == {name for name, type in TYPES.items() if type.block > 1}


def test_tensors_of_zeros_for_the_most_part_have_no_absurd_blocks(lm: Path, tmp_path: Path) -> None:
    """A vocabulary has rows that nothing trains."""
    path = Path(shutil.copy(lm, tmp_path))
    patch(path, EMBED, 0, np.zeros(1000 * 272, np.uint8))
    assert problems(path) == {}


# Without the weights.


def without_weights(path: Path, header: int) -> Path:
    """A sparse file of the same size, with its header only."""
    sparse = path.with_suffix(".header")
    sparse.write_bytes(path.read_bytes()[:header])
    os.truncate(sparse, path.stat().st_size)
    return sparse


def header_of(path: Path) -> int:
    return min(tensor.begin for tensor in read_gguf(path).tensors.values())


@pytest.mark.parametrize("name", ["mimo-asr-q8_0", "mimo-asr-f16", "mimo-tokenizer-q4_k"])
def test_a_file_of_which_only_the_header_is_there_passes_if_that_is_good(
    tiny: Callable[[bool], Path], tmp_path: Path, name: str
) -> None:
    path = Path(shutil.copy(tiny(True) / f"{name}.gguf", tmp_path))
    whole, sparse = checked(path), without_weights(path, header_of(path))
    result = check_static(sparse, threads=2, weights=False)
    assert (result.reasons, result.size) == ([], path.stat().st_size)
    assert result.rules == tuple(rule for rule in whole.rules if rule.name not in OF_WEIGHTS)
    assert not checked(sparse).passed


OF_HEADERS = [
    defect
    for defect in zoo.VOCABULARY + zoo.METADATA + zoo.STRUCTURE + zoo.LAYOUT
    if defect.damage and defect.on.startswith("tiny")
]


@pytest.mark.parametrize("defect", OF_HEADERS, ids=lambda defect: defect.name)
def test_every_defect_of_a_header_is_found_in_the_header(
    tiny: Callable[[bool], Path], tmp_path: Path, defect: zoo.Defect
) -> None:
    """Whatever the whole file's rules say, but those that look at weights."""
    _, half, type, *fused = defect.on.split()
    stem = {"lm": "mimo-asr", "tokenizer": "mimo-tokenizer"}[half]
    path = Path(shutil.copy(tiny(bool(fused)) / f"{stem}-{type}.gguf", tmp_path))
    header = header_of(path)
    assert defect.damage
    defect.damage(path)
    with suppress(InputError):
        header = header_of(path)
    expected = {name: lines for name, lines in problems(path).items() if name not in OF_WEIGHTS}
    if defect.name == "a matrix left in F32":  # perhaps for a weight that Q4_K would make infinite
        expected = {}
    result = check_static(without_weights(path, header), threads=2, weights=False)
    assert {rule.name: rule.problems for rule in result.rules if rule.problems} == expected


# All of it.


def test_every_problem_is_found_and_beyond_ten_of_a_kind_counted(lm: Path, tmp_path: Path) -> None:
    lost = [f"model.layers.{i}.ffn.{name}.weight" for i in range(2) for name in ("gate", "up", "down")]
    lost += [f"audio.emb.{c}.weight" for c in range(8)]

    def keys(key: Key) -> Key | None:
        return key._replace(value=5) if key.name == "mimo_asr.audio.group_size" else key

    path = rewrite(lm, tmp_path / "x.gguf", tensors=lambda name: name not in lost, keys=keys)
    patch(path, NORM, 0, np.array([np.nan], np.float32))
    found = problems(path)
    assert {name: len(lines) for name, lines in found.items()} == {"tensors": 11, "shapes": 1, "numbers": 1}
    assert found["tensors"][10] == "… and 4 more"


def test_the_result_does_not_depend_on_threads(lm: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(lm, tmp_path))
    for tensor in (UP, EMBED):
        patch(path, tensor, 34 * 8 * 5, np.array([np.nan], np.float16))
        patch(path, tensor, 34 * 8 * 9, np.array([60000], np.float16))
    results = [dataclasses.replace(check_static(path, threads), seconds=0.0) for threads in (1, 2, 7)]
    assert len(results[0].reasons) == 4
    assert results[0] == results[1] == results[2]


def test_a_name_that_a_terminal_would_obey_is_shown_and_not_printed(lm: Path, tmp_path: Path) -> None:
    path = rewrite(lm, tmp_path / "x.gguf", extra="\x1b[31m\nred")
    assert problems(path)["tensors"][0].startswith(r"extra tensor \x1b[31m\nred; expected none")


def test_no_damage_of_the_header_is_more_than_a_result(lm: Path, tmp_path: Path) -> None:
    file = read_gguf(lm)
    header = min(tensor.begin for tensor in file.tensors.values())
    whole = lm.read_bytes()
    path = tmp_path / "x.gguf"
    choose = random.Random(1)
    for _ in range(150):
        place = choose.randrange(4, header)
        path.write_bytes(whole[:place] + bytes([choose.randrange(256)]) + whole[place + 1 :])
        for line in checked(path).reasons:
            assert line.isprintable()
            assert len(line) < 600
