"""What matrices are used for, by their names."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimo_convert.model.uses import ATTENTION_V, HEAD, MLP_UP, Use, block_uses
from quantize.recipes import parse_rule

V = Use(ATTENTION_V, r"blk\.{layer}\.attn_v\.weight")


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("blk.7.attn_v.weight", 7), ("blk.35.attn_v.weight", 35), ("blk.7.attn_v.bias", None),
        ("blk.7.attn_k.weight", None), ("x.blk.7.attn_v.weight", None), ("blk.7.attn_v.weight.x", None),
    ],
)  # fmt: skip
def test_a_use_is_of_whole_names_and_knows_the_layer(name: str, layer: int | None) -> None:
    assert V.layer_of(name) == layer
    assert Use(HEAD, r"output\.weight").layer_of("output.weight") == 0


@given(st.sets(st.integers(0, 99), min_size=1), st.integers(0, 120))
def test_a_rule_of_some_layers_is_found_in_these_alone(layers: set[int], layer: int) -> None:
    rule = parse_rule(f"{V.pattern_of(sorted(layers))}=q6_k", "x")
    assert rule.is_found_in(f"blk.{layer}.attn_v.weight") is (layer in layers)
    assert not rule.is_found_in(f"xblk.{layer}.attn_v.weight")
    assert parse_rule(f"{V.pattern_of()}=q6_k", "x").is_found_in(f"blk.{layer}.attn_v.weight")


def test_the_blocks_of_a_stack_are_named_together() -> None:
    uses = block_uses(r"enc\.{layer}\.", {ATTENTION_V: "v", MLP_UP: "fc1"})
    assert [(use.use, use.layer_of("enc.3.fc1.weight")) for use in uses] == [(ATTENTION_V, None), (MLP_UP, 3)]
    assert re.fullmatch(uses[1].pattern_of([1, 2]), "enc.2.fc1.weight")
