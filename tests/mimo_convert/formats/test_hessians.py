"""Files of second moments, against the safetensors library and numpy; damaged and foreign ones are named."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save, save_file

from mimo_convert.formats import hessians
from mimo_convert.formats.hessians import SecondMoment, file_of, folder_of, open_hessians, origin_of, write_layer
from mimo_convert.formats.safetensors import float_header
from quantize.errors import InputError

QKV, DOWN = ("blk.0.attn.q.weight", "blk.0.attn.k.weight", "blk.0.attn.qkv.weight"), ("blk.0.ffn.down.weight",)


def moment(tensors: tuple[str, ...], n: int, positions: int, seed: int = 0) -> tuple[SecondMoment, Any]:
    """A second moment of random inputs, and the matrix that it is."""
    x = np.random.default_rng(seed).standard_normal((positions, n)).astype(np.float32)
    whole = (x.T @ x / positions).astype(np.float32)
    return SecondMoment(tensors, [whole[np.tril_indices(n)]], x[:3], positions), whole


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The second moments of a model of one layer."""
    made = tmp_path / "c.hessian"
    made.mkdir()
    write_layer(file_of(made, 0), [moment(QKV, 5, 40)[0], moment(DOWN, 7, 30, 1)[0]], "made of this")
    return made


@given(n=st.integers(1, 40), tile=st.integers(1, 50), band=st.integers(1, 500))
def test_a_matrix_comes_back_whole_whatever_is_read_at_once(
    tmp_path_factory: pytest.TempPathFactory, n: int, tile: int, band: int
) -> None:
    made, (one, whole) = tmp_path_factory.mktemp("h"), moment(QKV, n, 50)
    write_layer(file_of(made, 3), [one], "")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hessians, "TILE", tile)
        patch.setattr(hessians, "BAND", band)
        np.testing.assert_array_equal(open_hessians(made).matrix(QKV[1]), np.tril(whole) + np.tril(whole, -1).T)


def test_tensors_that_share_an_input_are_stored_once_and_each_finds_it(folder: Path) -> None:
    found = open_hessians(folder)
    assert found.sharing(QKV[2]) == QKV
    assert found.positions(QKV[1]) == 40
    assert found.positions(DOWN[0]) == 30
    assert "blk.1.ffn.down.weight" not in found
    np.testing.assert_array_equal(found.sample(QKV[2]), moment(QKV, 5, 40)[0].inputs)
    assert origin_of(file_of(folder, 0)) == "made of this"


def test_the_safetensors_library_reads_the_lower_triangle_and_the_counts(folder: Path) -> None:
    one, whole = moment(QKV, 5, 40)
    theirs = load_file(file_of(folder, 0))
    assert sorted(theirs) == sorted([QKV[0], QKV[0] + ".inputs", DOWN[0], DOWN[0] + ".inputs"])
    np.testing.assert_array_equal(theirs[QKV[0]], whole[np.tril_indices(5)])
    np.testing.assert_array_equal(theirs[QKV[0] + ".inputs"], one.inputs)
    with safe_open(file_of(folder, 0), "numpy") as file:
        assert json.loads(file.metadata()["second_moments"])["counts"] == {QKV[0]: 40, DOWN[0]: 30}


def test_a_file_is_what_the_safetensors_library_writes_whatever_the_pieces(tmp_path: Path) -> None:
    (one, whole), (other, _) = moment(DOWN, 7, 30), moment(QKV, 5, 40)
    packed = whole[np.tril_indices(7)]
    pieces = one._replace(packed=iter([packed[:1], packed[1:20], packed[20:]]))
    sha256 = write_layer(tmp_path / "a", iter([pieces, other]), "x")
    written = (tmp_path / "a").read_bytes()
    with safe_open(tmp_path / "a", "numpy") as file:
        assert written == save(load_file(tmp_path / "a"), file.metadata())
    assert hashlib.sha256(written).hexdigest() == sha256
    np.testing.assert_array_equal(load_file(tmp_path / "a")[DOWN[0]], packed)


@given(shapes=st.dictionaries(st.text(min_size=1), st.lists(st.integers(0, 3), max_size=3).map(tuple)), text=st.text())
def test_a_header_is_that_of_the_safetensors_library(shapes: dict[str, tuple[int, ...]], text: str) -> None:
    shapes.pop("__metadata__", None)
    theirs = save({name: np.zeros(shape, np.float32) for name, shape in shapes.items()}, {"about": text})
    assert theirs.startswith(float_header(shapes, {"about": text}))


def test_it_lies_beside_the_calibration_file() -> None:
    assert folder_of(Path("a/mimo-1.5.gguf")) == Path("a/mimo-1.5.hessian")


def test_files_of_a_calibration_are_compared_with_their_hashes(folder: Path) -> None:
    path = file_of(folder, 0)
    sha256 = write_layer(path, [moment(QKV, 5, 40)[0]], "")
    assert open_hessians(folder, {path.name: sha256}).matrix(QKV[0]).shape == (5, 5)
    write_layer(path, [moment(QKV, 5, 41)[0]], "")
    with pytest.raises(InputError, match=f"layer_00.safetensors: has the sha256 .*; expected {sha256}, as its"):
        open_hessians(folder, {path.name: sha256}).matrix(QKV[0])
    with pytest.raises(InputError, match=r"layer_01\.safetensors: no such file, which the calibration file names"):
        open_hessians(folder, {path.name: sha256, "layer_01.safetensors": sha256})


def rewrite(path: Path, arrays: dict[str, Any], metadata: dict[str, Any]) -> None:
    """Write the file again, with other tensors, or with other values in the header entry."""
    with safe_open(path, "numpy") as file:
        about = json.loads(file.metadata()["second_moments"])
    save_file({**load_file(path), **arrays}, path, {"second_moments": json.dumps(about | metadata)})


def test_the_same_moments_are_the_same_bytes(tmp_path: Path) -> None:
    moments = [moment(QKV, 5, 40)[0], moment(DOWN, 7, 30)[0]]
    assert len({write_layer(tmp_path / f"{i}", moments, "x") for i in range(8)}) == 1


NAN, BELOW = np.full(15, np.nan, np.float32), -np.ones(15, np.float32)


@pytest.mark.parametrize(
    ("tensors", "metadata", "says"),
    [
        ({}, {"format": "mimo-check reference 1"}, "holds no second moments; expected a file that `mimo-calibrate"),
        ({}, {"counts": []}, "second_moments.counts is missing or malformed"),
        ({}, {"tensors": None}, "second_moments.tensors is missing or malformed"),
        ({}, {"counts": {QKV[0]: 40}}, "its list of tensors differs from its tensors"),
        ({"other": BELOW}, {}, "its list of tensors differs from its tensors"),
        ({}, {"counts": {QKV[0]: 0, DOWN[0]: 1}}, f"second_moments of {QKV[0]} is malformed"),
        ({}, {"tensors": {QKV[0]: DOWN, DOWN[0]: DOWN}}, f"second_moments of {QKV[0]} is malformed"),
        ({}, {"tensors": {QKV[0]: [*QKV, *DOWN], DOWN[0]: DOWN}}, f"the input of {DOWN[0]}, as layer_00"),
        ({QKV[0]: BELOW[:14]}, {}, f"tensor {QKV[0]} has shape 14; expected n (n + 1) / 2 values"),
        ({QKV[0]: BELOW.astype(np.float64)}, {}, f"tensor {QKV[0]} has dtype F64; expected F32"),
        ({QKV[0] + ".inputs": np.ones((2, 4), np.float32)}, {}, "inputs has shape 2×4; expected at most 256×5"),
        ({QKV[0] + ".inputs": np.ones((257, 5), np.float32)}, {}, "inputs has shape 257×5; expected at most 256×5"),
        ({QKV[0]: NAN}, {}, "is not a second moment; expected finite numbers, from 0 on the diagonal"),
        ({QKV[0]: BELOW}, {}, "is not a second moment; expected finite numbers, from 0 on the diagonal"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(folder: Path, tensors: Any, metadata: Any, says: str) -> None:
    rewrite(file_of(folder, 0), tensors, metadata)
    with pytest.raises(InputError) as caught:
        open_hessians(folder).matrix(QKV[0])
    assert says in str(caught.value)
    assert str(file_of(folder, 0)) in str(caught.value)


def test_a_sample_that_is_not_finite_is_named(folder: Path) -> None:
    rewrite(file_of(folder, 0), {QKV[0] + ".inputs": NAN[None, :5]}, {})
    with pytest.raises(InputError, match=r"tensor .*inputs holds NaN or infinity"):
        open_hessians(folder).sample(QKV[0])


def test_a_truncated_file_a_missing_folder_and_an_empty_one_are_named(folder: Path, tmp_path: Path) -> None:
    path = file_of(folder, 0)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InputError, match="truncated"):
        open_hessians(folder)
    with pytest.raises(InputError, match=r"no such file; did you mean .*c\.hessian"):
        open_hessians(tmp_path / "d.hessian")
    shutil.rmtree(folder)
    folder.mkdir()
    with pytest.raises(InputError, match=r"holds no second moments; expected layer_00\.safetensors"):
        open_hessians(folder)


def test_two_files_of_one_input_are_named(folder: Path) -> None:
    write_layer(file_of(folder, 1), [moment(DOWN, 7, 30)[0]], "")
    with pytest.raises(InputError, match=r"layer_01.safetensors: holds the input of .*, as layer_00\.safetensors does"):
        open_hessians(folder)
