"""What a nightly run is to do, read from a TOML file (docs/nightly.md) into frozen data, every key of it checked."""

import hashlib
import math
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timezone
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mimo_convert.checkpoint import REPO as HUB_ID
from mimo_convert.console import MAX_THREADS, default_threads
from mimo_convert.fields import CONTROL, shown
from mimo_convert.files import read_bytes
from quantize.errors import InputError
from runtime_check import bundled, repack
from runtime_check.prompt import LANGUAGE_TAGS

from .cache import may_be_kept
from .judge import METRICS, Gates

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

UNITS = {"s": 1, "min": 60, "h": 3600}
MOST_BYTES = 1_000_000  # of the file
MOST_PARTS = 32  # of a key: the parser takes time with their square, and the keys here have three
PART = r"""(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*"""
DEEP_KEY = re.compile(rf"(?<![\w-])(?:{PART}){{{MOST_PARTS}}}")
LONGEST_TIMEOUT = 10_000 * 3600  # seconds
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # of a target: it becomes a file's name


@dataclass(frozen=True)
class Target:
    """A pair of files, or an audio tokenizer's alone, and what they are compared with. Every path is absolute.

    `file` and `tokenizer` (empty: an audio tokenizer alone) are local paths, or names in `repo` at `revision`. One of
    `reference`, a stored one, and `checkpoint` is given. `timeout` is in seconds; good runs that began before
    `compare_since` (UTC in ISO 8601; empty: none) are not compared with.
    """

    name: str
    file: str
    tokenizer: str
    repo: str
    revision: str
    reference: str
    checkpoint: str
    checkpoint_tokenizer: str
    audio: Sequence[str]
    language: str
    timeout: float
    threads: int
    repack: str
    tolerance: Mapping[str, float]
    gates: Gates
    compare_since: str


@dataclass(frozen=True)
class Config:
    """All targets, in the order of the file `path`, whose content has the hash `sha256`."""

    path: Path
    sha256: str
    history: Path
    pages: Path
    cache: Path
    targets: tuple[Target, ...]

    def chosen(self, names: Sequence[str]) -> tuple[Target, ...]:
        """The targets of these names, in the file's order; all of them if none is named. Raises InputError."""
        known = [target.name for target in self.targets]
        for name in names:
            if name not in known:
                raise InputError("--target", f"{name!r} is not in {self.path}", **one_of(name, known))
        return tuple(target for target in self.targets if not names or target.name in names)


def read_config(path: Path) -> Config:
    """Read and check the file. Raises InputError for whatever is wrong with it; whether the files that it names are
    there is seen when their target is checked, so that one that is missing does not take the others along."""
    data = read_bytes(path, MOST_BYTES, expected="a TOML file")
    top = Table(path, "", parsed(path, data))
    folder = path.absolute().parent
    history, pages, cache = (
        Path(local(folder, top.take(key, TEXT, default)))
        for key, default in (("history", "history.sqlite"), ("pages", "pages"), ("cache", "cache"))
    )
    shared = Shared(
        top.take("timeout", DURATION, "45 min"),
        top.take("threads", COUNT, default_threads()),
        top.take("repack", REPACK, repack.OFF),
        {name: metric.tolerance for name, metric in METRICS.items()} | top.metrics("tolerance", TOLERANCES),
    )
    tables = top.tables("target")
    top.finish()
    targets = tuple(_target(table, folder, shared) for table in tables)
    names = [target.name for target in targets]
    for name in names:
        if names.count(name) > 1:
            raise InputError(path, f"{names.count(name)} targets are called {name!r}", expected="a name for each")
    return Config(path, hashlib.sha256(data).hexdigest(), history, pages, cache, targets)


def parsed(path: Path, data: bytes) -> dict[str, Any]:
    """The TOML in `data`. Raises InputError if it is none."""
    try:
        text = data.decode("utf-8-sig")
        if DEEP_KEY.search(text):
            raise InputError(path, f"has a key of more than {MOST_PARTS} parts", expected="a TOML file")
        return tomllib.loads(text)
    except RecursionError as error:
        raise InputError(path, "is not TOML that can be read: lists or tables are nested too deeply") from error
    except ValueError as error:  # TOMLDecodeError, UnicodeDecodeError, and that of a number of too many digits
        raise InputError(path, f"is not TOML: {error}") from error


def local(folder: Path, path: str) -> str:
    """A path as it is seen from the config's folder."""
    return os.path.join(folder, os.path.expanduser(path))


@dataclass(frozen=True)
class Shared:
    """What each target may have otherwise."""

    timeout: float
    threads: int
    repack: str
    tolerance: Mapping[str, float]


def _target(table: "Table", folder: Path, shared: Shared) -> Target:
    name = table.take("name", TARGET_NAME)
    table.name = f"[[target]] {name}"
    repo = table.take("repo", REPO, "")
    of_files = HUB_FILE if repo else TEXT
    file, tokenizer = table.take("file", of_files), table.take("tokenizer", of_files, "")
    if not repo:
        file, tokenizer = local(folder, file), tokenizer and local(folder, tokenizer)
    reference, checkpoint = table.take("reference", TEXT, ""), table.take("checkpoint", TEXT, "")
    if bool(reference) == bool(checkpoint):
        raise table.error(
            f"has {'both' if reference else 'neither'} reference {'and' if reference else 'nor'} checkpoint",
            expected="one of them: a stored reference, or what to run in PyTorch",
        )
    target = Target(
        name=name, file=file, tokenizer=tokenizer, repo=repo,
        revision=table.take("revision", TEXT, "main", only_with=("repo", repo)),
        reference=reference and local(folder, reference),
        checkpoint=_checkpoint(folder, checkpoint),
        checkpoint_tokenizer=_checkpoint(
            folder, table.take("checkpoint_tokenizer", TEXT, "", only_with=("checkpoint", checkpoint))
        ),
        audio=[local(folder, sound) for sound in table.take("audio", TEXTS, [str(bundled.JFK)])],
        language=table.take("language", LANGUAGE, ""),
        timeout=table.take("timeout", DURATION, shared.timeout),
        threads=table.take("threads", COUNT, shared.threads),
        repack=table.take("repack", REPACK, shared.repack),
        tolerance={**shared.tolerance, **table.metrics("tolerance", TOLERANCES)},
        gates=table.gates("gates"),
        compare_since=table.take("compare_since", MOMENT, ""),
    )  # fmt: skip
    table.finish()
    return target


def _checkpoint(folder: Path, source: str) -> str:
    """A folder, if it looks like one or is one; else a Hub id, or `tiny`."""
    path = local(folder, source)
    return path if source and (source.startswith((".", "/", "~")) or os.path.isdir(path)) else source


# ── what can stand at a key ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Kind:
    """What a value must be, in words, and how it is read: `read` raises ValueError or TypeError for any other."""

    expected: str
    read: Callable[[Any], Any]


def _is(kind: type | tuple[type, ...], holds: Callable[[Any], object] = lambda value: True) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if not isinstance(value, kind) or isinstance(value, bool) or not holds(value):
            raise ValueError
        return value

    return read


def _choice(choices: Sequence[str]) -> Kind:
    return Kind("one of " + ", ".join(choices), _is(str, lambda value: value in choices))


def _seconds(value: Any) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?) *(s|min|h)", value)
    seconds = float(found[1]) * UNITS[found[2]] if found else 0
    if not 0 < seconds <= LONGEST_TIMEOUT:
        raise ValueError
    return seconds


def _utc(value: Any) -> str:
    """As the history writes times, so that they compare as text."""
    if isinstance(value, datetime):
        try:
            moment = value.astimezone(timezone.utc)
        except OSError as error:  # the system's calendar does not reach so far
            raise ValueError from error
        return moment.replace(tzinfo=None).isoformat(timespec="seconds") + "Z"
    return str(_is(date)(value).isoformat())


def _texts(value: Any) -> list[str]:
    return [TEXT.read(one) for one in _is(list, bool)([value] if isinstance(value, str) else value)]


def _within(low: float, high: float) -> Kind:
    expected = "a number of at least 0" if math.isinf(high) else f"a number from {low:g} to {high:g}"
    return Kind(expected, _is((int, float), lambda value: low <= value <= high and math.isfinite(value)))


TEXT = Kind("text in quotes, without control characters", _is(str, lambda x: x.strip() and not CONTROL.search(x)))
TEXTS = Kind("text in quotes, or a list of such", _texts)
HUB_FILE = Kind(
    "a file's name in the repository, without .. and \\, and not one of the cache's own", _is(str, may_be_kept)
)
TARGET_NAME = Kind("letters, digits, . _ and -, at most 100, as in a file's name", _is(str, NAME.fullmatch))
REPO = Kind("OWNER/NAME", _is(str, lambda value: HUB_ID.fullmatch(value) and ".." not in value))
DURATION = Kind('a time such as "90 s", "45 min" or "2 h", at most 10000 h', _seconds)
COUNT = Kind(f"a whole number from 1 to {MAX_THREADS}", _is(int, lambda value: 1 <= value <= MAX_THREADS))
REPACK = _choice(repack.CHOICES)
LANGUAGE = _choice(list(LANGUAGE_TAGS))
MOMENT = Kind("a date or time without quotes, such as 2026-11-21 or 2026-11-21T03:00:00Z", _utc)
TABLE, TABLES = Kind("a table", _is(dict)), Kind("[[target]] tables, at least one", _is(list, bool))
TOLERANCES = {name: _within(0, math.inf) for name in METRICS}
GATES = {name: _within(metric.low, metric.high) for name, metric in METRICS.items()}


class Table:
    """A table of the file: each key is taken once, and `finish` finds those that nobody knows."""

    def __init__(self, path: Path, name: str, values: dict[str, Any]) -> None:
        self.path, self.name, self.values = path, name, values
        self.known: list[str] = []

    def error(self, what: str, **more: str) -> InputError:
        """An InputError that says which table of which file."""
        return InputError(f"{self.path}: {self.name}" if self.name else self.path, what, **more)

    def take(self, key: str, kind: Kind, *default: Any, only_with: tuple[str, str] | None = None) -> Any:
        """The value of a key, or `default`, read alike if it is a text; without a default the key must be there.

        `only_with` is another key, and its value without which this one means nothing.
        """
        self.known.append(key)
        if key not in self.values:
            if not default:
                raise self.error(f"has no {key}", expected=kind.expected)
            return kind.read(default[0]) if default[0] and isinstance(default[0], str) else default[0]
        if only_with and not only_with[1]:
            raise self.error(f"has {key}, and no {only_with[0]} that it belongs to")
        try:
            return kind.read(self.values[key])
        except (ValueError, TypeError, OverflowError) as error:
            raise self.error(f"{key} is {shown(self.values[key])}", expected=kind.expected) from error

    def table(self, key: str) -> "Table":
        """A table in this one, empty if it is not there."""
        return Table(self.path, f"{self.name} [{key}]".strip(), self.take(key, TABLE, {}))

    def tables(self, key: str) -> list["Table"]:
        """A list of tables in this one."""
        found = self.take(key, TABLES)
        for number, values in enumerate(found, 1):
            if not isinstance(values, dict):
                raise self.error(f"{key} {number} is {shown(values)}", expected=TABLE.expected)
        return [Table(self.path, f"[[{key}]] number {number}", values) for number, values in enumerate(found, 1)]

    def metrics(self, key: str, kinds: Mapping[str, Kind]) -> dict[str, float]:
        """A table in this one that has a number for some metrics."""
        table = self.table(key)
        found = {name: table.take(name, kind, None) for name, kind in kinds.items()}
        table.finish()
        return {name: number for name, number in found.items() if number is not None}

    def gates(self, key: str) -> dict[str, dict[str, float]]:
        """A table in this one that has, for some stages, a gate for some metrics."""
        table = self.table(key)
        for stage in table.values:
            if CONTROL.search(stage):
                raise table.error(f"has the key {shown(stage)}", expected="a stage's name")
        found = {stage: table.metrics(stage, GATES) for stage in table.values}
        for stage, metrics in found.items():
            if not metrics:
                raise table.error(f"{stage} has no gate", expected="a number for one of " + ", ".join(METRICS))
        return found

    def finish(self) -> None:
        """Raise InputError if there is a key that was not asked for."""
        for key in self.values:
            if key not in self.known:
                raise self.error(f"has the key {shown(key)}, which nobody knows", **one_of(key, self.known))


def one_of(wrong: str, known: Sequence[str]) -> dict[str, str]:
    """For an InputError: what could have been meant, or else all there is."""
    near = get_close_matches(wrong[:100], known, 1)
    return {"todo": f"did you mean {near[0]!r}?"} if near else {"expected": "one of " + ", ".join(known)}
