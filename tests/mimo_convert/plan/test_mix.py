"""Targets as users write them, what contradicts them, and what a file records."""

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimo_convert.plan.mix import (
    FLOORS,
    PREDICTED_KL,
    TARGET,
    Mix,
    SizeRequest,
    Target,
    parse_target,
    recorded_choice,
    size_request,
)
from mimo_families.registry import families
from quantize.errors import InputError
from quantize.recipes import parse_rule

CALIBRATION = Path("calibration.gguf")


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [
        ("4.6GB", 4_600_000_000), ("4.6 gb", 4_600_000_000), ("900MiB", 900 << 20), ("1kB", 1000), ("1KiB", 1024),
        ("2500000B", 2_500_000), ("1TB", 10**12), ("0.5GiB", 1 << 29),
    ],
)  # fmt: skip
def test_a_size_counts_header_and_padding(text: str, nbytes: int) -> None:
    target = parse_target(text, "--target-size")
    assert target.most(0, 10) == nbytes
    assert target.most(1000, 10) == nbytes - 1000


def test_bits_per_weight_are_of_the_tensor_data_alone() -> None:
    target = parse_target("4.5bpw", "--target-bpw")
    assert target.most(5000, 1000) == 562
    assert target.option == "--target-bpw 4.5"


@pytest.mark.parametrize("text", ["", "4.6", "GB", "4,6GB", "-1GB", "0GB", "0bpw", "33bpw", "0.5bpw", "4.6PB", "1e3GB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--target-size"):
        parse_target(text, "--target-size")


@given(st.decimals(min_value=1, max_value=9999, places=3), st.sampled_from(["GB", "MiB", "B", "kB"]))
def test_a_file_says_what_was_asked_for(amount: Decimal, unit: str) -> None:
    target = parse_target(f"{amount:f}{unit}", "--target-size")
    assert parse_target(str(target), TARGET) == target == Target(amount.normalize(), unit)


def test_a_size_needs_a_calibration_and_excludes_types() -> None:
    asked = size_request("4.5bpw", CALIBRATION, [], [], None)
    assert asked == SizeRequest(Target(Decimal("4.5"), "bpw"))
    assert size_request(None, None, [], ["q4_k"], None) is None
    with pytest.raises(InputError, match=r"--target-bpw 4\.5: .*mimo-calibrate --sensitivity"):
        size_request("4.5bpw", None, [], [], None)
    with pytest.raises(InputError, match="--outtype: is given beside --target-bpw"):
        size_request("4.5bpw", CALIBRATION, [], ["q4_k"], None)
    with pytest.raises(InputError, match="--recipe: is given beside --target-bpw"):
        size_request("4.5bpw", CALIBRATION, [], [], "q4_k_m")


def test_a_floor_needs_a_size() -> None:
    with pytest.raises(InputError, match=r"--floor: .*--target-size or --target-bpw"):
        size_request(None, None, [parse_rule("embed=q4_k", "--floor")], [], None)


def test_what_a_file_records_is_read_again() -> None:
    [family] = [one for one in families() if one.architecture == "mimo_asr"]
    types = [("model.layers.1.attn.q.weight", "q5_k"), ("model.layers.0.attn.q.weight", "q4_k"), ("other", "f16")]
    floors = (parse_rule("embed=q4_k", "--floor"),)
    mix = Mix(parse_target("4.6GB", "x"), (), floors=floors, predicted={"a": 0.01, "b": 0.002})

    found = recorded_choice(mix.told, family.uses, types)

    assert found is not None
    assert (found.target, found.predicted_kl, found.floors) == ("4.6GB", 0.012, ("embed=q4_k",))
    assert [(use.use, use.stack, use.types) for use in found.uses] == [
        ("attention_q", "model.layers", ("q4_k", "q5_k"))
    ]
    assert found.options == ("--target-size", "4.6GB", "--floor", "embed=q4_k")


@pytest.mark.parametrize("told", [{}, {TARGET: 4}, {TARGET: "large"}, {PREDICTED_KL: "1"}])
def test_without_a_target_that_can_be_read_there_is_no_choice(told: dict[str, object]) -> None:
    assert recorded_choice(told, (), []) is None


@pytest.mark.parametrize("kl", ["nan", "inf", "-1", "", 3, "1" * 400])
def test_a_divergence_that_is_no_number_is_not_known(kl: object) -> None:
    found = recorded_choice({TARGET: "1GB", PREDICTED_KL: kl, FLOORS: 1}, (), [])
    assert found is not None
    assert (found.predicted_kl, found.floors) == (None, ())
