"""GGUF files taken apart, changed in one place, and put together again so that the rest still fits.

Written from ggml/docs/gguf.md, without a look at the code that is fuzzed.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from tests.fuzz.damage.mutate import FLOATS, RULES, Random, edit_bytes, hostile_integer, hostile_string

ALIGNMENT = 32
U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
CODES = {
    U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "B", U64: "Q", I64: "q", F64: "d"
}  # fmt: skip


@dataclass(frozen=True)
class Array:
    """An array: `values` as bytes objects (strings), or packed numbers in one; `length` is what it says of itself."""

    element: int
    values: Any
    length: int


class Raw(bytes):
    """A value's bytes as they are to stand in the file, whatever its type says."""


@dataclass(frozen=True)
class Entry:
    key: bytes
    type: int
    value: Any


@dataclass(frozen=True)
class Row:
    """A tensor; `offset` None: where it lies."""

    name: bytes
    dims: tuple[int, ...]
    type: int
    data: bytes
    offset: int | None = None
    n_dims: int | None = None


@dataclass(frozen=True)
class File:
    """The counts are those of the lists, unless they are given."""

    entries: list[Entry]
    rows: list[Row]
    version: int = 3
    n_entries: int | None = None
    n_rows: int | None = None
    tail: bytes = b""
    magic: bytes = b"GGUF"


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────


class _Cursor:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, n: int) -> bytes:
        self.at += n
        return self.data[self.at - n : self.at]

    def number(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))[0]

    def string(self) -> bytes:
        return self.take(self.number("Q"))

    def value(self, type: int) -> Any:
        if type == STRING:
            return self.string()
        if type != ARRAY:
            return self.number(CODES[type])
        element, length = self.number("I"), self.number("Q")
        if element == STRING:
            return Array(element, [self.string() for _ in range(length)], length)
        return Array(element, self.take(length * struct.calcsize(CODES[element])), length)


def parse(data: bytes) -> File:
    """A file that is as it should be."""
    cursor = _Cursor(data)
    assert cursor.take(4) == b"GGUF"
    version, n_rows, n_entries = cursor.number("I"), cursor.number("Q"), cursor.number("Q")
    entries = []
    for _ in range(n_entries):
        key, type = cursor.string(), cursor.number("I")
        entries.append(Entry(key, type, cursor.value(type)))
    heads = []
    for _ in range(n_rows):
        name, n_dims = cursor.string(), cursor.number("I")
        dims = tuple(cursor.number("Q") for _ in range(n_dims))
        heads.append((name, dims, cursor.number("I"), cursor.number("Q")))
    begin = cursor.at + -cursor.at % ALIGNMENT
    ends = [begin + offset for *_, offset in heads[1:]] + [len(data)]
    rows = [
        Row(name, dims, type, data[begin + offset : end])
        for (name, dims, type, offset), end in zip(heads, ends, strict=True)
    ]
    return File(entries, rows, version)


# ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def _number(type: int, value: Any) -> bytes:
    code = CODES[type]
    if code in "fd":
        with_limits = (
            max(min(value, 3e38), -3e38) if code == "f" and value == value and abs(value) != float("inf") else value
        )
        return struct.pack(f"<{code}", with_limits)
    size = struct.calcsize(code)
    return (int(value) & ((1 << 8 * size) - 1)).to_bytes(size, "little")


def _value(type: int, value: Any) -> bytes:
    if isinstance(value, Raw):
        return value
    if type == STRING:
        return _string(value)
    if type == ARRAY:
        packed = b"".join(map(_string, value.values)) if isinstance(value.values, list) else value.values
        return struct.pack("<IQ", value.element, value.length & (1 << 64) - 1) + packed
    return _number(type, value) if type in CODES else b"\0" * 4


def build(file: File) -> bytes:
    """The bytes of the file."""
    counts = (
        len(file.rows) if file.n_rows is None else file.n_rows,
        len(file.entries) if file.n_entries is None else file.n_entries,
    )
    parts = [file.magic, struct.pack("<IQQ", file.version, *(n & (1 << 64) - 1 for n in counts))]
    for entry in file.entries:
        parts += [_string(entry.key), struct.pack("<I", entry.type), _value(entry.type, entry.value)]
    place, data = 0, []
    for row in file.rows:
        offset = place if row.offset is None else row.offset
        n_dims = len(row.dims) if row.n_dims is None else row.n_dims
        dims = b"".join((n & (1 << 64) - 1).to_bytes(8, "little") for n in row.dims)
        parts += [_string(row.name), struct.pack("<I", n_dims), dims, struct.pack("<IQ", row.type, offset)]
        data.append(row.data + b"\0" * (-len(row.data) % ALIGNMENT))
        place += len(data[-1])
    header = b"".join(parts)
    return header + b"\0" * (-len(header) % ALIGNMENT) + b"".join(data) + file.tail


# ── changes ──────────────────────────────────────────────────────────────────────────────────────────────────────


def edit_file(choose: Random, file: File) -> File:
    """Change one field of a file."""
    edits: list[Callable[[Random, File], File]] = [edit_entry] * 5 + [edit_row] * 3 + [edit_weights] * 3 + [edit_frame]
    return choose.choice(edits)(choose, file)


def edit_frame(choose: Random, file: File) -> File:
    """A count, the version, the end."""
    what = choose.randrange(5)
    if what == 0:
        return replace(file, n_entries=len(file.entries) + choose.choice([-1, 1, 1000, 1 << 40, 1 << 63]))
    if what == 1:
        return replace(file, n_rows=len(file.rows) + choose.choice([-1, 1, 1000, 1 << 40, 1 << 63]))
    if what == 2:
        return replace(file, version=choose.choice([0, 1, 2, 4, 3 << 24, (1 << 32) - 1]))
    if what == 3:
        return replace(file, tail=choose.choice([b"\0", b"\0" * 32, b"x" * 4096]))
    return replace(file, magic=choose.choice([b"gguf", b"GGML", b"FUGG"]))


def edit_entry(choose: Random, file: File) -> File:
    """A metadata entry: its value, type or key; or it is dropped, doubled, added."""
    entries = list(file.entries)
    i = choose.randrange(len(entries))
    entry = entries[i]
    what = choose.randrange(12)
    if what < 6:
        entries[i] = replace(entry, value=edit_value(choose, entry))
    elif what == 6:
        entries[i] = as_other_type(choose, entry)
    elif what == 7:
        del entries[i]
    elif what == 8:
        entries.insert(choose.randrange(len(entries)), entry)
    elif what == 9:
        key = choose.choice([_text(choose), entry.key + b"x", choose.choice(entries).key])
        entries[i] = replace(entry, key=key)
    elif what == 10:
        entries[i] = replace(entry, type=choose.randrange(16), value=Raw(_value(entry.type, entry.value)))
    else:
        key = choose.choice([b"general.alignment", b"mimo_convert.recipe", b"general.license", b"x.y", _text(choose)])
        entries.append(as_other_type(choose, Entry(key, U32, 32)))
    return replace(file, entries=entries)


def _text(choose: Random) -> bytes:
    data = hostile_string(choose).encode("utf-8", "surrogatepass")
    return data if choose.random() < 0.9 else data + b"\xff\xfe"


def edit_value(choose: Random, entry: Entry) -> Any:
    """Another value of the same type."""
    if isinstance(entry.value, Raw):
        return Raw(edit_bytes(choose, entry.value))
    if entry.type == STRING:
        if b"recipe" in entry.key and choose.random() < 0.7:
            return "\n".join(choose.choices(RULES, k=choose.choice([1, 1, 3]))).encode("utf-8", "surrogatepass")
        return choose.choice([_text(choose), entry.value + _text(choose), edit_bytes(choose, entry.value)])
    if entry.type == ARRAY:
        return edit_array(choose, entry.value)
    if entry.type in (F32, F64):
        return choose.choice(FLOATS)
    return choose.choice([hostile_integer(choose), entry.value + 1, entry.value - 1, entry.value * 2, entry.value // 2])


def edit_array(choose: Random, array: Array) -> Array:
    """An element, the length, the elements' type."""
    what = choose.randrange(6)
    if what == 0:
        return replace(array, length=choose.choice([0, array.length + 1, max(0, array.length - 1), 1 << 40, 1 << 63]))
    if what == 1:
        return Array(array.element, array.values[:0], 0)
    if isinstance(array.values, bytes):
        if array.element not in CODES:
            return replace(array, values=edit_bytes(choose, array.values))
        size = struct.calcsize(CODES[array.element])
        if what == 2:
            return replace(array, element=choose.randrange(14))
        if what == 3:
            values = array.values[:-size]
        elif what == 4:
            values = array.values * choose.choice([2, 100])
        else:
            at = size * choose.randrange(max(1, array.length))
            number = _number(
                array.element, choose.choice(FLOATS if array.element in (F32, F64) else [hostile_integer(choose)])
            )
            values = array.values[:at] + number + array.values[at + size :]
        return Array(array.element, values, len(values) // size)
    values = list(array.values)
    i = choose.randrange(len(values)) if values else 0
    if what == 2:
        values.insert(i, choose.choice(values) if values else b"")
    elif what == 3 and values:
        del values[i]
    elif what == 4:
        choose.shuffle(values)
    elif values:
        values[i] = choose.choice([_text(choose), values[i] + b" x", b"", choose.choice(values)])
    return Array(STRING, values, len(values))


def as_other_type(choose: Random, entry: Entry) -> Entry:
    """The entry with a value of another type, whole."""
    type = choose.choice([*CODES, STRING, ARRAY, ARRAY])
    if type == STRING:
        return replace(entry, type=type, value=choose.choice([_text(choose), b"32", b"1.5"]))
    if type == ARRAY:
        n = choose.choice([0, 1, 3, 1000])
        element = choose.choice([*CODES, STRING, ARRAY])
        strings = [_text(choose) for _ in range(n if n < 10 else 0)]
        if element in (STRING, ARRAY):
            return replace(entry, type=type, value=Array(element, strings, len(strings)))
        return replace(entry, type=type, value=Array(element, b"\1" * n * struct.calcsize(CODES[element]), n))
    value = choose.choice(FLOATS) if type in (F32, F64) else hostile_integer(choose)
    return replace(entry, type=type, value=value)


def edit_row(choose: Random, file: File) -> File:
    """A tensor's row in the header, or the tensor as a whole."""
    rows = list(file.rows)
    i, j = choose.randrange(len(rows)), choose.randrange(len(rows))
    row = rows[i]
    what = choose.randrange(11)
    if what == 0:
        rows[i] = replace(row, name=choose.choice([_text(choose), row.name + b"x", rows[j].name, b"x" * 64]))
    elif what == 1:
        dims = list(row.dims)
        dims[choose.randrange(len(dims))] = hostile_integer(choose)
        rows[i] = replace(row, dims=tuple(dims))
    elif what == 2:
        rows[i] = replace(row, dims=choose.choice([row.dims[::-1], (*row.dims, 1), (1, *row.dims), row.dims[:1], ()]))
    elif what == 3:
        rows[i] = replace(row, n_dims=choose.choice([0, 1, 3, 4, 5, 8, 1 << 31]))
    elif what == 4:
        rows[i] = replace(row, type=choose.choice([*range(42), (1 << 32) - 1]))
    elif what == 5:
        offset = choose.choice([0, 1, 31, 32, 1 << 40, 1 << 63, (1 << 64) - 32, hostile_integer(choose)])
        rows[i] = replace(row, offset=offset & (1 << 64) - 1)
    elif what == 6:
        del rows[i]
    elif what == 7:
        rows.insert(j, row)
    elif what == 8:
        rows[i], rows[j] = rows[j], rows[i]
    elif what == 9:  # the shape and the bytes fit together; nothing else does
        n = choose.choice([0, 1, 2, 32, 256])
        rows[i] = replace(row, dims=(n,), type=0, data=b"\0" * 4 * n)
    else:
        rows[i] = replace(row, data=rows[j].data)
    return replace(file, rows=rows)


HALVES = [
    b"\x00\x7c",
    b"\x00\xfc",
    b"\x01\x7e",
    b"\xff\x7b",
    b"\x00\x00",
    b"\x00\x80",
    b"\x01\x00",
]  # inf, nan, large, 0
FLOAT_BYTES = [struct.pack("<f", x) for x in (float("inf"), float("nan"), 3e38, -3e38, 0.0, 1e-40)]


def edit_weights(choose: Random, file: File) -> File:
    """The weights of a tensor: bits, scales that are infinite or no numbers, bytes that are all alike."""
    rows = list(file.rows)
    i = choose.randrange(len(rows))
    data = rows[i].data
    what = choose.randrange(6)
    at = choose.randrange(max(1, len(data)))
    if what == 0:
        data = data[:at] + bytes([data[at] ^ 1 << choose.randrange(8)]) + data[at + 1 :] if data else data
    elif what in (1, 2):
        patch = choose.choice(HALVES if what == 1 else FLOAT_BYTES)
        at -= at % choose.choice([2, 4, 18, 34, 144])
        data = data[:at] + patch + data[at + len(patch) :]
    elif what == 3:
        data = choose.choice([b"\0", b"\xff", b"\x7f", b"\x7c"]) * len(data)
    elif what == 4:
        data = choose.randbytes(len(data))
    else:
        data = data[: choose.randrange(len(data) + 1)]
    rows[i] = replace(rows[i], data=data)
    return replace(file, rows=rows)


def is_past_header(data: bytes) -> bool:
    """Magic and version are right, and the counts are such that the file could hold so many entries and tensors."""
    if len(data) < 24 or data[:4] != b"GGUF":
        return False
    version, n_rows, n_entries = struct.unpack_from("<IQQ", data, 4)
    return version == 3 and 24 + n_entries * 13 + n_rows * 32 <= len(data)
