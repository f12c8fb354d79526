"""Whatever ggml would end the process for is one line before a graph is built."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from gguf import TokenType
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.pre_tokenizers import ByteLevel

from mimo_commands.check import main as mimo_check
from mimo_commands.convert import main as mimo_convert
from mimo_convert.formats.gguf import GGUFFile, read_gguf
from mimo_convert.formats.tensor import TensorSlice
from mimo_convert.model.family import Layout
from mimo_convert.model.gguf_facts import (
    FILE_TYPE,
    RECIPE,
    check_tensors,
    dimensions_of_file,
    recorded_rules,
    type_of_file,
    vocabulary_of_file,
)
from mimo_families.mimo_audio import layout as mimo_asr
from mimo_families.mimo_tokenizer import layout as mimo_tokenizer
from quantize.errors import InputError
from quantize.types import TYPES
from tests.gguf_edit import rewrite
from tests.opened import model_file, open_pair


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tiny")
    result = CliRunner().invoke(mimo_convert, ["tiny", "--fuse-qkv", "--no-check", "--out", str(out)])
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="module")
def lm(tiny: Path) -> GGUFFile:
    return read_gguf(tiny / "mimo-asr-f16.gguf")


@pytest.mark.parametrize("fuse", ["--fuse-qkv", "--no-fuse-qkv"])
def test_what_was_converted_opens(tmp_path: Path, fuse: str) -> None:
    CliRunner().invoke(mimo_convert, ["tiny", fuse, "--no-check", "--out", str(tmp_path)])
    lm = model_file(tmp_path / "mimo-asr-f16.gguf")
    assert lm.family is mimo_asr.FAMILY
    assert (lm.dims.hidden_size, lm.dims.num_layers, lm.dims.vocab_size) == (256, 2, 1024)
    assert lm.layout == Layout(fuse_qkv=fuse == "--fuse-qkv")
    tokenizer = model_file(tmp_path / "mimo-tokenizer-f16.gguf")
    assert tokenizer.family is mimo_tokenizer.FAMILY
    assert (tokenizer.dims.d_model, tokenizer.dims.num_quantizers) == (256, 20)
    assert tokenizer.layout == Layout(without=frozenset({"decoder"}))


def test_the_other_familys_file_is_refused(tiny: Path) -> None:
    with pytest.raises(InputError, match=r"key general\.architecture is 'mimo_tokenizer'; expected 'mimo_asr'"):
        open_pair(tiny / "mimo-tokenizer-f16.gguf", tiny / "mimo-tokenizer-f16.gguf")


def test_a_file_of_no_known_family_is_refused(tiny: Path, tmp_path: Path) -> None:
    path = rewrite(tiny / "mimo-asr-f16.gguf", tmp_path / "x.gguf", architecture="whisper")
    with pytest.raises(
        InputError,
        match=r"architecture is 'whisper'; expected mimo_asr or mimo_tokenizer or qwen3asr or qwen3vl or clip$",
    ):
        model_file(path)


QKV, NORM = "model.layers.1.attn.qkv.weight", "llm.final_norm.weight"


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (QKV, None, f"missing tensor {QKV}; expected shape (512, 256)"),
        (QKV, {"shape": (256, 512)}, f"tensor {QKV} has shape (256, 512); expected (512, 256)"),
        (NORM, {"ggml_type": TYPES["f16"]}, f"tensor {NORM} is f16; expected f32"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(
    lm: GGUFFile, name: str, change: dict[str, Any] | None, message: str
) -> None:
    tensors: dict[str, TensorSlice] = dict(lm.tensors)
    tensor = tensors.pop(name)
    if change:
        tensors[name] = dataclasses.replace(tensor, **change)
    dims = dimensions_of_file(mimo_asr.FAMILY, lm.path, lm.metadata)
    with pytest.raises(InputError) as error:
        check_tensors(dataclasses.replace(lm, tensors=tensors), mimo_asr.FAMILY, dims, Layout(fuse_qkv=True))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "mimo_asr.llm.num_heads",
            3,
            "tensor model.layers.0.attn.qkv.weight has shape (512, 256); expected (640, 256)",
        ),
        ("mimo_asr.llm.num_kv_heads", 4, "contradict each other: num_key_value_heads is 4"),
        ("mimo_asr.llm.num_layers", 0, "key mimo_asr.llm.num_layers is 0; expected a positive number"),
        ("mimo_asr.llm.num_layers", 2**32 - 1, "missing tensor model.layers.2.attn_norm.weight"),
        ("mimo_asr.llm.vocab_size", 1023, "tensor llm.embed.weight has shape (1024, 256); expected (1023, 256)"),
        ("mimo_asr.audio.channels", 7, "keys mimo_asr.audio.speech_vocab.N: 8 of them; expected 7 (channels)"),
        ("mimo_asr.audio.group_size", 5, "tensor audio.group_proj.weight has shape (256, 1024); expected (256, 1280)"),
        ("mimo_asr.audio.input_heads", 3, "tensor audio.blk.0.attn.q.weight has shape (256, 256); expected (192, 256)"),
    ],
)
def test_a_file_whose_metadata_lies_is_one_line(
    tiny: Path, lm: GGUFFile, tmp_path: Path, key: str, value: int, message: str
) -> None:
    """A number of the header overwritten in place, and the file run as a user runs it."""
    data = lm.path.read_bytes()
    place = data.index(key.encode()) + len(key) + 4  # behind the key stands its type, then the number
    path = tmp_path / "mimo-asr-f16.gguf"
    path.write_bytes(data[:place] + value.to_bytes(4, "little") + data[place + 4 :])
    result = CliRunner().invoke(mimo_check, [str(path), "--tokenizer", str(tiny / "mimo-tokenizer-f16.gguf")])
    assert result.exit_code == 2, result.output
    [line] = result.stderr.strip().splitlines()
    assert line.startswith(f"error: {path}: ")
    assert message in line


# The vocabulary of a file, and its rules.


def with_values(lm: GGUFFile, **values: Any) -> GGUFFile:
    """The file with keys of other values (None: without them), as any reader may give them."""
    metadata = {key: value for key, value in (lm.metadata | values).items() if value is not None}
    return dataclasses.replace(lm, metadata=metadata)


TYPES_KEY, N = "tokenizer.ggml.token_type", 1024
TEXT = mimo_asr.FAMILY.text
assert TEXT
NO_LIST = [7, -1, 1.5, True, "1", "x" * 5_000]
ODD_LISTS = [["1"] * N, [1.0] * N, [True] * N, [1] * (N - 1), [1] * (N + 1), np.ones(N), np.ones(N, bool), np.arange(7)]


@pytest.mark.parametrize("value", [*NO_LIST, *ODD_LISTS], ids=lambda value: f"{type(value).__name__} {str(value)[:12]}")
def test_token_types_of_any_kind_are_one_line(lm: GGUFFile, value: Any) -> None:
    with pytest.raises(InputError, match=rf"^{lm.path}: key {TYPES_KEY} (is|has|holds) .*; expected ") as error:
        vocabulary_of_file(with_values(lm, **{TYPES_KEY: value}), N, TEXT)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("form", [list, np.int32, np.uint16, np.int64])
def test_token_types_may_be_a_list_or_an_array_of_integers(lm: GGUFFile, form: Any) -> None:
    types = list(map(int, lm.metadata[TYPES_KEY]))
    value = types if form is list else np.array(types, form)
    found = vocabulary_of_file(with_values(lm, **{TYPES_KEY: value}), N, TEXT)
    assert found[1] == types
    assert all(type(one) is int for one in found[1])
    for nothing in (None, [], np.array([], np.int32)):  # inferred
        inferred = vocabulary_of_file(with_values(lm, **{TYPES_KEY: nothing}), N, TEXT)[1]
        assert [type == TokenType.NORMAL for type in inferred] == [type == TokenType.NORMAL for type in types]


@pytest.mark.parametrize("name", ["model", "tokens", "merges"])
@pytest.mark.parametrize("value", [None, 7, "x", ["x", 1], [], np.arange(5), [1.0], True], ids=str)
def test_what_is_no_vocabulary_is_one_line(lm: GGUFFile, name: str, value: Any) -> None:
    key = f"tokenizer.ggml.{name}"
    with pytest.raises(InputError, match=rf"^{lm.path}: key {key} "):
        vocabulary_of_file(with_values(lm, **{key: value}), N, TEXT)


def test_a_byte_without_a_token_is_named(lm: GGUFFile) -> None:
    """The library's alphabet, the independent source, says what stands for a byte."""
    for letter in ByteLevel.alphabet():
        tokens = [f"x{text}" if text == letter else text for text in lm.metadata["tokenizer.ggml.tokens"]]
        with pytest.raises(InputError, match=r"byte 0x[0-9a-f]{2} has no token; expected") as error:
            vocabulary_of_file(with_values(lm, **{"tokenizer.ggml.tokens": tokens}), N, TEXT)
        [byte] = re.findall("0x(..)", str(error.value))
        assert ByteLevelDecoder().decode([letter]) == bytes.fromhex(byte).decode(errors="replace")


def test_the_first_of_many_bytes_without_a_token_is_named(lm: GGUFFile) -> None:
    tokens = [f"x{text}" if text in "ABCĠ" else text for text in lm.metadata["tokenizer.ggml.tokens"]]
    with pytest.raises(
        InputError, match=r"byte 0x20 has no token, the first of 4 such findings; expected the plain token 'Ġ'"
    ):
        vocabulary_of_file(with_values(lm, **{"tokenizer.ggml.tokens": tokens}), N, TEXT)


@pytest.mark.parametrize("value", [7, np.arange(3), ["up=f16"], "(?!x)=f16", "up", "(up=f16", "#" * 200_000], ids=repr)
def test_rules_that_cannot_be_read_are_none_and_why(lm: GGUFFile, value: Any) -> None:
    rules, problem = recorded_rules(with_values(lm, **{RECIPE: value}))
    assert rules == ()
    assert problem.startswith(f"{lm.path}: key {RECIPE}")
    assert len(problem) < 500
    rules, problem = recorded_rules(with_values(lm, **{RECIPE: "up=f16"}))
    assert ([str(rule) for rule in rules], problem) == (["up=f16"], "")


@pytest.mark.parametrize("value", [None, "1", np.arange(3), [1], True, 1.0, 10**6])
def test_a_file_type_that_is_no_known_number_is_unknown(lm: GGUFFile, value: Any) -> None:
    assert type_of_file(with_values(lm, **{FILE_TYPE: value})) is None


@pytest.mark.parametrize(("number", "name"), [(15, "q4_k"), (17, "q5_k")])
def test_a_mix_is_of_a_type_where_its_rules_are_recorded(lm: GGUFFile, number: int, name: str) -> None:
    mix = with_values(lm, **{FILE_TYPE: number})
    assert type_of_file(mix) is TYPES[name]
    foreign = {key: value for key, value in mix.metadata.items() if not key.startswith("mimo_convert.")}
    assert type_of_file(dataclasses.replace(mix, metadata=foreign)) is None
