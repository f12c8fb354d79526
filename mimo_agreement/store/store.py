"""The store: answers by what they depend on, each written in a transaction of its own as soon as it is known.

One command has a store at a time: it is locked while it is open, so that no pair is run twice. The journal is SQLite's
own, flushed at every answer, so that a process may be killed, or the power may fail, at any moment.
"""

import json
import math
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path
from typing import Any

from mimo_agreement.records import Answer, Pair
from mimo_convert.fields import Fields, is_number, shown
from mimo_convert.files import input_errors
from mimo_convert.formats.json_file import parse_json
from mimo_convert.sqlite_file import TODO, check_file, places, plain, sqlite_errors, transaction
from quantize.errors import InputError

from .tables import ANSWER, HEARING, PAIR, WHAT, prepare

FILE = "agreement.sqlite"
WAIT = 2.0  # seconds for a command that is about to end
LONGEST_SECONDS = 1e9  # of audio
IN_USE = "is in use by another command"


@dataclass(frozen=True)
class Hearing:
    """What the stages depend on that a companion computes: its SHA-256, the clip's, the condition with its seed, and
    the settings and version of a run as far as they concern it."""

    companion: str
    clip: str
    condition: str
    seed: int
    settings: str
    version: str


@dataclass(frozen=True)
class Heard:
    """The stages that a companion computed, as bytes (run/heard.py), the seconds that took, and its memory in bytes."""

    stages: bytes
    timings: dict[str, float] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)


class Store:
    """The answers in the folder `folder`, made if it is missing; None: in memory, gone when it is closed.

    Raises InputError for a folder that cannot be written, a file in it that is something else, or a store that another
    command has open.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.path = folder / FILE if folder else None
        if folder:
            with input_errors(folder, "cannot be made", todo="choose another --store"):
                folder.mkdir(parents=True, exist_ok=True)
            check_file(folder / FILE, WHAT)
        with self._errors():
            self.connection = sqlite3.connect(self.path or ":memory:", WAIT, isolation_level=None)
        try:
            with self._errors():
                self.connection.execute("PRAGMA locking_mode = EXCLUSIVE")
                self.connection.execute("PRAGMA synchronous = FULL")
                with transaction(self.connection):  # which takes the lock, for as long as it is open
                    pass
                prepare(self._where, self.connection)
        except BaseException:
            self.connection.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, pair: Pair, answer: Answer, hearing: Hearing | None = None, heard: Heard | None = None) -> None:
        """Add an answer, with what its companion has heard, if it is new. What is there already stays as it is."""
        with self._errors(), transaction(self.connection):
            self._insert("answers", (*astuple(pair), *_row_of(answer)))
            if hearing and heard:
                of_heard = heard.stages, json.dumps(heard.timings), json.dumps(heard.memory)
                self._insert("heard", (*astuple(hearing), *of_heard))

    def _insert(self, table: str, row: tuple[Any, ...]) -> None:
        values = tuple(map(plain, row))
        self.connection.execute(f"INSERT OR IGNORE INTO {table} VALUES ({places(len(row))})", values)

    def answers(self) -> Iterator[tuple[Pair, Answer]]:
        """Every answer. Raises InputError for a row that no answer is written as."""
        with self._errors():
            for row in self.connection.execute(f"SELECT {', '.join((*PAIR, *ANSWER))} FROM answers"):
                values = dict(zip((*PAIR, *ANSWER), row, strict=True))
                pair = Pair(**{name: values[name] for name in PAIR})
                yield pair, self._answer(values)

    def heard(self, hearing: Hearing) -> Heard | None:
        """What a companion has heard; None if it has not yet."""
        where = " AND ".join(f"{name} = ?" for name in HEARING)
        query = f"SELECT stages, timings, memory FROM heard WHERE {where}"
        with self._errors():
            row = self.connection.execute(query, tuple(map(plain, astuple(hearing)))).fetchone()
        if row is None:
            return None
        values = dict(zip(("stages", "timings", "memory"), row, strict=True))
        if not isinstance(values["stages"], bytes):
            raise InputError(self._where, f"stages of {hearing.clip} are {shown(values['stages'])}", expected="bytes")
        found = Fields(self._where, values)
        return Heard(values["stages"], _numbers(found, "timings"), _numbers(found, "memory"))

    def _answer(self, values: dict[str, Any]) -> Answer:
        where = f"{self._where}: " + ", ".join(f"{name} {shown(values[name])}" for name in ("lm", "clip", "condition"))
        row = Fields(where, values)
        n, kl = row.whole("kl_tokens"), row.measured("kl")
        return Answer(
            row.text("transcript"), row.whole("tokens"), row.whole("ended", 1) == 1, row.text("loop"),
            row.number("seconds", LONGEST_SECONDS), _numbers(row, "timings"), _numbers(row, "memory"),
            math.nan if kl is None and n else kl, n,
        )  # fmt: skip

    @property
    def _where(self) -> Path:
        return self.path or Path(WHAT)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        with sqlite_errors(self._where, WHAT):
            try:
                yield
            except sqlite3.OperationalError as error:
                if "locked" not in str(error):
                    raise
                raise InputError(self._where, IN_USE, todo="wait for its end, or give another --store") from error


def _row_of(answer: Answer) -> tuple[Any, ...]:
    """An answer as a row; SQLite has no NaN, and writes NULL."""
    row = asdict(answer) | {name: json.dumps(dict(getattr(answer, name))) for name in ("timings", "memory")}
    return tuple(row[name] for name in ANSWER)


def _numbers(row: Fields, name: str) -> dict[str, Any]:
    """Numbers by name, of a column of JSON."""
    text = row.text(name)
    try:
        found = parse_json(text.encode())
    except ValueError as error:
        raise InputError(row.where, f"{name} is {shown(text)}", expected="JSON") from error
    if not isinstance(found, dict) or not all(map(is_number, found.values())):
        raise InputError(row.where, f"{name} is {shown(text)}", expected="a number for each name", todo=TODO)
    return found
