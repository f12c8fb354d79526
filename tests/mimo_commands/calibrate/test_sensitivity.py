"""mimo-calibrate --sensitivity and --hessian, from clips to files, and resumed."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mimo_api import CalibrateOptions, Progress, calibrate
from mimo_convert.formats.hessians import folder_of, open_hessians
from mimo_convert.formats.imatrix import read_calibration
from quantize.errors import InputError
from runtime_check.calibrate import hessians

from .test_calibrate import MODEL
from .test_calibrate import manifest as manifest

QKV = ("blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.attn_v.weight")


def options(manifest: Path, out: Path, **more: Any) -> CalibrateOptions:
    asked: dict[str, Any] = {"language": "english", "sensitivity": True, "hessian": True} | more
    return CalibrateOptions(MODEL, out / "c.gguf", [manifest], 1, **asked)


@pytest.fixture(scope="module")
def calibrated(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A calibration with everything, and what was said."""
    out, said = tmp_path_factory.mktemp("calibrated"), list[str]()
    calibrate(options(manifest, out), message=said.append)
    return out / "c.gguf", said


def test_every_matrix_has_a_sensitivity_of_each_row(calibrated: tuple[Path, list[str]]) -> None:
    found = read_calibration(calibrated[0])
    assert found.fisher.keys() == found.columns.keys()
    for name, information in found.fisher.items():
        assert (information >= 0).all(), name
        assert information.max() > 0, name
    assert any("sensitivities of" in line and "expected 12 or more" in line for line in calibrated[1])


def test_second_moments_agree_with_the_sums_of_columns_and_with_their_hashes(
    calibrated: tuple[Path, list[str]],
) -> None:
    path, said = calibrated
    calibration = read_calibration(path)
    found = open_hessians(folder_of(path), calibration.hessians)
    assert set(found.inputs) == set(calibration.columns)
    for name, of in calibration.columns.items():
        assert found.positions(name) == of.count, name
        matrix, sample = found.matrix(name), found.sample(name)
        np.testing.assert_allclose(matrix.diagonal(), of.squares / of.count, rtol=1e-5, err_msg=name)
        assert 0 < len(sample) <= 256
        # of the same kind, but of other clips
        assert 0.05 < (sample**2).mean() / matrix.diagonal().mean() < 20, name
    assert set(QKV) <= set(found.sharing(QKV[2]))
    for name, sha256 in calibration.hessians.items():
        assert hashlib.sha256((folder_of(path) / name).read_bytes()).hexdigest() == sha256
    assert any("of second moments are to be written" in line for line in said)


def interrupted_in(phase: str) -> Callable[[Progress], None]:
    def progress(now: Progress) -> None:
        if now.phase == phase and now.total and now.done > now.total / 2:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize("phase", ["calibrating", "sensitivity"])
def test_an_interrupted_run_is_resumed_to_the_same_bytes(
    calibrated: tuple[Path, list[str]], manifest: Path, tmp_path: Path, phase: str
) -> None:
    asked = options(manifest, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        calibrate(asked, progress=interrupted_in(phase))
    assert not (tmp_path / "c.gguf").exists()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "c.hessian").iterdir()}
    assert before
    told = list[Progress]()

    def progress(now: Progress) -> None:
        if now.phase == phase:
            told.append(now)

    calibrate(asked, progress=progress)
    assert told[0].done > 0
    assert {now.total for now in told} == {told[-1].done}  # known from the beginning, and reached
    assert (tmp_path / "c.gguf").read_bytes() == calibrated[0].read_bytes()
    assert {path: path.stat().st_mtime_ns for path in before} == before  # a complete file is not made again


def test_a_disk_that_is_too_small_is_told_before_anything_is_collected(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hessians, "free_bytes", lambda folder: 1000)
    with pytest.raises(InputError, match=r"c\.hessian: .* of second moments do not fit on the disk"):
        calibrate(options(manifest, tmp_path, sensitivity=False))
    assert not (tmp_path / "c.hessian").exists()
