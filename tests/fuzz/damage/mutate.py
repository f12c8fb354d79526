"""Damage that knows what it damages: bytes, JSON trees and lines of text, all of it decided by a `Random`."""

import json
import random
import re
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
Random = random.Random
Edit = Callable[[Random, T], T]

INTEGERS = [
    0, -1, 1, 2, 3, 7, 127, 128, 255, 256, 1023, 65535, 65536, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32,
    (1 << 53) + 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 1 << 64, -(1 << 31), -(1 << 63), 10**30, 10**400,
]  # fmt: skip
FLOATS = [0.0, -0.0, 0.5, -1.5, 1e-45, 1e-320, 1e39, 1e308, float("nan"), float("inf"), float("-inf"), 3.0]
CONTROLS = ["\x1b[2J\x1b[31mred\x1b[0m", "\x07", "\r", "\0", "\x1b]0;title\x07", "\x9b31m", "\b" * 8, "\x7f", "\v\f"]
STRINGS = [
    *CONTROLS, "", " ", "\n", "two\nlines", "a" * 5000, "é" * 300, "\u202egnp.exe", "\u2028", "\ufeff", "../../x", "..",
    "/dev/null", "/etc/passwd", "%s%n%d", "{0.__class__}", "{{ 7 * 7 }}", "<script>alert(1)</script>", "]]>", "&", "|",
    "`id`", "$(id)", "-", "--json", "tiny", "nan", "NaN", "1e999", "null", "0", "-1", "q4_k", "f32", "\ud800", "\udc80",
    "😀" * 40, "x" * 100_000, "someone/model", "someone/model@main", "None", "true", "'", '"', "\\", "con.gguf",
]  # fmt: skip
RULES = [
    "(.+)+!=q4_k", "(a*)*b=q8_0", "(?=x)=q4_k", r"(.)\1=f16", "[=q4_k", "=q4_k", "x=", "x=q9_z",
    "(" * 500 + ")" * 500 + "=f16",
    "a{1000}{1000}=f16", "(?P<n>x)(?P=n)=f16", "x" * 20_000 + "=f16", ".*=f32", ".=q4_k", r"\Z=f16", "(?i)FFN=q8_0",
    "#=q4_k", "\x1b[2J=q4_k", "(?<!x)y=q8_0", "x{,99999999999}=f16", r"\p{L}=f16", "(?s:.)=q4_0", "|=q4_k",
    "[[:alpha:]]=f16",
]  # fmt: skip


def hostile_string(choose: Random) -> str:
    if choose.random() < 0.9:
        return choose.choice(STRINGS)
    return "".join(chr(choose.randrange(1, 0x300)) for _ in range(choose.randrange(1, 40)))


def hostile_integer(choose: Random) -> int:
    return choose.choice(INTEGERS) if choose.random() < 0.8 else choose.randrange(-10, 5000)


# ── bytes ────────────────────────────────────────────────────────────────────────────────────────────────────────


def edit_bytes(choose: Random, data: bytes) -> bytes:
    """Flip, overwrite, cut, insert, double or move some bytes, near the beginning more often than elsewhere."""
    n = len(data)
    at = min(n, int(n * choose.random() ** choose.choice([1, 3, 6])))
    size = choose.choice([1, 2, 4, 8, 64])
    number = (hostile_integer(choose) & ((1 << 64) - 1)).to_bytes(8, choose.choice(["little", "big"]))[:size]
    what = choose.randrange(8)
    if what == 0 and at < n:
        return data[:at] + bytes([data[at] ^ 1 << choose.randrange(8)]) + data[at + 1 :]
    if what == 1:
        return data[:at] + number + data[at + len(number) :]
    if what == 2:
        return data[:at]
    if what == 3:
        return data[:at] + data[at + size :]
    if what == 4:
        return data[:at] + choose.randbytes(size) + data[at:]
    if what == 5:
        return data[:at] + data[at : at + size] * choose.choice([2, 3, 50]) + data[at + size :]
    if what == 6:
        other = choose.randrange(n + 1)
        return data[:at] + data[other : other + size] + data[at + size :]
    return data + choose.choice([b"\0", b"\n", b"\xff", choose.randbytes(16), b"\0" * 4096])


# ── JSON ─────────────────────────────────────────────────────────────────────────────────────────────────────────

MARK = "\ue000"


def raw(text: str) -> str:
    """A string that `dump` writes as this very text, which need not be JSON."""
    return f"{MARK}{text}{MARK}"


def dump(choose: Random, tree: Any, hazards: bool = True) -> bytes:
    """JSON text of a tree: with escapes or without, with a BOM or what is not UTF-8 now and then."""
    ascii_only = choose.random() < 0.5
    text = json.dumps(tree, ensure_ascii=ascii_only)
    if MARK in text or "\\ue000" in text:
        text = re.sub(
            r'"(?:\ue000|\\ue000)((?:[^"\\]|\\.)*?)(?:\ue000|\\ue000)"',
            lambda found: json.loads(f'"{found[1]}"'),
            text,
            flags=re.S,
        )
    data = text.encode("utf-8", "surrogatepass")
    if hazards and choose.random() < 0.02:
        data = choose.choice([b"\xef\xbb\xbf" + data, text.encode("utf-16", "surrogatepass"), data + b"\xff", data * 2])
    return data


def hostile_json(choose: Random) -> Any:
    """A value of any type."""
    what = choose.randrange(12)
    if what < 3:
        return hostile_integer(choose)
    if what < 5:
        return choose.choice(FLOATS)
    if what < 8:
        return hostile_string(choose)
    if what == 8:
        return choose.choice([None, True, False, [], {}, [[]], [None], {"": None}])
    if what == 9:
        depth = choose.choice([50, 50, 900, 1100, 100_000])
        return raw(choose.choice(["[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth]))
    if what == 10:
        return raw(
            choose.choice(["9" * 5000, "1e999", "-1e999", "-0", "1" + "0" * 400, "0.1e-400", '"\\ud800"', "NaN"])
        )
    return raw(
        "[" + ",".join([choose.choice(["0", '""', "18446744073709551615"])] * choose.choice([300, 300, 50_000])) + "]"
    )


def edit_json(choose: Random, tree: Any, whole: float = 0.03) -> Any:
    """Change one node of a tree, all of it with the chance `whole`; what is beside the way to it is shared with it."""
    if isinstance(tree, (dict, list)) and tree and choose.random() >= whole:
        key = choose.choice(list(tree)) if isinstance(tree, dict) else choose.randrange(len(tree))
        copy: Any = dict(tree) if isinstance(tree, dict) else list(tree)
        if isinstance(tree[key], (dict, list)) or choose.random() < 0.5:
            copy[key] = edit_json(choose, tree[key], 0.15)
            return copy
        return edit_container(choose, copy, key)
    return near(choose, tree) if choose.random() < 0.4 else hostile_json(choose)


def edit_container(choose: Random, copy: Any, key: Any) -> Any:
    """Drop, double, rename, reorder or extend the members of an object or array, which may be changed."""
    what = choose.randrange(6)
    value = copy[key]
    if what == 0:
        del copy[key]
    elif isinstance(copy, dict):
        if what == 1:
            copy[hostile_string(choose)] = copy.pop(key)
        elif what == 2:
            copy[raw(f"{json.dumps(key)}: {json.dumps(choose.choice([None, 0, 'x']))}, {json.dumps(key)}")] = value
        elif what == 3:
            copy[key] = copy[choose.choice(list(copy))]
        elif what == 4:
            copy[hostile_string(choose)] = hostile_json(choose)
        else:
            copy = dict(choose.sample(list(copy.items()), len(copy)))
    elif what == 1:
        copy.insert(key, value)
    elif what == 2:
        choose.shuffle(copy)
    elif what == 3:
        copy[key] = hostile_json(choose)
    elif what == 4:
        copy.extend(copy[:1000] * choose.choice([1, 2, 20]))
    else:
        del copy[key:]
    return copy


def near(choose: Random, value: Any) -> Any:
    """A value of the same type, or of one that looks like it."""
    if isinstance(value, bool):
        return choose.choice([not value, int(value), str(value)])
    if isinstance(value, int):
        return choose.choice(
            [value + 1, value - 1, -value, 2 * value, f"{value}", raw(f"{value}.0"), raw(f"{value}.5"), [value]]
        )
    if isinstance(value, float):
        return choose.choice(
            [-value, value * 1e10, int(value) if abs(value) < 1e300 and value == value else 0, str(value)]
        )
    if isinstance(value, str):
        return choose.choice(
            [value + choose.choice(STRINGS[:40]), value[:-1], value.upper(), [value], value * 2, f" {value}", value[1:]]
        )
    return choose.choice([None, [], {}, [value], {"": value}])


# ── lines of text ────────────────────────────────────────────────────────────────────────────────────────────────


def edit_lines(choose: Random, data: bytes) -> bytes:
    """Drop, double, swap, join or change lines; or damage the bytes as such."""
    lines = data.split(b"\n")
    i, j = choose.randrange(len(lines)), choose.randrange(len(lines))
    what = choose.randrange(8)
    if what == 0:
        del lines[i]
    elif what == 1:
        lines[i:i] = [lines[i]] * choose.choice([1, 1, 2000])
    elif what == 2:
        lines[i], lines[j] = lines[j], lines[i]
    elif what == 3:
        lines.insert(i, hostile_string(choose).encode("utf-8", "surrogatepass"))
    elif what == 4:
        lines[i] = edit_bytes(choose, lines[i])
    elif what == 5:
        at = choose.randrange(len(lines[i]) + 1)
        lines[i] = lines[i][:at] + hostile_string(choose).encode("utf-8", "surrogatepass") + lines[i][at:]
    elif what == 6:
        return choose.choice(
            [b"\xef\xbb\xbf" + data, data.replace(b"\n", b"\r\n"), data.decode("latin-1").encode("utf-16")]
        )
    else:
        return edit_bytes(choose, data)
    return b"\n".join(lines)
