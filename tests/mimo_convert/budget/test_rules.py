"""Types as rules: the rules give exactly these types again, and no more rules than uses and types need."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mimo_convert.budget.rules import rules_of_types
from mimo_convert.plan.plan import Options, Plan, make_plan
from quantize.recipes import ROLE_TYPES, choose_type, fitting, parse_rule
from quantize.types import F16, TYPES

from .made_up import model_of

NAMES = ["q3_k", "iq4_xs", "q4_k", "q5_k", "q8_0", "f16"]


@pytest.fixture(scope="module", params=["tiny", "tiny-qwen3"])
def plan(request: pytest.FixtureRequest) -> Plan:
    model = model_of(request.param)
    return make_plan(model, F16, Options(without=model.family.unwritten_parts))


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_the_rules_give_the_chosen_types(plan: Plan, data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3))
    free = [tensor for tensor in plan.tensors if ROLE_TYPES[tensor.role] is None]
    types = {one.name: fitting(TYPES[data.draw(st.sampled_from(names))], one.shape[-1]) for one in free}
    base = TYPES[data.draw(st.sampled_from(NAMES))]

    rules = rules_of_types(types, base, plan.tensors, plan.family.uses, [])

    for tensor in free:
        found = choose_type(tensor.role, tensor.shape[-1], base, tensor.name, rules)[0]
        assert found is types[tensor.name], tensor.name
    for rule in rules:
        assert any(rule.matches(tensor.name, tensor.role) for tensor in plan.tensors)


def test_layers_of_one_type_are_one_rule_and_rules_of_the_users_come_first(plan: Plan) -> None:
    free = [tensor for tensor in plan.tensors if ROLE_TYPES[tensor.role] is None]
    own = [parse_rule("=q6_k".replace("=", f"{free[0].name}="), "--tensor-type")]
    types = {tensor.name: fitting(TYPES["q5_k"], tensor.shape[-1]) for tensor in free}

    rules = rules_of_types(types, TYPES["q4_k"], plan.tensors, plan.family.uses, own)

    stacks = {use.stack for use in plan.family.uses if use.stack}
    assert stacks
    assert len(rules) < len(free)
    assert not any(rule.pattern == own[0].pattern for rule in rules)
