"""Safetensors, TOML, SQLite and sound files: how each is taken apart, changed in one place, and put together again."""

import json
import sqlite3
import struct
import sys
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.fuzz.damage.mutate import (
    FLOATS,
    MARK,
    Random,
    dump,
    edit_bytes,
    edit_json,
    hostile_integer,
    hostile_json,
    hostile_string,
    near,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# ── safetensors ──────────────────────────────────────────────────────────────────────────────────────────────────

DTYPES = [
    "F64",
    "F32",
    "F16",
    "BF16",
    "F8_E4M3",
    "F8_E5M2",
    "I64",
    "I32",
    "I8",
    "U8",
    "BOOL",
    "F4",
    "bf16",
    "",
    None,
    7,
]


@dataclass(frozen=True)
class Shard:
    """A safetensors file: the header's object, the bytes behind it; `length` where the header's is not to be said."""

    header: Any
    data: bytes
    length: int | None = None


def parse_shard(file: bytes) -> Shard:
    (length,) = struct.unpack_from("<Q", file)
    return Shard(json.loads(file[8 : 8 + length]), file[8 + length :])


def build_shard(choose: Random, shard: Shard) -> bytes:
    header = dump(choose, shard.header)
    length = len(header) if shard.length is None else shard.length
    return struct.pack("<Q", length & (1 << 64) - 1) + header + shard.data


def edit_shard(choose: Random, shard: Shard) -> Shard:
    """Change a tensor's entry so that the rest still fits, any node of the header, the weights, or the length."""
    what = choose.randrange(10)
    if what < 5 and isinstance(shard.header, dict) and shard.header:
        return edit_tensor(choose, shard)
    if what < 7:
        return replace(shard, header=edit_json(choose, shard.header))
    if what < 9:
        return replace(shard, data=edit_data(choose, shard.data))
    if choose.random() < 0.3:
        return replace(shard, length=choose.choice([0, 1, 7, 1 << 20, 100_000_001, 1 << 40, 1 << 63, (1 << 64) - 1]))
    return replace(
        shard, header={**as_dict(shard.header), "__metadata__": choose.choice([hostile_json(choose), {"a": "b"}])}
    )


def as_dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def edit_data(choose: Random, data: bytes) -> bytes:
    """Weights that are no numbers, or infinite, or beyond F16; or bytes too many or too few."""
    if choose.random() < 0.6 and data:
        at = choose.randrange(len(data)) & ~3
        patch = choose.choice(
            [b"\x80\x7f", b"\xc0\x7f", b"\x80\xff", b"\x00\x7c", b"\xff\x7f", b"\x7f\x7f", b"\x00\x48"]
        )
        return data[:at] + patch + data[at + 2 :]
    return edit_bytes(choose, data)


def edit_tensor(choose: Random, shard: Shard) -> Shard:
    header = dict(shard.header)
    name, other = choose.choice(list(header)), choose.choice(list(header))
    entry = header[name]
    if not isinstance(entry, dict) or not isinstance(entry.get("shape"), (list, tuple)):
        return replace(shard, header=edit_json(choose, header))
    shape = list(entry["shape"])
    what = choose.randrange(10)
    if what == 0:
        header[name] = {**entry, "dtype": choose.choice(DTYPES)}
    elif what == 1:
        header[name] = {**entry, "dtype": {"BF16": "F16", "F16": "BF16"}.get(str(entry.get("dtype")), "I32")}
    elif what == 2:
        choices = [
            shape[::-1],
            [1, *shape],
            [*shape, 1],
            [0, *shape],
            shape[:-1],
            [hostile_integer(choose), *shape[1:]],
            [2] * 70,
        ]
        header[name] = {**entry, "shape": choose.choice(choices)}
    elif what == 3:  # as many numbers as there can be, whose product is a number of a million digits
        header[name] = {**entry, "shape": [choose.choice([1, 0, (1 << 63) - 1, 10**18])] * choose.choice([100, 30_000])}
    elif what == 4:
        header[name], header[other] = header[other], header[name]
    elif what == 5:
        header[choose.choice([hostile_string(choose), name + "x"])] = header.pop(name)
    elif what == 6:
        del header[name]
    elif what == 7:
        header = dict(choose.sample(list(header.items()), len(header)))
    elif what == 8:
        header[name] = {
            **entry,
            "data_offsets": [hostile_integer(choose), choose.choice([hostile_integer(choose), None])],
        }
    else:
        header[hostile_string(choose)] = {"dtype": "F32", "shape": [0], "data_offsets": [len(shard.data)] * 2}
    return replace(shard, header=header)


def shard_is_past_header(file: bytes) -> bool:
    """The length is within the file, and what it spans is a JSON object."""
    if len(file) < 8 or (length := struct.unpack_from("<Q", file)[0]) > len(file) - 8:
        return False
    return json_is_object(file[8 : 8 + length])


def json_is_object(data: bytes) -> bool:
    with suppress(ValueError, RecursionError):
        return isinstance(json.loads(data.decode("utf-8")), dict)
    return False


# ── TOML ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def toml(tree: Any) -> str:
    """A tree of the config as TOML: JSON's texts, numbers and lists are TOML's; `raw` texts stand as they are."""
    if not isinstance(tree, dict):
        return f"x = {toml_value(tree)}\n"
    lines = [f"{toml_key(key)} = {toml_value(value)}" for key, value in tree.items() if not is_tables(value)]
    for key, value in tree.items():
        if is_tables(value):
            for table in value:
                lines += [f"[[{toml_key(key)}]]", *(f"{toml_key(k)} = {toml_value(v)}" for k, v in table.items())]
    return "\n".join(lines) + "\n"


def is_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def toml_key(key: str) -> str:
    return key if key.isidentifier() and key.isascii() else json.dumps(key.strip(MARK))


def toml_value(value: Any) -> str:
    if isinstance(value, str):
        return value[1:-1] if value.startswith(MARK) else json.dumps(value)
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{toml_key(k)} = {toml_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    if isinstance(value, float) and not abs(value) < float("inf"):
        return str(value)
    return '""' if value is None else json.dumps(value)


def toml_is_past_header(data: bytes) -> bool:
    """It is TOML."""
    with suppress(tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError, ValueError):
        return bool(tomllib.loads(data.decode("utf-8-sig")))
    return False


# ── SQLite ───────────────────────────────────────────────────────────────────────────────────────────────────────

HARM = [
    "DROP TABLE stages", "DROP TABLE targets", "DROP TABLE runs", "ALTER TABLE targets RENAME COLUMN state TO status",
    "ALTER TABLE targets ADD COLUMN more TEXT", "DELETE FROM targets", "DELETE FROM stages", "PRAGMA user_version = 0",
    "PRAGMA user_version = 2", "PRAGMA user_version = -1", "DELETE FROM runs",
    "DROP TABLE runs; CREATE VIEW runs AS SELECT 1",
    "CREATE TRIGGER t AFTER INSERT ON targets BEGIN DELETE FROM runs; END",
    "DROP TABLE targets; CREATE VIEW targets AS WITH RECURSIVE n(run) AS (SELECT 1 UNION ALL SELECT run + 1 FROM n) "
    "SELECT run, 'a' AS target, '' AS started, 1.0 AS seconds, 'passed' AS state, 'whole' AS scope, '[]' AS problems, "
    "'[]' AS files, '{}' AS versions, '' AS report FROM n",
    "UPDATE targets SET run = run + 1000000", "UPDATE runs SET run = -run", "PRAGMA journal_mode = WAL", "VACUUM",
    "PRAGMA encoding = 'UTF-16'", "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = 'x' WHERE name = 'runs'",
]  # fmt: skip
JSON_COLUMNS = ("problems", "files", "versions")


def edit_history(choose: Random, path: Path) -> None:
    """Change one value of one row, or of all rows, by SQL; or a table; or the pages as bytes."""
    what = choose.randrange(10)
    if what == 0:
        path.write_bytes(edit_bytes(choose, path.read_bytes()))
        return
    with suppress(sqlite3.Error, OverflowError, UnicodeEncodeError), closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        if what == 1:
            connection.executescript(choose.choice(HARM))
            return
        table = choose.choice(["runs", "targets", "targets", "targets", "stages", "stages", "notifications"])
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        if not columns:  # the table is gone
            return
        column = choose.choice(columns)
        [row] = connection.execute(
            f"SELECT rowid, {column} FROM {table} LIMIT 1 OFFSET ?", (choose.randrange(4),)
        ).fetchall() or [(1, "")]
        where = "" if choose.random() < 0.3 else f" WHERE rowid = {row[0]}"
        connection.execute(f"UPDATE OR IGNORE {table} SET {column} = ?{where}", (sql_value(choose, column, row[1]),))
        connection.commit()


def sql_value(choose: Random, column: str, before: Any) -> Any:
    """A value that SQLite can hold: number, text, bytes, nothing; in a column of JSON, mostly JSON."""
    if column in JSON_COLUMNS and choose.random() < 0.8:
        return dump(choose, edit_json(choose, json_or(before, hostile_json(choose)))).decode("utf-8", "replace")
    what = choose.randrange(6)
    if what == 0:
        return max(-(1 << 63), min((1 << 63) - 1, hostile_integer(choose)))
    if what == 1:
        return choose.choice(FLOATS)
    if what == 2:
        return choose.choice([None, b"\xff\0", b"", b"x" * 5000])
    if what == 3 and isinstance(before, str):
        return f"{near(choose, before)}"
    return hostile_string(choose).encode("utf-8", "replace").decode()


def json_or(text: Any, otherwise: Any) -> Any:
    """The value that a text is the JSON of; of anything else, such as a value that was changed before, `otherwise`."""
    with suppress(ValueError, TypeError, RecursionError):
        return json.loads(text)
    return otherwise


def history_is_past_header(path: Path) -> bool:
    """SQLite opens it and finds its tables."""
    with (
        suppress(sqlite3.Error, UnicodeDecodeError),
        closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection,
    ):
        return bool(connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
    return False


# ── sounds ───────────────────────────────────────────────────────────────────────────────────────────────────────


def edit_sound(choose: Random, data: bytes) -> bytes:
    """Change a field of a WAV's chunks; of any other format, bytes, mostly of its beginning."""
    if data[:4] == b"RIFF" and choose.random() < 0.8:
        return edit_riff(choose, data)
    if choose.random() < 0.6:
        head = min(len(data), choose.choice([16, 64, 512]))
        return edit_bytes(choose, data[:head]) + data[head:]
    return edit_bytes(choose, data)


def edit_riff(choose: Random, data: bytes) -> bytes:
    chunks, at = [], 12
    while at + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        chunks.append([name, size, data[at + 8 : at + 8 + size]])
        at += 8 + size + size % 2
    if not chunks:
        return edit_bytes(choose, data)
    chunk = choose.choice(chunks)
    what = choose.choice([0, 1, 2, 3, 4, 5, 6, 6, 7, 7, 7])
    form = next((one for one in chunks if one[0] == b"fmt "), chunk)
    if what < 3:  # tag, channels, rate, bytes a second, bytes a frame, bits
        at = choose.choice([0, 2, 4, 8, 12, 14])
        size = 4 if at in (4, 8) else 2
        number = choose.choice([0, 1, 2, 3, 6, 7, 17, 49, 85, 0xFFFE, hostile_integer(choose), 8000, 24, 32, 64])
        form[2] = form[2][:at] + (number & (1 << 8 * size) - 1).to_bytes(size, "little") + form[2][at + size :]
    elif what == 3:
        chunk[1] = hostile_integer(choose) & 0xFFFFFFFF
    elif what == 4:
        chunks.insert(
            choose.randrange(len(chunks) + 1),
            [choose.choice([b"LIST", b"fmt ", b"data", b"\0\0\0\0", b"bext"]), 4, b"abcd"],
        )
    elif what == 5:
        chunks.remove(chunk)
    elif what == 6:
        bits = choose.choice([b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\xff\xff\x7f\x7f", b"\0\x24\x74\x49"])
        chunk[2] = bits * (len(chunk[2]) // 4)
        form[2] = b"\3\0" + form[2][2:14] + b"\x20\0" + form[2][16:]
    else:
        chunk[2] = edit_bytes(choose, chunk[2])
        chunk[1] = len(chunk[2])
    body = b"".join(
        struct.pack("<4sI", name, size) + content + b"\0" * (len(content) % 2) for name, size, content in chunks
    )
    size = len(body) + 4 if choose.random() < 0.9 else hostile_integer(choose) & 0xFFFFFFFF
    return struct.pack("<4sI4s", data[:4], size, data[8:12]) + body


FIRST_BYTES = {
    b"RIFF": b"WAVEfmt ", b"fLaC": b"\0\0\0\x22", b"OggS": b"\x01vorbis", b"FORM": b"AIF", b".snd": b"",
    b"riff": b"wave", b"caff": b"desc", b"Crea": b"tive Voice File\x1a",
}  # fmt: skip


def sound_is_past_header(data: bytes) -> bool:
    """A format's first bytes, and what must follow in its first header; of MP3, which has none, the mark of a frame."""
    if data[:2] in (b"\xff\xfb", b"\xff\xf3", b"\xff\xf2") or data[:3] == b"ID3":
        return True
    return data[:4] in FIRST_BYTES and FIRST_BYTES[data[:4]] in data[4:64]
