"""The types of tensors as the rules of a recipe, as few as a family's uses and layers allow."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from mimo_convert.model.uses import Use
from mimo_convert.plan.plan import PlannedTensor
from quantize.recipes import ROLE_TYPES, Rule, choose_type, make_rule, rule_for
from quantize.types import Type

WHERE = "the choice for a target"


def rules_of_types(
    types: Mapping[str, Type], base: Type, tensors: Sequence[PlannedTensor], uses: Sequence[Use], first: Sequence[Rule]
) -> list[Rule]:
    """The rules by which a file of type `base` has these `types`, by tensor, behind the rules that come `first`.

    A rule is about all layers of a use that have one type. No tensor is ruled twice by them.
    """
    free = [
        tensor
        for tensor in tensors
        if ROLE_TYPES[tensor.role] is None and not any(rule.matches(tensor.name, tensor.role) for rule in first)
    ]
    found: list[Rule] = []
    left = {tensor.name: tensor for tensor in free}
    for use in uses:
        of_use = {name: layer for name in left if (layer := use.layer_of(name)) is not None}
        by_type: dict[str, dict[int, list[str]]] = {}
        for layer in sorted(set(of_use.values())):
            names = [name for name, at in of_use.items() if at == layer]
            if len({types[name] for name in names}) == 1:
                by_type.setdefault(types[names[0]].name, {})[layer] = names
        for layers in by_type.values():
            names = [name for of_layer in layers.values() for name in of_layer]
            if any(_differs(left[name], types[name], base) for name in names):
                pattern = use.pattern_of(None if layers.keys() == set(of_use.values()) else list(layers))
                found.append(make_rule(pattern, types[names[0]], WHERE))
            for name in names:
                del left[name]
    return [*found, *_single(left.values(), types, base)]


def _single(tensors: Iterable[PlannedTensor], types: Mapping[str, Type], base: Type) -> Iterator[Rule]:
    """A rule for each of the tensors whose type is not the file's."""
    for tensor in tensors:
        if _differs(tensor, types[tensor.name], base):
            yield rule_for(tensor.name, types[tensor.name], WHERE)


def _differs(tensor: PlannedTensor, ggml_type: Type, base: Type) -> bool:
    """Whether a tensor has another type in a file of type `base` without rules."""
    return choose_type(tensor.role, tensor.shape[-1], base)[0] is not ggml_type
