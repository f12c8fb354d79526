"""Calibrations of one model added up, and those that cannot be."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimo_convert.formats.calibration import CALIBRATION, HOLD_OUT, Calibration, CalibrationClip, ColumnSums
from mimo_convert.model.merged_calibration import merged
from quantize.errors import InputError


def calibration(name: str, seed: int = 0, count: int = 10, part: str = CALIBRATION) -> Calibration:
    rng = np.random.default_rng(seed)
    columns = {
        tensor: ColumnSums(rng.uniform(0, 9, 4).astype(np.float32), rng.normal(size=4).astype(np.float32), count)
        for tensor in ("a.weight", "b.weight")
    }
    fisher = {"a.weight": rng.uniform(0, 1, 3).astype(np.float32)}
    clips = (CalibrationClip(f"{name}.wav", name * 8, part),)
    return Calibration(Path(f"{name}.gguf"), name, "arch", columns, fisher, clips, tokens=7, model="model")


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=5))
def test_sums_and_counts_add_up_and_fisher_is_averaged_by_positions(counts: list[int]) -> None:
    every = [calibration(f"c{i}", i, count) for i, count in enumerate(counts)]
    found = merged(every)
    for name, of in found.columns.items():
        assert of.count == sum(counts)
        np.testing.assert_allclose(of.squares, sum(one.columns[name].squares.astype(float) for one in every), rtol=1e-6)
        sums = sum(one.columns[name].sums.astype(float) for one in every)
        np.testing.assert_allclose(of.sums, sums, rtol=1e-5, atol=1e-6)
    expected = np.average([one.fisher["a.weight"] for one in every], axis=0, weights=counts)
    np.testing.assert_allclose(found.fisher["a.weight"], expected, rtol=1e-6)
    assert (found.tokens, len(found.clips)) == (7 * len(every), len(every))


def test_a_tensor_that_only_one_has_is_kept_and_a_file_without_sums_of_x_gives_none() -> None:
    first, second = calibration("a"), calibration("b", 1)
    bare = {"a.weight": replace(second.columns["a.weight"], sums=np.empty(0, np.float32))}
    found = merged([first, replace(second, columns=bare)])
    np.testing.assert_array_equal(found.columns["b.weight"].squares, first.columns["b.weight"].squares)
    assert found.columns["b.weight"].count == 10
    assert len(found.columns["a.weight"].sums) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": "other"}, "b.gguf: is of the architecture other; expected arch, as of a.gguf"),
        ({"model": "tuned"}, "b.gguf: is of the model tuned; expected model, as of a.gguf"),
        ({"model": ""}, "b.gguf: is of the model that no file names; expected model, as of a.gguf"),
        (
            {"clips": (CalibrationClip("a.wav", "a" * 8, HOLD_OUT),)},
            "b.gguf: has the clip a.wav as hold-out; expected calibration, as in a.gguf",
        ),
        (
            {"clips": (CalibrationClip("a.wav", "a" * 8, CALIBRATION),)},
            "b.gguf: was calibrated with the clip a.wav, as a.gguf was; expected other clips; leave it out",
        ),
        (
            {"columns": {"a.weight": ColumnSums(np.ones(5, np.float32), np.ones(5, np.float32), 3)}},
            "b.gguf: has 5 columns of a.weight; expected 4, as a.gguf",
        ),
    ],
)
def test_what_does_not_belong_together_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as raised:
        merged([calibration("a"), replace(calibration("b", 1), **change)])  # type: ignore[arg-type]
    assert str(raised.value) == message


def test_a_sum_is_synthetic_if_every_clip_is() -> None:
    synthetic, real = replace(calibration("a"), is_synthetic=True), calibration("b", 1)
    assert merged([synthetic]).is_synthetic
    assert not merged([synthetic, real]).is_synthetic
