"""Which type a tensor gets: the contract's section "Types", as a table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantize.recipes import ROLE_TYPES, choose_type
from quantize.types import TYPES

MATRIX_ROLES = ["matrix", "embedding", "head"]


@pytest.mark.parametrize("requested", TYPES)
@pytest.mark.parametrize("role", ROLE_TYPES)
def test_a_row_of_256_gets_what_its_role_asks_for(role: str, requested: str) -> None:
    expected = {"norm": "f32", "bias": "f32", "codebook": "f32", "convolution": "f16"}.get(role, requested)
    if requested == "f32":
        expected = "f32"
    type, note = choose_type(role, 256, TYPES[requested])
    assert (type.name, note) == (expected, "")


@pytest.mark.parametrize("role", MATRIX_ROLES)
@pytest.mark.parametrize(
    ("requested", "row", "expected"),
    [
        ("q2_k", 128, "q4_0"), ("q3_k", 128, "q4_0"), ("q4_k", 128, "q4_0"), ("q5_k", 128, "q5_0"),
        ("q6_k", 288, "q8_0"), ("iq4_xs", 32, "iq4_nl"),
        ("q2_k", 48, "f16"), ("q3_k", 100, "f16"), ("q4_k", 16, "f16"), ("q5_k", 1, "f16"), ("q6_k", 48, "f16"),
        ("iq4_xs", 48, "f16"), ("iq4_nl", 48, "f16"), ("q8_0", 48, "f16"), ("q5_1", 48, "f16"), ("q5_0", 48, "f16"),
        ("q4_1", 48, "f16"), ("q4_0", 48, "f16"),
    ],
)  # fmt: skip
def test_a_row_that_is_no_multiple_of_the_block_falls_back_and_says_so(
    role: str, requested: str, row: int, expected: str
) -> None:
    type, note = choose_type(role, row, TYPES[requested])
    assert type.name == expected
    assert (
        note
        == f"rows of {row} are not a multiple of {256 if '_k' in requested or 'xs' in requested else 32}: {expected}"
    )


@pytest.mark.parametrize("requested", ["f32", "f16", "bf16"])
def test_float_types_take_any_row(requested: str) -> None:
    assert choose_type("matrix", 7, TYPES[requested]) == (TYPES[requested], "")


@given(st.sampled_from(list(ROLE_TYPES)), st.integers(1, 20_000), st.sampled_from(list(TYPES.values())))
def test_whatever_is_chosen_fits_the_row(role: str, row: int, requested: object) -> None:
    type, _ = choose_type(role, row, requested)  # type: ignore[arg-type]
    assert row % type.block == 0
