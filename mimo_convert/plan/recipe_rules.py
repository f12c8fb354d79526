"""A named recipe as the rules of a file: so that every type in it follows from what the file says."""

from collections.abc import Iterator, Sequence

from mimo_convert.model.family import Tensor
from mimo_convert.model.uses import Use
from quantize.recipes import Rule, choose_type, make_rule
from quantize.types import Type

from .named_recipes import NamedRecipe


def rules_of_recipe(recipe: NamedRecipe, uses: Sequence[Use], tensors: Sequence[Tensor]) -> list[Rule]:
    """The rules by which `tensors`, of a family with these `uses`, get the types of the recipe: as far as these are
    not those of a file of its base type. No tensor is ruled twice."""
    return [rule for use in uses for rule in _rules_of_use(recipe, use, tensors)]


def _rules_of_use(recipe: NamedRecipe, use: Use, tensors: Sequence[Tensor]) -> Iterator[Rule]:
    """The rules of one use."""
    by_layer: dict[int, list[Tensor]] = {}
    for tensor in tensors:
        if (layer := use.layer_of(tensor.name)) is not None:
            by_layer.setdefault(layer, []).append(tensor)
    layers = sorted(by_layer)
    for share in recipe.shares:
        if use.use not in share.uses:
            continue
        chosen = [layer for i, layer in enumerate(layers) if share.layers(i, len(layers))]
        pattern = use.pattern_of(None if chosen == layers else chosen)
        rule = make_rule(pattern, share.ggml_type, f"--recipe {recipe.name}")
        if any(_changes(rule, recipe.base, tensor) for layer in chosen for tensor in by_layer[layer]):
            yield rule


def _changes(rule: Rule, base: Type, tensor: Tensor) -> bool:
    """Whether a tensor gets another type by the rule than in a file of type `base`."""
    row = tensor.shape[-1]
    return choose_type(tensor.role, row, base)[0] is not choose_type(tensor.role, row, base, tensor.name, [rule])[0]
