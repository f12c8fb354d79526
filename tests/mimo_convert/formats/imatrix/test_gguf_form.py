"""Calibration files as llama.cpp and CrispASR read them, by the `gguf` library; theirs as we read them."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimo_convert.formats.calibration import Calibration, CalibrationClip, ColumnSums
from mimo_convert.formats.imatrix import read, read_calibration, write_calibration
from quantize.errors import InputError
from tests.readers import gguf_metadata

Arrays = dict[str, np.ndarray[Any, Any]]
CLIPS = (
    CalibrationClip("a  b.wav", "a" * 64, "calibration"),
    CalibrationClip("ü.flac", "b" * 64, "selection"),
    CalibrationClip("c.wav", "c" * 64, "hold-out"),
)


def sums(n: int, count: int, seed: int = 0) -> ColumnSums:
    values = np.random.default_rng(seed).standard_normal((2, n)).astype(np.float32)
    return ColumnSums(np.square(values[0]) * count, values[1] * count, count)


def calibration(**more: Any) -> Calibration:
    columns = {"blk.1.attn_q.weight": sums(32, 100), "blk.0.attn_q.weight": sums(64, 70, 1)}
    fisher = {"blk.0.attn_q.weight": np.arange(5, dtype=np.float32)}
    hessians = {"layer_00.safetensors": "d" * 64}
    found = Calibration(Path("x"), "", "mimo_asr", columns, fisher, CLIPS, (), 42, hessians, True, "o/n@1")
    return replace(found, **more)


def arrays(path: Path) -> Arrays:
    """Every tensor of a file, by the `gguf` library, in ggml's shape."""
    return {t.name: np.array(t.data).reshape(tuple(reversed(t.shape))) for t in gguf.GGUFReader(path).tensors}


def by_llama_cpp(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """The importance that llama.cpp takes: in_sum2 / counts, of float32 tensors of which none may be alone."""
    tensors, metadata = arrays(path), gguf_metadata(path)
    assert {"imatrix.datasets", "imatrix.chunk_count", "imatrix.chunk_size"} <= metadata.keys()
    names = {n.removesuffix(end) for n in tensors for end in (".in_sum2", ".in_sum", ".counts") if n.endswith(end)}
    found = {}
    for name in names:
        squares, counts, plain = (tensors[name + end] for end in (".in_sum2", ".counts", ".in_sum"))
        assert squares.dtype == counts.dtype == plain.dtype == np.float32
        assert squares.shape == plain.shape
        assert (len(squares), counts.shape) == (1, (1, 1))
        found[name] = squares[0] / counts[0, 0]
    return found


def by_crispasr(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """The importance that CrispASR takes: the tensors that have a count."""
    tensors, metadata = arrays(path), gguf_metadata(path)
    return {n: t / metadata[f"count.{n}"] for n, t in tensors.items() if metadata.get(f"count.{n}", 0)}


def test_both_programs_read_what_was_written(tmp_path: Path) -> None:
    path, written = tmp_path / "x.gguf", calibration()
    write_calibration(path, written)
    for found in (by_llama_cpp(path), by_crispasr(path)):
        assert found.keys() == written.columns.keys()
        for name, of in written.columns.items():
            assert np.allclose(found[name], of.squares / np.float32(of.count), rtol=1e-6)
    metadata = gguf_metadata(path)
    assert metadata["general.architecture"] == "crispasr-imatrix"
    assert (metadata["general.type"], metadata["imatrix.version"]) == ("imatrix", 1)
    assert metadata["imatrix.datasets"] == [f"{'a' * 64}  a  b.wav"]
    assert (metadata["imatrix.chunk_count"], metadata["imatrix.chunk_size"]) == (100, 1)
    names = [tensor.name for tensor in gguf.GGUFReader(path).tensors]
    assert names == sorted(names)
    assert "blk.0.attn_q.weight.fisher" in names


def assert_same(found: Calibration, written: Calibration) -> None:
    assert found.columns.keys() == written.columns.keys()
    for name, of in written.columns.items():
        there = found.columns[name]
        assert there.count == of.count
        assert np.array_equal(there.squares, of.squares)
        assert np.array_equal(there.sums, of.sums)
    assert {n: f.tolist() for n, f in found.fisher.items()} == {n: f.tolist() for n, f in written.fisher.items()}
    for part in ("architecture", "clips", "datasets", "tokens", "hessians", "is_synthetic", "model"):
        assert getattr(found, part) == getattr(written, part), part


def test_it_is_read_as_it_was_written_and_the_same_content_is_the_same_file(tmp_path: Path) -> None:
    path, again = tmp_path / "x.gguf", tmp_path / "y.gguf"
    write_calibration(path, calibration())
    found = read_calibration(path)
    assert_same(found, calibration())
    assert len(found.sha256) == 64
    write_calibration(again, found)
    assert again.read_bytes() == path.read_bytes()


NAMES = st.text("abcdefgh.0123456789", min_size=1, max_size=20).map("{}.weight".format)
NUMBERS = st.floats(0, 2.0**100, width=32)


@given(st.dictionaries(NAMES, st.tuples(st.lists(NUMBERS, min_size=1, max_size=40), st.integers(0, 2**31)), max_size=4))
def test_any_sums_are_read_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, rows: Mapping[str, tuple[list[float], int]]
) -> None:
    path = tmp_path_factory.mktemp("imatrix") / "x.gguf"
    columns = {
        name: ColumnSums(np.array(values, np.float32), np.empty(0, np.float32), count)
        for name, (values, count) in rows.items()
    }
    write_calibration(path, calibration(columns=columns, fisher={}))
    if any(of.is_reached for of in columns.values()):
        assert_same(read_calibration(path), calibration(columns=columns, fisher={}))
    else:
        with pytest.raises(InputError, match="holds zeros alone" if columns else "holds no sums of a matrix"):
            read_calibration(path)


def write(path: Path, tensors: Arrays, architecture: str = "", **keys: Any) -> Path:
    """A file by the `gguf` library: keys are texts, lists of texts, or numbers of 32 bits, or 64 where they count."""
    writer = gguf.GGUFWriter(path, architecture or "none")
    if not architecture:
        writer.kv_data[0].clear()
    for key, value in keys.items():
        if isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, list):
            writer.add_array(key, value)
        else:
            (writer.add_uint64 if key.startswith("count.") else writer.add_uint32)(key, value)
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


SQUARES = np.arange(32, dtype=np.float32)
LLAMA: dict[str, Any] = {
    "general.type": "imatrix", "imatrix.datasets": ["wiki.txt"], "imatrix.chunk_count": 3, "imatrix.chunk_size": 512,
}  # fmt: skip


def of_llama_cpp(name: str = "blk.0.attn_q.weight", count: float = 1536) -> Arrays:
    return {f"{name}.in_sum2": SQUARES[None], f"{name}.counts": np.array([[count]], np.float32)}


def test_files_of_llama_cpp_and_crispasr_are_read(tmp_path: Path) -> None:
    theirs = read_calibration(write(tmp_path / "llama.gguf", of_llama_cpp(), **LLAMA))
    assert (theirs.architecture, theirs.datasets, theirs.chunks, theirs.clips) == ("", ("wiki.txt",), 3, ())
    keys = {"imatrix.version": 1, "count.blk.0.attn_q.weight": 1536}
    tensors = {"blk.0.attn_q.weight": SQUARES}
    others = read_calibration(write(tmp_path / "crisp.gguf", tensors, "crispasr-imatrix", **keys))
    for found in (theirs, others):
        [(name, of)] = found.columns.items()
        assert (name, of.count, of.squares.tolist(), len(of.sums)) == ("blk.0.attn_q.weight", 1536, SQUARES.tolist(), 0)


def changed(change: Callable[[Arrays], Any]) -> Arrays:
    tensors = of_llama_cpp()
    change(tensors)
    return tensors


def set_value(i: int, value: float) -> Callable[[Arrays], Any]:
    def change(tensors: Arrays) -> None:
        tensors["blk.0.attn_q.weight.in_sum2"] = SQUARES[None].copy()
        tensors["blk.0.attn_q.weight.in_sum2"][0, i] = value

    return change


Q = "blk.0.attn_q.weight"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (set_value(3, np.nan), f"{Q} holds nan at 3; expected a finite number from 0"),
        (set_value(4, np.inf), f"{Q} holds inf at 4; expected a finite number from 0"),
        (set_value(5, -1), f"{Q} holds -1 at 5; expected a finite number from 0"),
        (lambda t: t.update({f"{Q}.in_sum2": 0 * SQUARES[None]}), "holds zeros alone; expected sums of what"),
        (lambda t: t.update({f"{Q}.counts": np.zeros((1, 1), np.float32)}), "holds zeros alone"),
        (lambda t: t.update({f"{Q}.counts": np.full((1, 1), -1, np.float32)}), f"{Q}.counts holds -1 at 0; expected"),
        (lambda t: t.pop(f"{Q}.counts"), f"has sums of {Q}, and no tensor {Q}.counts"),
        (lambda t: t.pop(f"{Q}.in_sum2"), f"has sums of {Q}, and no tensor {Q}.in_sum2"),
        (lambda t: t.update({f"{Q}.in_sum": SQUARES[None, :7]}), f"has 7 sums and 32 sums of squares of {Q}"),
        (lambda t: t.update({Q: SQUARES + 1}), f"tensors {Q} and {Q}.in_sum2 differ; expected equal sums"),
        (lambda t: t.update({f"{Q}.in_sum2": np.ones((2, 32), np.float32)}), f"sums of {Q} have shape 2×32; expected"),
        (lambda t: t.update({f"{Q}.counts": np.ones((2, 1), np.float32)}), f"has 2 counts of {Q}; expected 1"),
        (lambda t: t.update({f"{Q}.in_sum2": SQUARES[None].astype(np.float16)}), f"tensor {Q}.in_sum2 is f16"),
        (lambda t: t.update({f"{Q}.fisher": -np.ones(3, np.float32)}), f"{Q}.fisher holds -1 at 0; expected"),
        (lambda t: t.clear(), "holds no sums of a matrix"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_sums_are_one_clear_error(tmp_path: Path, change: Callable[[Arrays], Any], says: str) -> None:
    path = write(tmp_path / "x.gguf", changed(change), **LLAMA)
    with pytest.raises(InputError) as caught:
        read_calibration(path)
    assert str(caught.value).startswith(f"{path}: {says}")


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"imatrix.datasets": "wiki"}, "key imatrix.datasets is 'wiki'; expected a list of texts"),
        ({"imatrix.chunk_count": "3"}, "key imatrix.chunk_count is '3'; expected a number from 0"),
        ({"mimo_convert.calibration.clips": ["x"]}, "key mimo_convert.calibration.clips holds 'x'; expected sha256"),
        ({"mimo_convert.calibration.hessians": ["x"]}, "key mimo_convert.calibration.hessians holds 'x'; expected"),
        ({"mimo_convert.calibration.model": 3}, "key mimo_convert.calibration.model is 3; expected a text"),
        ({"count.blk.0.attn_q.weight": 7}, "has the count 1536 of blk.0.attn_q.weight; expected 7, as CrispASR reads"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_metadata_is_one_clear_error(tmp_path: Path, keys: dict[str, Any], says: str) -> None:
    path = write(tmp_path / "x.gguf", of_llama_cpp(), **LLAMA | keys)
    with pytest.raises(InputError) as caught:
        read_calibration(path)
    assert str(caught.value).startswith(f"{path}: {says}")


def test_sums_of_two_layers_that_were_exchanged_are_noticed(tmp_path: Path) -> None:
    alike = {name: sums(32, 70, seed) for seed, name in enumerate(("blk.0.attn_q.weight", "blk.1.attn_q.weight"))}
    path = tmp_path / "calibration.gguf"
    write_calibration(path, calibration(columns=alike, fisher={}))
    data = path.read_bytes()
    names = [name.encode() for name in alike]
    exchanged = data.replace(names[0], b"?" * len(names[0])).replace(names[1], names[0])
    path.write_bytes(exchanged.replace(b"?" * len(names[0]), names[1]))
    with pytest.raises(InputError) as caught:
        read_calibration(path)
    says = "its tensors are not those that mimo-calibrate wrote: some were altered, or exchanged"
    assert str(caught.value).startswith(f"{path}: {says}")


def test_a_model_is_not_an_importance_matrix(tmp_path: Path) -> None:
    path = write(tmp_path / "x.gguf", {"output.weight": SQUARES}, "qwen3asr")
    says = "is a model: a GGUF file of qwen3asr; expected an importance matrix: of .*; mimo-calibrate writes one$"
    with pytest.raises(InputError, match=says):
        read_calibration(path)


@pytest.mark.parametrize("most", [1 << 30, 64])
def test_a_model_is_told_by_its_header_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Of whatever types its tensors are, and however large it is."""
    monkeypatch.setattr(read, "MAX_BYTES", most)
    path = write(tmp_path / "x.gguf", {"llm.embed.weight": SQUARES.astype(np.float16)}, "mimo_asr")
    with pytest.raises(InputError, match="is a model: a GGUF file of mimo_asr; expected an importance matrix: of"):
        read_calibration(path)


def test_a_truncated_file_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    write_calibration(path, calibration())
    whole = path.read_bytes()
    for n in {0, 3, 4, 30, len(whole) // 2, len(whole) - 200}:
        path.write_bytes(whole[:n])
        with pytest.raises(InputError) as caught:
            read_calibration(path)
        assert len(str(caught.value).splitlines()) == 1
