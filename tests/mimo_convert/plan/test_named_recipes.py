"""Recipes by name."""

import pytest

from mimo_convert.model.uses import USES
from mimo_convert.plan.named_recipes import NAMED, check_recipe, did_you_mean, list_of_recipes, recipe_named
from quantize.errors import InputError
from quantize.types import TYPES


def test_a_recipe_gives_a_use_one_type_in_a_layer() -> None:
    for recipe in NAMED.values():
        uses = [use for share in recipe.shares for use in share.uses]
        assert len(uses) == len(set(uses)), recipe.name
        assert set(uses) <= set(USES)
        assert recipe.base in TYPES.values()


def test_a_recipe_has_the_number_of_its_mix_or_of_its_base() -> None:
    assert {name: recipe.file_type for name, recipe in NAMED.items()} == {"mixed-8-4": 7, "q4_k_m": 15, "q5_k_m": 17}


def test_a_recipe_is_called_by_its_name_in_any_case() -> None:
    assert recipe_named("Q4_K_M") is NAMED["q4_k_m"] is recipe_named(NAMED["q4_k_m"])
    with pytest.raises(InputError, match=r"^q4_k_l: is no recipe; expected one of mixed-8-4 q4_k_m q5_k_m; did you"):
        recipe_named("q4_k_l")


@pytest.mark.parametrize(
    ("written", "meant"),
    [("mixed-84", "mixed-8-4"), ("mixed_8_4", "mixed-8-4"), ("Q5_K_L", "q5_k_m"), ("q4km", "q4_k_m")],
)
def test_a_name_near_a_known_one_is_offered(written: str, meant: str) -> None:
    assert did_you_mean(written) == f"did you mean {meant}?"


@pytest.mark.parametrize("written", ["", "heads.txt", "x" * 10_000, "f16"])
def test_a_name_that_is_like_none_is_left_alone(written: str) -> None:
    assert did_you_mean(written) == ""


def test_the_list_has_a_line_for_each_that_says_its_types() -> None:
    lines = list_of_recipes().splitlines()
    assert [line.split()[0] for line in lines] == list(NAMED)
    for line, recipe in zip(lines, NAMED.values(), strict=True):
        assert {recipe.base.name, *(share.ggml_type.name for share in recipe.shares)} <= set(
            line.replace(";", " ").replace(":", " ").replace(",", " ").split()
        )
        assert len(line) <= 120


def test_a_recipe_decides_over_every_type() -> None:
    check_recipe(None, ["q4_k"])
    check_recipe("q4_k_m", [])
    says = (
        r"^--outtype f16 q4_k: is given beside the recipe q4_k_m, which decides over every type; leave one of them out$"
    )
    with pytest.raises(InputError, match=says):
        check_recipe("q4_k_m", ["f16", TYPES["q4_k"]])
