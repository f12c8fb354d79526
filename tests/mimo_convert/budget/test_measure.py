"""What types do to the output: against ggml's blocks and float64, whatever the threads, resumed after an interrupt."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from mimo_convert.budget.divergence import Sensitivity, sensitivity_of
from mimo_convert.budget.errors_file import Errors, read_errors
from mimo_convert.budget.measure import identity_of, measure
from mimo_convert.formats.calibration import Calibration, ColumnSums
from mimo_convert.listener import Callbacks, Progress, listening
from mimo_convert.model.source_model import SourceModel
from mimo_convert.plan.plan import Options, PlannedTensor, make_plan
from quantize.backends import AUTO
from quantize.kernels import quantize_rows, to_float32
from quantize.rows import importance
from quantize.types import F16, TYPES, Type

from .made_up import POSITIONS, TOKENS, calibration_of, model_of

MEASURED: Sequence[Type] = [TYPES[name] for name in ("q3_k", "q4_k", "q6_k", "q8_0", "f16")]
FUSED = "model.layers.1.attn.qkv.weight"


@pytest.fixture(scope="module")
def model() -> SourceModel:
    return model_of("tiny")


@pytest.fixture(scope="module")
def calibration(model: SourceModel) -> Calibration:
    return calibration_of(model, Path("c.gguf"))


@pytest.fixture(scope="module")
def tensors(model: SourceModel) -> list[PlannedTensor]:
    plan = make_plan(model, F16, Options(fuse_qkv=True))
    return [one for one in plan.tensors if one.name in (FUSED, "model.layers.0.ffn.down.weight", "llm.lm_head.weight")]


def measured(
    model: SourceModel, calibration: Calibration, tensors: list[PlannedTensor], path: Path, threads: int = 2
) -> Errors:
    known = {one.name: sensitivity_of(calibration, one.name) for one in tensors}
    errors = Errors(path, "a")
    measure(model, tensors, {one.name: MEASURED for one in tensors},
            {name: one for name, one in known.items() if one}, errors, AUTO, threads)  # fmt: skip
    return errors


def test_is_the_formula_in_float64_with_ggmls_blocks(
    model: SourceModel, calibration: Calibration, tensors: list[PlannedTensor], tmp_path: Path
) -> None:
    errors = measured(model, calibration, tensors, tmp_path / "e.json")
    for tensor in tensors:
        weights = np.concatenate([source.read_float32() for source in tensor.sources])
        columns, fisher = calibration.columns[tensor.name], calibration.fisher[tensor.name].astype(np.float64)
        second = columns.squares.astype(np.float64) / columns.count
        for ggml_type in MEASURED:
            blocks = quantize_rows(weights, ggml_type, imatrix=importance(columns.squares, columns.count))
            off = to_float32(blocks, ggml_type).astype(np.float64) - weights
            expected = POSITIONS / (2 * TOKENS) * np.sum(fisher * (off**2 @ second))
            assert errors.by_type[tensor.name][ggml_type.name] == pytest.approx(expected, rel=1e-4)


def test_is_the_same_with_any_number_of_threads(
    model: SourceModel, calibration: Calibration, tensors: list[PlannedTensor], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("mimo_convert.write.chunks.CHUNK_WEIGHTS", 5000)  # some thirty chunks
    one = measured(model, calibration, tensors, tmp_path / "one.json", threads=1)
    four = measured(model, calibration, tensors, tmp_path / "four.json", threads=4)
    assert one.by_type == four.by_type


class Interrupt(Callbacks):
    """A listener that interrupts, as a user does, when a tensor begins."""

    def __init__(self, at: str) -> None:
        super().__init__(self.interrupt, lambda line: None)
        self.at = at

    def interrupt(self, now: Progress) -> None:
        if now.item == self.at:
            raise KeyboardInterrupt


def test_an_interrupted_measurement_goes_on_where_it_was(
    model: SourceModel, calibration: Calibration, tensors: list[PlannedTensor], tmp_path: Path
) -> None:
    path = tmp_path / "e.json"
    order = sorted(tensors, key=lambda one: one.sources[0].begin)
    with listening(Interrupt(order[-1].name)), pytest.raises(KeyboardInterrupt):
        measured(model, calibration, tensors, path, threads=1)
    begun = read_errors(path, "a")
    assert begun.by_type
    assert order[-1].name not in begun.by_type

    read: list[str] = []
    known = {one.name: sensitivity_of(calibration, one.name) for one in tensors}
    with listening(Callbacks(lambda now: read.append(now.item), lambda line: None)):
        measure(model, tensors, {one.name: MEASURED for one in tensors},
                {name: one for name, one in known.items() if one}, begun, AUTO, 2)  # fmt: skip
    assert set(filter(None, read)).isdisjoint(read_errors(path, "a").by_type.keys() - {one.name for one in order})
    assert begun.by_type == measured(model, calibration, tensors, tmp_path / "whole.json").by_type


def test_what_nothing_is_known_of_is_read_for_its_range_alone(
    model: SourceModel, tensors: list[PlannedTensor], tmp_path: Path
) -> None:
    errors = Errors(tmp_path / "e.json", "a")
    measure(model, tensors, {one.name: [] for one in tensors}, {}, errors, AUTO, 2)
    assert errors.by_type == {one.name: {} for one in tensors}
    assert errors.absmax == {}


def test_other_weights_or_another_calibration_are_another_identity(model: SourceModel) -> None:
    again, other = model_of("tiny"), model_of("tiny-qwen3")
    assert identity_of(model, "x", AUTO) == identity_of(again, "x", AUTO)
    every = {
        identity_of(*one) for one in ((model, "x", AUTO), (model, "y", AUTO), (model, "x", "ggml"), (other, "x", AUTO))
    }
    assert len(every) == 4


def test_nothing_is_known_where_no_position_reached_a_tensor() -> None:
    ones = np.ones(2, np.float32)
    found = ColumnSums(ones, ones, 4)
    fisher = {"a": ones}
    whole = Calibration(Path("c"), "", "", {"a": found}, fisher, tokens=2)
    known = sensitivity_of(whole, "a")
    assert isinstance(known, Sensitivity)
    assert known.divergence(np.full((1, 2), 2, np.float32), 0) == pytest.approx(4 / 4 * (4 * 0.25 + 4 * 0.25))
    for one in (
        Calibration(Path("c"), "", "", {}, fisher, tokens=2),
        Calibration(Path("c"), "", "", {"a": found}, {}, tokens=2),
        Calibration(Path("c"), "", "", {"a": found}, fisher, tokens=0),
        Calibration(Path("c"), "", "", {"a": ColumnSums(ones, ones, 0)}, fisher, tokens=2),
        Calibration(Path("c"), "", "", {"a": ColumnSums(0 * ones, ones, 4)}, fisher, tokens=2),
    ):
        assert sensitivity_of(one, "a") is None
