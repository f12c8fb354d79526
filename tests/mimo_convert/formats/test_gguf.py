"""Headers as written, read by the `gguf` library; headers as read, written by it; and damaged ones."""

import struct
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGUFValueType as V
from hypothesis import given
from hypothesis import strategies as st

from mimo_convert.formats.gguf import Entry, align, make_header, read_gguf
from quantize.errors import InputError
from quantize.types import TYPES, Type
from tests.readers import ggml_tensors, gguf_metadata, gguf_tensors

INTEGERS = {
    V.UINT8: (0, 2**8), V.INT8: (-(2**7), 2**7), V.UINT16: (0, 2**16), V.INT16: (-(2**15), 2**15),
    V.UINT32: (0, 2**32), V.INT32: (-(2**31), 2**31), V.UINT64: (0, 2**64), V.INT64: (-(2**63), 2**63),
}  # fmt: skip
SCALARS = {
    **{type: st.integers(low, end - 1) for type, (low, end) in INTEGERS.items()},
    V.FLOAT32: st.floats(width=32, allow_nan=False), V.FLOAT64: st.floats(allow_nan=False), V.BOOL: st.booleans(),
    V.STRING: st.text(st.characters(codec="utf-8"), max_size=20),
}  # fmt: skip
KEYS = st.text("abcdefgh._0123456789", min_size=1, max_size=20).map(lambda key: f"x.{key}")


@st.composite
def metadata(draw: st.DrawFn) -> list[Entry]:
    entries = []
    for key in draw(st.lists(KEYS, max_size=6, unique=True)):
        type = draw(st.sampled_from(list(SCALARS)))
        value = SCALARS[type]
        entries.append(Entry(key, draw(value | st.lists(value, max_size=4)), type))
    return entries


@st.composite
def tensors(draw: st.DrawFn) -> list[tuple[str, tuple[int, ...], Type]]:
    rows = []
    for name in draw(st.lists(st.text("abc.", min_size=1, max_size=9), min_size=1, max_size=5, unique=True)):
        type = draw(st.sampled_from(list(TYPES.values())))
        shape = [*draw(st.lists(st.integers(1, 4), max_size=3)), draw(st.integers(1, 3)) * type.block]
        rows.append((name, tuple(shape), type))
    return rows


def write(path: Path, header: bytes, rows: list[tuple[str, tuple[int, ...], Type]]) -> None:
    """A file of `header` and zeros."""
    size = len(header) + sum(align(type.nbytes(int(np.prod(shape)))) for _, shape, type in rows)
    path.write_bytes(header.ljust(size, b"\0"))


@given(metadata(), tensors())
def test_headers_say_to_other_readers_and_to_ours_what_was_put_in(
    tmp_path_factory: pytest.TempPathFactory, entries: list[Entry], rows: list[tuple[str, tuple[int, ...], Type]]
) -> None:
    path = tmp_path_factory.mktemp("gguf") / "x.gguf"
    header, values = make_header("some_arch", entries, rows)
    for key, value, _ in entries:
        if isinstance(value, str):
            assert header[values[key] :].startswith(value.encode())
            assert int.from_bytes(header[values[key] - 8 : values[key]], "little") == len(value.encode())
    write(path, header, rows)
    expected = {"general.architecture": "some_arch"} | {key: value for key, value, _ in entries}
    expected_tensors = {name: (type.name, shape) for name, shape, type in rows}

    assert len(header) % 32 == 0
    assert gguf_metadata(path) == expected
    theirs = gguf_tensors(path)
    assert {name: (t.type, t.shape) for name, t in theirs.items()} == expected_tensors
    places = [{name: (t.type, t.offset, t.data) for name, t in found.items()} for found in (theirs, ggml_tensors(path))]
    assert places[0] == places[1]

    ours = read_gguf(path)
    assert {
        key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in ours.metadata.items()
    } == expected
    assert ours.architecture == "some_arch"
    assert {name: (t.ggml_type.name, t.shape) for name, t in ours.tensors.items()} == expected_tensors
    assert {name: t.begin - len(header) for name, t in ours.tensors.items()} == {n: t.offset for n, t in theirs.items()}


def test_a_file_of_the_gguf_library_is_read(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "mimo_asr")
    writer.add_uint32("a", 7)
    writer.add_array("b", ["x", "ÿ"])
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    writer.add_tensor("t", values)
    writer.add_tensor("u", values.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = read_gguf(tmp_path / "x.gguf")
    assert found.metadata == {"general.architecture": "mimo_asr", "a": 7, "b": ["x", "ÿ"]}
    data = (tmp_path / "x.gguf").read_bytes()
    for name in "tu":
        tensor = found.tensors[name]
        assert tensor.shape == (2, 3, 4)
        assert data[tensor.begin :][: tensor.nbytes] == values.astype(f"f{8 // 2 if name == 't' else 2}").tobytes()


# Hand-made headers, so that each can be wrong in one place.


def u32(n: int) -> bytes:
    return struct.pack("<I", n)


def u64(n: int) -> bytes:
    return struct.pack("<Q", n)


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return u64(len(raw)) + raw


def key(name: str, type: int, value: bytes) -> bytes:
    return text(name) + u32(type) + value


def tensor(name: str = "t", shape: tuple[int, ...] = (4,), type: int = 0, offset: int = 0) -> bytes:
    return text(name) + u32(len(shape)) + b"".join(map(u64, shape)) + u32(type) + u64(offset)


def gguf_of(
    keys: tuple[bytes, ...] = (), rows: tuple[bytes, ...] = (), *, version: int = 3, data: int = 64, counts: Any = None
) -> bytes:
    n_tensors, n_keys = counts or (len(rows), len(keys))
    header = b"GGUF" + u32(version) + u64(n_tensors) + u64(n_keys) + b"".join(keys) + b"".join(rows)
    return header.ljust(align(len(header)), b"\0") + bytes(data)


SOUND = gguf_of((key("k", 4, u32(1)),), (tensor(),))
MUCH = 2**62


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not a GGUF file; expected a file that begins with the bytes GGUF"),
        (b"GGUF", "not a GGUF file"),
        (b"PK\3\4" + bytes(100), "not a GGUF file"),
        (SOUND[:23], "not a GGUF file"),
        (gguf_of(version=2), "GGUF version 2; expected 3, little-endian"),
        (b"GGUF" + struct.pack(">I", 3) + bytes(64), f"GGUF version {3 << 24}; expected 3, little-endian"),
        (gguf_of((key("k", 4, u32(1)), key("k", 4, u32(2)))), "duplicate key k"),
        (gguf_of((key("k", 13, u32(1)),)), "key k has the unknown value type 13"),
        (gguf_of((key("k", 9, u32(9) + u64(1)),)), "key k has the unknown value type 9"),
        (gguf_of((key("general.alignment", 4, u32(64)),)), "key general.alignment is 64; expected 32"),
        (gguf_of((key("k", 8, text(b"\xff\xfe")),)), "a string at byte"),
        (gguf_of(rows=(tensor(), tensor())), "duplicate tensor t"),
        (gguf_of(rows=(tensor(shape=()),)), "tensor t has 0 dimensions; expected 1 to 4"),
        (gguf_of(rows=(tensor(shape=(1,) * 5),)), "tensor t has 5 dimensions; expected 1 to 4"),
        (gguf_of(rows=(tensor(type=99),)), "tensor t has ggml type 99; expected one of f32, f16"),
        (gguf_of(rows=(tensor(shape=(48, 2), type=2),)), "tensor t has rows of 48; expected a multiple of 32 for q4_0"),
        (gguf_of(rows=(tensor("a"), tensor("b", offset=0))), "tensor b lies at offset 0; expected 32"),
        (gguf_of(rows=(tensor("a"), tensor("b", offset=64))), "tensor b lies at offset 64; expected 32"),
        (gguf_of(rows=(tensor(offset=32),)), "tensor t lies at offset 32; expected 0"),
        (gguf_of(rows=(tensor(shape=(99,)),)), "truncated in tensor t: 128 bytes; expected at least 460"),
        (
            gguf_of(rows=(tensor(shape=(MUCH, MUCH, MUCH, MUCH)),)),
            "tensor t has shape ",
        ),
        (gguf_of(counts=(0, MUCH)), "damaged: its header claims 4611686018427387904 metadata entries"),
        (gguf_of(counts=(2**64 - 1, 0)), "damaged: its header claims 18446744073709551615 tensors"),
        (gguf_of((u64(MUCH),)), "truncated: 96 bytes, its header reaches beyond"),
        (gguf_of((key("k", 8, u64(2**64 - 1)),)), "truncated"),
        (gguf_of((key("k", 9, u32(0) + u64(2**64 - 1)),)), "truncated"),
        (gguf_of((key("k", 9, u32(8) + u64(2**64 - 1)),)), "damaged: key k claims 18446744073709551615 texts"),
        (gguf_of((key("k\nl", 13, b""),)), "key k\\nl has the unknown value type 13"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_that_is_no_sound_gguf_is_one_clear_error(tmp_path: Path, data: bytes, says: str) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        read_gguf(path)
    assert str(caught.value).startswith(f"{path}: {says}")
    assert len(str(caught.value).splitlines()) == 1


def test_the_hand_made_file_is_sound_but_for_what_each_row_changes(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(SOUND)
    assert read_gguf(tmp_path / "x.gguf").metadata == {"k": 1}
    [found] = ggml_tensors(tmp_path / "x.gguf").values()
    assert (found.type, found.offset, len(found.data)) == ("f32", 0, 16)


@pytest.mark.parametrize("path", ["absent.gguf", "."])
def test_a_path_without_a_file_is_named(tmp_path: Path, path: str) -> None:
    with pytest.raises(InputError, match=f"^{tmp_path / path}: (no such file|is a folder); expected a GGUF file"):
        read_gguf(tmp_path / path)


@pytest.mark.parametrize(
    "claim",
    [
        lambda n: key("k", 8, u64(n)),
        lambda n: key("k", 9, u32(0) + u64(n)),
        lambda n: key("k", 9, u32(8) + u64(1) + u64(n)),
    ],
    ids=["string", "bytes", "strings"],
)
def test_a_huge_file_that_claims_a_huge_header_is_refused_at_little_cost(
    tmp_path: Path, claim: Callable[[int], bytes]
) -> None:
    path = tmp_path / "x.gguf"
    with path.open("wb") as file:
        file.write(gguf_of((claim(2**33),)))
        file.truncate(2**34)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="damaged: its header claims"):
            read_gguf(path)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


RICH = gguf_of(
    (
        key("general.architecture", 8, text("mimo_asr")), key("a", 4, u32(3)), key("b", 6, struct.pack("<f", 1.5)),
        key("c", 9, u32(8) + u64(3) + text("x") + text("yy") + text("")), key("d", 9, u32(5) + u64(2) + u32(1) * 2),
        key("e", 7, b"\1"), key("f", 12, struct.pack("<d", 2.5)),
    ),
    (tensor("t", (256, 2), 12), tensor("u", (4, 3), 1, 288), tensor("v", (5,), 0, 320)),
    data=352,
)  # fmt: skip


@given(st.integers(0, len(RICH) - 1))
def test_a_file_cut_anywhere_is_refused_unless_only_padding_is_gone(
    tmp_path_factory: pytest.TempPathFactory, keep: int
) -> None:
    path = tmp_path_factory.mktemp("gguf") / "x.gguf"
    path.write_bytes(RICH[:keep])
    padding = 352 - 320 - 5 * 4
    if keep >= len(RICH) - padding:
        assert len(read_gguf(path).tensors) == 3
    else:
        with pytest.raises(InputError, match=r"not a GGUF file|truncated"):
            read_gguf(path)


@given(st.lists(st.tuples(st.integers(0, len(RICH) - 353), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_header_raises_nothing_else_and_allocates_little(
    tmp_path_factory: pytest.TempPathFactory, bytes_set: list[tuple[int, int]]
) -> None:
    damaged = bytearray(RICH)
    for at, value in bytes_set:
        damaged[at] = value
    path = tmp_path_factory.mktemp("gguf") / "x.gguf"
    path.write_bytes(damaged)
    tracemalloc.start()
    try:
        with suppress(InputError):
            assert all(t.begin + t.nbytes <= len(RICH) for t in read_gguf(path).tensors.values())
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
