"""Reading checkpoints, against the safetensors library; and damaged ones, which are one clear error each."""

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save, save_file

from mimo_convert.formats.config import Config
from mimo_convert.model.checkpoint import open_checkpoint, read_json
from quantize.errors import InputError
from tests.readers import checkpoint_tensors

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def write_shard(folder: Path, header: Any, data: bytes = b"") -> Path:
    """A folder with a config and one shard of just these bytes; `header` is JSON or raw."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(raw)) + raw + data)
    return folder


def test_every_tensor_reads_as_the_safetensors_library_reads_it(small_lm: Path) -> None:
    checkpoint = open_checkpoint(str(small_lm))
    expected = checkpoint_tensors(small_lm)
    assert checkpoint.tensors.keys() == expected.keys()
    assert sorted({info.file.name for info in checkpoint.tensors.values()}) == sorted(
        p.name for p in small_lm.glob("*.safetensors")
    )
    for name, tensor in expected.items():
        info = checkpoint.tensors[name]
        assert (info.shape, info.ggml_type.name) == (tuple(tensor.shape), "bf16")
        assert np.array_equal(info.read_float32().reshape(tensor.shape), tensor.float().numpy()), name


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data(), shape=st.lists(st.integers(1, 7), max_size=3))
def test_any_run_of_rows_reads_exactly(
    tmp_path_factory: pytest.TempPathFactory, dtype: str, data: st.DataObject, shape: list[int]
) -> None:
    values = torch.randn(shape).to(DTYPES[dtype])
    folder = write_shard(tmp_path_factory.mktemp("shard"), {})
    save_file({"before": torch.ones(3, dtype=torch.int64), "x": values}, folder / "model.safetensors")
    info = open_checkpoint(str(folder)).tensors["x"]
    rows = values.float().numpy().reshape(info.n_rows, -1)
    first = data.draw(st.integers(0, info.n_rows - 1))
    n = data.draw(st.integers(1, info.n_rows - first))
    assert np.array_equal(info.read_float32(first, n), rows[first : first + n])


@given(shapes=st.dictionaries(st.text(max_size=20), st.lists(st.integers(0, 4), max_size=4), max_size=8))
def test_headers_that_the_library_writes_are_read_as_it_reads_them(
    tmp_path_factory: pytest.TempPathFactory, shapes: dict[str, list[int]]
) -> None:
    shapes.pop("__metadata__", None)
    folder = write_shard(tmp_path_factory.mktemp("shard"), {})
    tensors = {name: torch.zeros(shape) for name, shape in shapes.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with safe_open(folder / "model.safetensors", "pt") as theirs:
        found = open_checkpoint(str(folder)).tensors
        assert found.keys() == set(theirs.keys())
        assert all(list(info.shape) == theirs.get_slice(name).get_shape() for name, info in found.items())


def test_a_lone_shard_of_any_name_needs_no_index(tmp_path: Path, small_tokenizer: Path) -> None:
    shutil.copy(small_tokenizer / "config.json", tmp_path)
    shutil.copy(small_tokenizer / "model.safetensors", tmp_path / "weights.safetensors")
    assert open_checkpoint(str(tmp_path)).tensors.keys() == open_checkpoint(str(small_tokenizer)).tensors.keys()


def entry(begin: int, end: int, shape: Any = (1,), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("header", "says"),
    [
        (b"not json", "header is not JSON"),
        (b"\xff\xfe\xfd", "header is not JSON"),
        (b"[" * 100_000, "header is not JSON"),
        ([1, 2], "header is not JSON (it does not begin with {)"),
        ({"a": entry(0, 4), "b": entry(0, 4)}, "tensor b overlaps the one before: begins at 0; expected 4"),
        ({"a": entry(0, 4), "b": entry(2, 6)}, "tensor b overlaps the one before: begins at 2; expected 4"),
        ({"a": entry(0, 4), "b": entry(6, 10)}, "tensor b leaves a gap before it: begins at 6; expected 4"),
        ({"a": entry(4, 8)}, "tensor a leaves a gap before it: begins at 4; expected 0"),
        ({"a": entry(0, 16, [4])}, "truncated: tensors reach to 16 of 12 bytes"),
        ({"a": entry(0, 4)}, "8 bytes that belong to no tensor"),
        ({"a": entry(0, 12, [2])}, "tensor a has 12 bytes; expected 8 for F32 2"),
        ({"a": entry(12, 0, [3])}, "tensor a leaves a gap"),
        ({"a": entry(0, 12, [3], "Q7")}, "tensor a has unsupported dtype Q7; expected F32 or F16 or BF16"),
        ({"a": entry(0, 12, [3], ["F32"])}, "header entry of tensor a is malformed"),
        ({"a": entry(0, 12, [-3])}, "header entry of tensor a is malformed"),
        ({"a": entry(0, 12, [1.5, 2])}, "header entry of tensor a is malformed"),
        ({"a": entry(0, 12, [True, 3])}, "header entry of tensor a is malformed"),
        ({"a": entry(0, 12, [10**4000, 10**4000])}, "header entry of tensor a is malformed"),
        ({"a": entry(0, 12, 3)}, "header entry of tensor a is malformed"),
        ({"a": {"dtype": "F32", "shape": [3]}}, "header entry of tensor a is malformed"),
        ({"a": None}, "header entry of tensor a is malformed"),
        ({"a\nb": entry(0, 12, [2])}, "tensor a\\nb has 12 bytes"),
    ],
)
def test_a_damaged_header_is_one_clear_error(tmp_path: Path, header: Any, says: str) -> None:
    folder = write_shard(tmp_path / "x", header, bytes(12))
    with pytest.raises(InputError) as caught:
        open_checkpoint(str(folder))
    assert str(caught.value).startswith(f"{folder / 'model.safetensors'}: {says}")
    assert len(str(caught.value).splitlines()) == 1


SHARD = save({"a": torch.ones(3, 4), "b.weight": torch.ones(5, dtype=torch.bfloat16), "c": torch.ones(2, 2)})
N_HEADER = 8 + int.from_bytes(SHARD[:8], "little")


@given(st.integers(0, len(SHARD) - 1))
def test_a_shard_cut_anywhere_is_refused(tmp_path_factory: pytest.TempPathFactory, keep: int) -> None:
    folder = write_shard(tmp_path_factory.mktemp("shard"), {})
    (folder / "model.safetensors").write_bytes(SHARD[:keep])
    with pytest.raises(InputError, match=r"model\.safetensors: "):
        open_checkpoint(str(folder))


@given(st.lists(st.tuples(st.integers(0, N_HEADER - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_corrupted_header_raises_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, bytes_set: list[tuple[int, int]]
) -> None:
    damaged = bytearray(SHARD)
    for at, value in bytes_set:
        damaged[at] = value
    folder = write_shard(tmp_path_factory.mktemp("shard"), {})
    (folder / "model.safetensors").write_bytes(damaged)
    try:
        tensors = open_checkpoint(str(folder)).tensors
    except InputError:
        return
    assert sum(info.nbytes for info in tensors.values()) == len(SHARD) - N_HEADER  # still a whole, sound file


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.text(max_size=5), JSON | st.builds(entry, st.integers(), st.integers(), JSON, JSON)))
def test_any_json_as_a_header_raises_nothing_else(tmp_path_factory: pytest.TempPathFactory, header: Any) -> None:
    folder = write_shard(tmp_path_factory.mktemp("shard"), header)
    try:
        tensors = open_checkpoint(str(folder)).tensors
    except InputError:
        return
    assert sum(info.nbytes for info in tensors.values()) == 0


def test_a_shard_that_shrinks_after_its_header_was_read_is_named(tmp_path: Path, small_tokenizer: Path) -> None:
    folder = shutil.copytree(small_tokenizer, tmp_path / "x")
    last = max(open_checkpoint(str(folder)).tensors.values(), key=lambda info: info.begin + info.nbytes)
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(last.begin + last.nbytes - 3)
    with pytest.raises(InputError, match=rf"model\.safetensors: tensor {last.name} ends 3 bytes early"):
        last.read()


CONFIG = Config(
    Path("config.json"),
    {"n": 3, "zero": 0, "text": "3", "yes": True, "x": 1.5, "huge": 2**31, "inf": float("inf"), "big": 10**400,
     "nothing": None, "inner": {"n": 4, "only": 5}},
)  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "kind", "expected"),
    [
        (["n"], int, 3), (["inner.n", "n"], int, 4), (["inner.other", "n"], int, 3), (["n.x", "n"], int, 3),
        (["nothing", "n"], int, 3), (["n"], float, 3.0), (["x"], float, 1.5), (["text"], str, "3"),
        (["yes"], bool, True),
    ],
)  # fmt: skip
def test_a_config_value_is_the_first_that_is_there(keys: list[str], kind: type, expected: Any) -> None:
    found = CONFIG.get(*keys, kind=kind)
    assert (found, type(found)) == (expected, kind)


@pytest.mark.parametrize(
    ("key", "kind", "says"),
    [
        ("other", int, "config.json: other is missing; complete config.json"),
        ("text", int, "config.json: text is '3'; expected a value of type int"),
        ("yes", int, "config.json: yes is True; expected a value of type int"),
        ("x", int, "config.json: x is 1.5; expected a value of type int"),
        ("n", str, "config.json: n is 3; expected a value of type str"),
        ("inf", float, "config.json: inf is inf; expected a number that float32 can hold"),
        ("big", float, f"config.json: big is {10**400}; expected a value of type float"),
    ],
)
def test_a_config_value_of_the_wrong_kind_is_named(key: str, kind: type, says: str) -> None:
    with pytest.raises(InputError) as caught:
        CONFIG.get(key, kind=kind)
    assert str(caught.value) == says


@pytest.mark.parametrize(("key", "value"), [("zero", 0), ("huge", 2**31)])
def test_a_size_is_positive_and_fits_the_file(key: str, value: int) -> None:
    with pytest.raises(InputError, match=f"{key} is {value}; expected a positive number"):
        CONFIG.positive(key)


def test_a_config_that_asks_for_another_model_is_refused() -> None:
    CONFIG.must_be("n", 3, 4)
    CONFIG.must_be("absent", 1)
    with pytest.raises(InputError, match=r"inner\.n is 4; expected 5 or \"a\", all this family knows"):
        CONFIG.must_be("inner.n", 5, "a")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{", "not JSON"), (b"\xff\xfe\xff", "not JSON"), (b"[" * 100_000, "not JSON"), (b"", "not JSON"),
        (b"[1]", "holds a list; expected a JSON object"), (b'"x"', "holds a str; expected a JSON object"),
    ],
)  # fmt: skip
def test_a_file_that_holds_no_object_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_json(tmp_path / "a.json")
    assert str(caught.value).startswith(f"{tmp_path / 'a.json'}: {says}")
