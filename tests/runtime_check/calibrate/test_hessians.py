"""Second moments against numpy in float64, whatever the clips' order and lengths."""

from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mimo_convert.formats.hessians import MOST_INPUTS, file_of, open_hessians
from quantize.errors import InputError
from runtime_check.calibrate import hessians
from runtime_check.calibrate.hessians import HessianFolder, InputSums, Sample
from runtime_check.calibrate.structure import Input

STEPS = [(), (Input(("q", "k"), 10, 6), Input(("down",), 10, 4)), (Input(("q2",), 10, 6),)]


def named(matrix: str) -> tuple[str, ...]:
    """The tensors of a matrix: its own, and one that q and k share."""
    return (f"blk.{matrix}.weight", "blk.qk.weight") if matrix in ("q", "k") else (f"blk.{matrix}.weight",)


def folder_in(path: Path, origin: str = "these clips") -> HessianFolder:
    return HessianFolder(path / "c.hessian", STEPS, named, sha256(origin.encode()).hexdigest())


def inputs(seed: int, n: int, positions: int = 30) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((positions, n)).astype(np.float32) * 3 + 1)


@given(n=st.integers(1, 20), lengths=st.lists(st.integers(1, 9), min_size=1, max_size=9), block=st.integers(1, 25))
def test_sums_are_those_of_numpy_in_float64(n: int, lengths: list[int], block: int) -> None:
    clips = [inputs(i, n, length) for i, length in enumerate(lengths)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hessians, "BLOCK", block)
        patch.setattr(hessians, "POSITIONS", 7)
        sums = InputSums(n)
        for x in clips:
            sums.add(x)
        packed = np.concatenate(list(sums.packed()))
    x = torch.cat(clips).double().numpy()
    np.testing.assert_allclose(packed, (x.T @ x / len(x))[np.tril_indices(n)], rtol=2e-6, atol=2e-6)


def test_positions_are_sampled_from_all_of_them_and_the_same_ones_each_time() -> None:
    rows = torch.arange(2000.0)[:, None].repeat(1, 2)
    once, again, few = Sample(2, 3), Sample(2, 3), Sample(2, 3)
    for part in rows.split(150):
        once.add(part)
        again.add(part)
    few.add(rows[:7])
    np.testing.assert_array_equal(once.rows, again.rows)
    found = sorted(once.rows[:, 0])
    assert len(set(found)) == MOST_INPUTS
    assert 850 < np.mean(found) < 1150  # as many early as late ones
    assert sorted(few.rows[:, 0]) == list(range(7))


def fill(folder: HessianFolder) -> list[int]:
    """Take a calibration clip and a selection clip through every step; the steps that were summed."""
    summed = []
    for i, of_step in enumerate(STEPS):
        if (moments := folder.begin(i)) is not None:
            summed.append(i)
            for one in of_step:
                for name in one.matrices:  # each is multiplied; the input counts once
                    moments.add(name, inputs(1, one.columns))
                    moments.sample(name, inputs(2, one.columns))
            folder.finish(i, moments)
    return summed


def test_an_input_is_summed_once_for_all_that_share_it_and_found_by_each_name(tmp_path: Path) -> None:
    folder = folder_in(tmp_path)
    assert fill(folder) == [1, 2]
    found, x = open_hessians(tmp_path / "c.hessian", folder.hashes), inputs(1, 6).double().numpy()
    assert found.sharing("blk.k.weight") == ("blk.q.weight", "blk.qk.weight", "blk.k.weight")
    for name in ("blk.q.weight", "blk.k.weight", "blk.qk.weight", "blk.q2.weight"):
        np.testing.assert_allclose(found.matrix(name), x.T @ x / len(x), rtol=2e-6, atol=1e-6)
        assert found.positions(name) == 30
        assert sorted(map(tuple, found.sample(name))) == sorted(map(tuple, inputs(2, 6).numpy()))


def test_a_complete_file_is_not_made_again_unless_it_is_of_other_clips_or_damaged(tmp_path: Path) -> None:
    first = folder_in(tmp_path)
    fill(first)
    again = folder_in(tmp_path)
    assert again.missing == []
    assert fill(again) == []
    assert again.hashes == first.hashes
    other = folder_in(tmp_path, "other clips")
    assert other.missing == [1, 2]
    assert fill(other) == [1, 2]
    path = file_of(tmp_path / "c.hessian", 2)
    path.write_bytes(path.read_bytes()[:-1])
    assert folder_in(tmp_path, "other clips").missing == [2]


def test_the_room_that_is_missing_is_told_before_a_file_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = folder_in(tmp_path).check_room()
    fill(folder_in(tmp_path))
    written = sum(path.stat().st_size for path in (tmp_path / "c.hessian").iterdir())
    assert written < needed + 4096  # with room for as many sampled positions as there can be
    monkeypatch.setattr(hessians, "free_bytes", lambda folder: needed - 1)
    assert folder_in(tmp_path).check_room() == 0  # complete
    with pytest.raises(InputError, match=r"second moments do not fit on the disk, of which .* are free; make room"):
        folder_in(tmp_path, "other clips").check_room()
