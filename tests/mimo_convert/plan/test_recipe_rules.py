"""A named recipe as rules, and the types that follow from them."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimo_convert.model.family import Tensor, one
from mimo_convert.model.uses import (
    ATTENTION_K,
    ATTENTION_OUTPUT,
    ATTENTION_Q,
    ATTENTION_QKV,
    ATTENTION_V,
    AUDIO,
    EMBEDDING,
    HEAD,
    MLP_DOWN,
    MLP_GATE,
    MLP_UP,
    Use,
    block_uses,
)
from mimo_convert.plan.named_recipes import NAMED
from mimo_convert.plan.recipe_rules import rules_of_recipe
from quantize.recipes import choose_type, parse_recipe, recipe_text
from quantize.types import TYPES

BLOCK = {
    ATTENTION_Q: "attn_q", ATTENTION_K: "attn_k", ATTENTION_V: "attn_v", ATTENTION_OUTPUT: "attn_output",
    MLP_GATE: "ffn_gate", MLP_UP: "ffn_up", MLP_DOWN: "ffn_down",
}  # fmt: skip
PLAIN = [*block_uses(r"blk\.{layer}\.", BLOCK), Use(EMBEDDING, r"token_embd\.weight"), Use(HEAD, r"output\.weight")]
TIED = [*block_uses(r"blk\.{layer}\.", BLOCK), Use(HEAD, r"token_embd\.weight")]

# Of models of so many layers, those whose attn_v and ffn_down llama.cpp made Q6_K: `llama_model_quantize` of a build of
# it (in llama-cpp-cffi 0.4.42), run on random Qwen2 models of these sizes, for Q4_K_M and Q5_K_M alike.
MADE_Q6_K = {
    36: [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 31, 32, 33, 34, 35],
    28: [0, 1, 2, 5, 8, 11, 14, 17, 20, 23, 24, 25, 26, 27],
    7: [2, 5, 6],
}


def model(
    n_layers: int, width: int = 256, *, tied: bool = False, names: Iterable[str] = BLOCK.values()
) -> list[Tensor]:
    """A plain text model with the names of llama.cpp; each norm stands for all."""
    ends = [("token_embd", "embedding"), *([] if tied else [("output", "head")])]
    found = [one(f"{name}.weight", name, role, 300, width) for name, role in ends]
    for i in range(n_layers):
        found.append(one(f"blk.{i}.attn_norm.weight", f"norm {i}", "norm", width))
        found += [one(f"blk.{i}.{name}.weight", f"{name} {i}", "matrix", width, width) for name in names]
    return found


def types_by(recipe: str, uses: list[Use], tensors: list[Tensor]) -> dict[str, str]:
    """The type of every tensor, by the rules as a file records them."""
    rules = parse_recipe(recipe_text(rules_of_recipe(NAMED[recipe], uses, tensors)), "x")
    base = NAMED[recipe].base
    return {t.name: choose_type(t.role, t.shape[-1], base, t.name, rules)[0].name for t in tensors}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("n_layers", MADE_Q6_K)
@pytest.mark.parametrize(("recipe", "base"), [("q4_k_m", "q4_k"), ("q5_k_m", "q5_k")])
def test_a_mix_is_the_one_that_llama_cpp_makes(recipe: str, base: str, n_layers: int, tied: bool) -> None:
    expected = {"token_embd.weight": "q6_k"} if tied else {"token_embd.weight": base, "output.weight": "q6_k"}
    for i in range(n_layers):
        of_block = dict.fromkeys(BLOCK.values(), base)
        if i in MADE_Q6_K[n_layers]:
            of_block |= {"attn_v": "q6_k", "ffn_down": "q6_k"}
        expected |= {f"blk.{i}.{name}.weight": one for name, one in of_block.items()}
        expected[f"blk.{i}.attn_norm.weight"] = "f32"
    assert types_by(recipe, TIED if tied else PLAIN, model(n_layers, tied=tied)) == expected


def test_fused_attention_is_treated_as_its_v() -> None:
    tensors = model(36, names=["attn_qkv"])
    found = types_by("q4_k_m", [*PLAIN, Use(ATTENTION_QKV, r"blk\.{layer}\.attn_qkv\.weight")], tensors)
    made = [i for i in range(36) if found[f"blk.{i}.attn_qkv.weight"] == "q6_k"]
    assert made == MADE_Q6_K[36]


def test_mixed_8_4_is_q8_0_but_for_the_mlp() -> None:
    found = types_by("mixed-8-4", PLAIN, model(3))
    assert {name for name, one in found.items() if one == "q4_k"} == {
        f"blk.{i}.{name}.weight" for i in range(3) for name in ("ffn_gate", "ffn_up", "ffn_down")
    }
    assert {one for name, one in found.items() if "ffn" not in name} == {"q8_0", "f32"}


@pytest.mark.parametrize("recipe", NAMED)
@pytest.mark.parametrize("role", ["matrix", "encoder_matrix"])
def test_an_audio_tower_is_q8_0_in_every_recipe(recipe: str, role: str) -> None:
    """By a rule, if its role does not say so."""
    tensors = [one("audio.blk.0.up.weight", "up", role, 256, 256)]
    assert types_by(recipe, [Use(AUDIO, r"audio\..*")], tensors) == {"audio.blk.0.up.weight": "q8_0"}
    is_ruled = bool(rules_of_recipe(NAMED[recipe], [Use(AUDIO, r"audio\..*")], tensors))
    assert is_ruled is (role == "matrix" and recipe != "mixed-8-4")


def test_layers_of_two_stacks_are_counted_apart() -> None:
    uses = [Use(MLP_DOWN, rf"{stack}\.{{layer}}\.down\.weight") for stack in ("a", "b")]
    tensors = [
        one(f"{s}.{i}.down.weight", f"{s}{i}", "matrix", 256, 256) for s, n in (("a", 36), ("b", 7)) for i in range(n)
    ]
    found = types_by("q4_k_m", uses, tensors)
    for stack, n in (("a", 36), ("b", 7)):
        assert [i for i in range(n) if found[f"{stack}.{i}.down.weight"] == "q6_k"] == MADE_Q6_K[n]


@given(st.sampled_from(list(NAMED)), st.integers(0, 90), st.sampled_from([32, 48, 256]), st.booleans())
def test_no_tensor_is_ruled_twice_and_no_rule_is_idle(recipe: str, n_layers: int, width: int, tied: bool) -> None:
    tensors = model(n_layers, width, tied=tied)
    rules = rules_of_recipe(NAMED[recipe], TIED if tied else PLAIN, tensors)
    for tensor in tensors:
        assert sum(rule.is_found_in(tensor.name) for rule in rules) <= 1
    for rule in rules:
        ruled = [t for t in tensors if rule.matches(t.name, t.role)]
        base = NAMED[recipe].base
        plain = [choose_type(t.role, width, base)[0] for t in ruled]
        assert any(
            choose_type(t.role, width, base, t.name, [rule])[0] is not was for t, was in zip(ruled, plain, strict=True)
        )
        assert rule.where == f"--recipe {recipe}"
    assert TYPES["q8_0"].block == 32, "of width 48 nothing has blocks"
    assert not (rules and width == 48)
