"""Stages: which name of a run is which, and their order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimo_families.registry import systems
from runtime_check.gate import CODES, FEATURES, IDS, LAYER, LOGITS, STAGE_KINDS, Subject
from runtime_check.run.activations import RESPONSE_STAGES
from runtime_check.run.compare.thresholds import THRESHOLDS
from runtime_check.run.stages import Stage, in_order, stage_named
from runtime_check.run.system import SystemType

MEL = Stage("mel", "encoder", FEATURES, ("frames", "bins"), "exact")
LAYERS = Stage("layer_", "lm", LAYER, ("positions", "width"), "layers", numbered=True)
LOGIT = Stage("logits", "lm", LOGITS, ("vocabulary",), "logits")
STAGES = (MEL, LAYERS, LOGIT)


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("mel", MEL), ("logits", LOGIT), ("layer_00", LAYERS), ("layer_35", LAYERS), ("layer_127", LAYERS),
        ("layer_", None), ("layer_1", None), ("layer_1234", None), ("layer_0x", None), ("xlayer_00", None),
        ("layer_00\n", None), ("mel00", None), ("mel\n", None), ("", None),
    ],
)  # fmt: skip
def test_a_name_is_a_stage_or_none(name: str, stage: Stage | None) -> None:
    assert stage_named(STAGES, name) is stage


def test_a_layer_keeps_its_number_as_the_subject_of_a_gate() -> None:
    assert LAYERS.subject("layer_07") == Subject("lm", "layer_07", LAYER)
    assert MEL.subject("mel") == Subject("encoder", "mel", FEATURES)


def test_a_name_is_literal() -> None:
    odd = Stage("a.b", "lm", LAYER, (), numbered=True)
    assert odd.matches("a.b07")
    assert not odd.matches("axb07")


@given(st.permutations(["mel", "layer_00", "layer_01", "layer_02", "logits", "other"]))
def test_names_are_put_in_the_order_of_the_run_layers_as_they_come(names: list[str]) -> None:
    layers = [name for name in names if name.startswith("layer_")]
    assert in_order(STAGES, names) == [("mel", MEL), *((name, LAYERS) for name in layers), ("logits", LOGIT)]


@pytest.mark.parametrize("system", systems(), ids=lambda system: system.name)
def test_every_stage_of_a_family_can_be_judged(system: SystemType) -> None:
    """By a column of the threshold table, where it is compared by cosine; its role is that of a file of the system."""
    names = [stage.name for stage in (*system.stages, *RESPONSE_STAGES)]
    assert len(names) == len(set(names))
    for stage in system.stages:
        assert stage.kind in STAGE_KINDS
        assert stage.role in system.roles
        assert stage.dimensions
        has_column = stage.kind not in (CODES, IDS)
        for thresholds in THRESHOLDS.values():
            assert (stage.threshold in thresholds.columns) == has_column, stage.name
