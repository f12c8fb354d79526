"""The table of types, row by row, against ggml and the `gguf` library."""

import re

import ggml
import gguf
import pytest
import torch

from quantize.errors import InputError
from quantize.types import BY_FILE_TYPE, BY_GGML, MIX_NUMBERS, TYPES, did_you_mean

# The command line's promise, from the issue; everything else about a type is compared with ggml.
PROMISED = (  # noqa: SIM905
    "f32 f16 bf16 q8_0 q6_k q5_k q4_k q3_k q2_k q5_1 q5_0 q4_1 q4_0 iq4_nl iq4_xs"
).split()


def test_the_fifteen_types_are_the_promised_ones() -> None:
    assert list(TYPES) == PROMISED
    assert len(BY_GGML) == len(PROMISED)


@pytest.mark.parametrize("name", PROMISED)
def test_a_type_is_what_ggml_says(name: str) -> None:
    type = TYPES[name]
    assert ggml.ggml_type_name(type.ggml).decode().lower() == name
    assert type.block == ggml.ggml_blck_size(type.ggml)
    assert type.block_bytes == ggml.ggml_type_size(type.ggml)
    assert type.nbytes(7 * 256) == 7 * ggml.ggml_row_size(type.ggml, 256)
    assert type.bits_per_weight == type.nbytes(256) * 8 / 256


@pytest.mark.parametrize("name", PROMISED)
def test_a_type_is_what_the_gguf_library_says(name: str) -> None:
    type = TYPES[name]
    assert gguf.GGMLQuantizationType(type.ggml).name == name.upper()
    assert gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(type.ggml)] == (type.block, type.block_bytes)
    file_type = gguf.LlamaFileType(type.file_type).name.removeprefix("MOSTLY_").removeprefix("ALL_")
    assert file_type.removesuffix("_S") == name.upper()


@pytest.mark.parametrize(
    ("name", "chain"),
    [
        ("q2_k", ["q4_0", "f16"]),
        ("q3_k", ["q4_0", "f16"]),
        ("q4_k", ["q4_0", "f16"]),
        ("q5_k", ["q5_0", "f16"]),
        ("q6_k", ["q8_0", "f16"]),
        ("iq4_xs", ["iq4_nl", "f16"]),
        ("q8_0", ["f16"]),
        ("q4_1", ["f16"]),
        ("iq4_nl", ["f16"]),
    ],
)
def test_fallbacks_are_those_of_the_contract(name: str, chain: list[str]) -> None:
    found = []
    while name != "f16":
        found.append(name := TYPES[name].fallback)
    assert found == chain


@pytest.mark.parametrize(("name", "dtype"), [("f16", torch.float16), ("bf16", torch.bfloat16)])
def test_the_bound_is_where_torch_overflows(name: str, dtype: torch.dtype) -> None:
    bound = torch.tensor(TYPES[name].overflow, dtype=torch.float32)
    below = torch.nextafter(bound, torch.tensor(0.0))
    assert bound.to(dtype).isinf()
    assert below.to(dtype) == torch.finfo(dtype).max
    assert all(TYPES[block].overflow == 65520 for block in TYPES if TYPES[block].block > 1)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("Q4_K_M", "q4_k"), ("q5_k_s", "q5_k"), ("Q3_K_XL", "q3_k"), ("q2_K_l", "q2_k"),
        ("IQ4-NL", "iq4_nl"), ("fp16", "f16"), ("float32", "f32"), ("int8", "q8_0"), ("q5k", "q5_k"), ("Q4", "q4_k"),
    ],
)  # fmt: skip
def test_other_programs_names_are_understood(written: str, meant: str) -> None:
    """And of a mix, how it is made."""
    said, name = did_you_mean(written), written.lower()
    assert said.startswith(f"did you mean {meant}?")
    how = "--recipe q4_k_m makes that mix" if name == "q4_k_m" else "such as --tensor-type"
    assert (how in said) == bool(re.search("_k_(s|m|l|xl)$", name))


@pytest.mark.parametrize("name", MIX_NUMBERS)
def test_a_mix_has_the_number_that_llama_cpp_gives_it(name: str) -> None:
    number = MIX_NUMBERS[name]
    assert gguf.LlamaFileType(number).name == f"MOSTLY_{name.upper()}"
    assert f"{BY_FILE_TYPE[number].name}_m" == name


@pytest.mark.parametrize("written", ["q9_z", "mxfp4", "", "\x1b[31m", "x" * 10_000])
def test_what_is_like_no_type_is_left_to_the_list(written: str) -> None:
    assert did_you_mean(written) == ""


def test_an_error_is_one_line_whatever_a_file_is_called() -> None:
    error = InputError("a\nb", "tensor c\r\nd\u2028e", expected="f\x0bg", todo="h")
    assert len(str(error).splitlines()) == 1
    assert str(error) == "a\\nb: tensor c d e; expected f g; h"
