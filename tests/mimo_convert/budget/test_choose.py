"""Types for a size: never over it, nothing left that would improve it, floors and rules hold, errors by name."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mimo_convert.budget.choose import Chosen, choose
from mimo_convert.budget.errors_file import errors_path
from mimo_convert.formats.calibration import Calibration, ColumnSums
from mimo_convert.formats.gguf import align
from mimo_convert.model.source_model import SourceModel
from mimo_convert.plan.mix import PREDICTED_KL, TARGET, parse_target
from mimo_convert.plan.plan import Options, Plan
from quantize.errors import InputError
from quantize.recipes import Rule, fitting, parse_rule
from quantize.types import TYPES

from .made_up import calibration_of, model_of

SIZES = ["6.4bpw", "3.8MB", "3600KiB", "4.9MB", "9bpw"]
NO_RULES: tuple[Rule, ...] = ()


@pytest.fixture(scope="module")
def model() -> SourceModel:
    return model_of("tiny")


@pytest.fixture(scope="module")
def calibration(model: SourceModel, tmp_path_factory: pytest.TempPathFactory) -> Calibration:
    return calibration_of(model, tmp_path_factory.mktemp("calibration") / "c.gguf")


def options_of(model: SourceModel, **more: object) -> Options:
    options = Options(without=model.family.unwritten_parts)
    return replace(options, **more)  # type: ignore[arg-type]


def chosen_for(
    model: SourceModel, calibration: Calibration, size: str, *, floors: tuple[Rule, ...] = NO_RULES, **more: object
) -> tuple[Chosen, Plan]:
    target = parse_target(size, "--target-size")
    found = choose(model, options_of(model, **more), target, calibration, floors, 2)
    [plan] = found.request(model).plans
    return found, plan


def types_of(plan: Plan) -> dict[str, str]:
    return {tensor.name: tensor.ggml_type.name for tensor in plan.tensors}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("fuse_qkv", [False, True])
def test_is_within_the_size_and_nothing_left_improves_it(
    model: SourceModel, calibration: Calibration, size: str, fuse_qkv: bool
) -> None:
    target = parse_target(size, "--target-size")
    found, plan = chosen_for(model, calibration, size, fuse_qkv=fuse_qkv)
    mix = found.options.mix
    assert mix is not None
    room = target.most(len(plan.header), plan.n_weights) - (plan.size - len(plan.header))
    assert 0 <= room < 0.01 * plan.size
    assert plan.size == len(plan.header) + sum(align(tensor.nbytes) for tensor in plan.tensors)
    errors = read(calibration)
    for tensor in plan.tensors:
        if tensor.name in mix.predicted and not tensor.name.startswith("audio."):
            for name, divergence in errors[tensor.name].items():
                more = align(TYPES[name].nbytes(tensor.n_weights)) - align(tensor.nbytes)
                assert more > room or divergence >= mix.predicted[tensor.name], (tensor.name, name)
    told = {entry.key: entry.value for entry in plan.metadata}
    assert told[TARGET] == size
    assert float(told[PREDICTED_KL]) == pytest.approx(sum(mix.predicted.values()), rel=5e-3)


def read(calibration: Calibration) -> dict[str, dict[str, float]]:
    import json

    found: dict[str, dict[str, float]] = json.loads(errors_path(calibration.where).read_text())["errors"]
    return found


def test_a_larger_file_is_predicted_to_be_nearer(model: SourceModel, calibration: Calibration) -> None:
    kls = [chosen_for(model, calibration, f"{bits}bpw")[0].options.mix for bits in (6.3, 6.8, 7.5, 9)]
    predicted = [mix.kl for mix in kls if mix]
    assert predicted == sorted(predicted, reverse=True)
    assert predicted[0] > 5 * predicted[-1]


def test_is_the_same_every_time_and_reads_no_weight_again(
    model: SourceModel, calibration: Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = chosen_for(model, calibration, "3.8MB")[1]
    monkeypatch.setattr("mimo_convert.write.one_pass.read", None)
    again = chosen_for(model, calibration, "3.8MB")[1]
    assert again.header == first.header
    assert types_of(chosen_for(model, calibration, "4MB")[1]) != types_of(first)


def test_the_recipe_makes_the_same_types_without_a_target(model: SourceModel, calibration: Calibration) -> None:
    found, plan = chosen_for(model, calibration, "3.8MB")
    assert found.options.mix is not None
    options = replace(found.options, mix=None, rules=found.options.mix.rules)
    [by_rules] = replace(found, options=options).request(model).plans
    assert types_of(by_rules) == types_of(plan)
    assert by_rules.rules == plan.rules


def test_rules_and_floors_hold(model: SourceModel, calibration: Calibration) -> None:
    rules = (parse_rule(r"lm_head=f16", "--tensor-type"), parse_rule("ffn.up=q4_0", "--tensor-type"))
    floors = (parse_rule(r"layers\.\d+\.attn=q6_k", "--floor"), parse_rule(r"audio\.blk=q5_k", "--floor"))
    plan = chosen_for(model, calibration, "8bpw", rules=rules, floors=floors)[1]
    types = types_of(plan)
    assert types["llm.lm_head.weight"] == "f16"
    assert {types[name] for name in types if ".ffn.up" in name} == {"q4_0"}
    for name, ggml_type in types.items():
        if name.startswith("model.layers") and ".attn." in name and name.endswith("weight"):
            assert TYPES[ggml_type].bits_per_weight >= TYPES["q6_k"].bits_per_weight
    of_audio = {
        types[name] for name in types if name.startswith("audio.blk") and name.endswith(("q.weight", "up.weight"))
    }
    assert of_audio - {"q8_0", "f16", "f32"}, "the user's floor is lower than that of the named recipes"


def test_an_audio_tower_keeps_8_bits(model: SourceModel, calibration: Calibration) -> None:
    types = types_of(chosen_for(model, calibration, "6.4bpw")[1])
    of_audio = {ggml_type for name, ggml_type in types.items() if name.startswith(("audio.blk", "audio.emb"))}
    assert of_audio <= {"q8_0", "f16", "f32"}


def test_what_nothing_is_known_of_has_the_largest_type_within_the_targets_bits(
    model: SourceModel, calibration: Calibration
) -> None:
    expected = {"6.4bpw": "q5_k", "7bpw": "q6_k", "9bpw": "q8_0"}
    for size, name in expected.items():
        found, plan = chosen_for(model, calibration, size)
        assert found.options.mix is not None
        assert "llm.embed.weight" in found.options.mix.unknown
        assert types_of(plan)["llm.embed.weight"] == name


def test_a_size_that_cannot_be_met_is_told_with_the_least(model: SourceModel, calibration: Calibration) -> None:
    with pytest.raises(
        InputError, match=r"--target-size 1000000B: cannot be met: .* expected at least [\d,]+ bytes"
    ) as caught:
        chosen_for(model, calibration, "1000000B")  # as many characters, which are in the header
    least = int(caught.value.expected.split()[2].replace(",", ""))
    plan = chosen_for(model, calibration, f"{least}B")[1]
    assert plan.size == least
    with pytest.raises(InputError, match="cannot be met"):
        chosen_for(model, calibration, f"{least - 200}B")


def test_a_calibration_without_fisher_information_is_refused(model: SourceModel, calibration: Calibration) -> None:
    for lacking in (replace(calibration, fisher={}), replace(calibration, tokens=0)):
        with pytest.raises(InputError, match=r"c\.gguf: holds no Fisher information.*mimo-calibrate --sensitivity"):
            chosen_for(model, lacking, "3.8MB")


def test_a_calibration_of_another_model_is_refused(model: SourceModel, calibration: Calibration) -> None:
    other = calibration_of(model_of("tiny-qwen3"), calibration.where)
    with pytest.raises(InputError, match="knows the sensitivity of no tensor"):
        chosen_for(model, other, "3.8MB")
    name = "model.layers.0.ffn.down.weight"
    ones = np.ones(8, np.float32)
    smaller = replace(calibration, columns={**calibration.columns, name: ColumnSums(ones, ones, 8)})
    with pytest.raises(InputError, match=f"tensor {name} has 256 rows and 8 columns; expected 256 and 512"):
        chosen_for(model, smaller, "3.8MB")


def test_a_folder_that_cannot_be_written_is_told_before_the_weights_are_read(
    model: SourceModel, calibration: Calibration
) -> None:
    with pytest.raises(InputError, match=r"c\.errors\.json: cannot be written"):
        chosen_for(model, replace(calibration, where=Path("/nowhere/c.gguf")), "3.8MB")


def test_every_family_has_files_of_a_size(tmp_path: Path) -> None:
    qwen = model_of("tiny-qwen3")
    found, plan = chosen_for(qwen, calibration_of(qwen, tmp_path / "c.gguf"), "9.5bpw")
    assert plan.bits_per_weight <= 9.5
    assert found.options.mix is not None
    assert found.options.mix.kl > 0
    for tensor in plan.tensors:
        assert tensor.ggml_type is fitting(tensor.ggml_type, tensor.shape[-1])
