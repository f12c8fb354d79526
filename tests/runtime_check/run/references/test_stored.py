"""A stored reference that was changed: refused in one line, or as good as it was."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from quantize.errors import InputError
from runtime_check.audio.jfk import JFK_TEXT
from tests.opened import TINY_REFERENCE, load_reference

TINY = TINY_REFERENCE


def parts() -> tuple[dict[str, Any], dict[str, str]]:
    """The tensors and the metadata of the bundled reference, by the library."""
    with safe_open(TINY, "numpy") as file:
        return load_file(TINY), dict(file.metadata())


def test_the_bundled_reference_is_as_the_library_reads_it() -> None:
    tensors, metadata = parts()
    ours = load_reference(TINY)
    assert list(ours.stages) == json.loads(metadata["stages"])
    assert ours.transcript == JFK_TEXT
    for name, stage in tensors.items():
        np.testing.assert_array_equal(ours.stages[name], stage)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("format", "mimo-check reference 99", "holds no reference activations"),
        ("stages", "[" * 100_000, "header entry stages is malformed (nested deeper"),
        ("stages", '["tok_mel"]', "its list of stages differs from its tensors"),
        ("stages", "{}", "its list of stages differs from its tensors"),
        ("stages", "7", "its list of stages differs from its tensors"),
        ("origin", "[]", "header entry origin is malformed"),
        ("origin", '{"audio": 7}', "header entry origin is malformed"),
        ("origin", "{", "header entry origin is malformed"),
    ],
)
def test_a_header_entry_that_is_none_is_named(tmp_path: Path, key: str, value: str, says: str) -> None:
    tensors, metadata = parts()
    save_file(tensors, tmp_path / "r.safetensors", metadata | {key: value})
    with pytest.raises(InputError) as caught:
        load_reference(tmp_path / "r.safetensors")
    assert says in str(caught.value)


@pytest.mark.parametrize("key", ["checkpoints", "audio", "audio_sha256", "language", "vocabulary_sha256", "dtype"])
@pytest.mark.parametrize("value", [7, None, [], [[1]], {}, True, 1e300])
def test_an_origin_of_odd_types_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    if (key, value) == ("checkpoints", []):
        return  # a list as it should be, if an empty one
    tensors, metadata = parts()
    origin = json.loads(metadata["origin"]) | {key: value}
    save_file(tensors, tmp_path / "r.safetensors", metadata | {"origin": json.dumps(origin)})
    with pytest.raises(InputError, match="header entry origin is malformed"):
        load_reference(tmp_path / "r.safetensors")


DTYPES = st.sampled_from([np.float64, np.float16, np.int64, np.int32, np.int8, np.uint8, np.bool_, np.float32])


@given(
    stage=st.sampled_from(sorted(load_reference(TINY).stages)),
    dtype=DTYPES,
    shape=st.lists(st.integers(0, 3), max_size=4),
    fill=st.sampled_from([0, -1, 1 << 30, -(1 << 31), float("nan"), float("inf")]),
)
def test_a_stage_of_anything_is_refused_or_is_what_its_name_says(
    tmp_path_factory: pytest.TempPathFactory, stage: str, dtype: type, shape: list[int], fill: float
) -> None:
    tensors, metadata = parts()
    with np.errstate(all="ignore"):
        tensors[stage] = np.full(shape, fill).astype(dtype)
    path = tmp_path_factory.mktemp("reference") / "r.safetensors"
    save_file(tensors, path, metadata)
    try:
        values = load_reference(path).stages[stage]
    except InputError:
        return
    assert values.dtype == (np.int32 if stage.endswith(("ids", "codes")) else np.float32)
    assert np.isfinite(values).all()
    assert values.size


@pytest.mark.parametrize("cut", [0, 7, 8, 100, -1])
def test_a_file_that_ends_early_is_refused(tmp_path: Path, cut: int) -> None:
    (tmp_path / "r.safetensors").write_bytes(TINY.read_bytes()[:cut])
    with pytest.raises(InputError, match=r"truncated|header is not JSON"):
        load_reference(tmp_path / "r.safetensors")


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "r.safetensors")
    with pytest.raises(InputError, match="is a pipe; expected a file that `mimo-check reference` wrote"):
        load_reference(tmp_path / "r.safetensors")
